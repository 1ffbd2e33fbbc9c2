"""Reading the two things the builder needs from ELF files: needed libraries, and a kernel module's description."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SHT_DYNAMIC = 6
DT_NEEDED = 1


@dataclass(frozen=True)
class Section:
    """One section of an ELF file: where its bytes lie and which section it refers to."""

    name_offset: int
    kind: int
    offset: int
    size: int
    link: int


def is_elf(data: bytes) -> bool:
    """True for a 64-bit little-endian ELF file, the only sort in an amd64 package."""
    return data[:6] == b"\x7fELF\x02\x01"


def _sections(data: bytes) -> list[Section]:
    # ELF-64 header and section header layout: System V ABI, "ELF-64 Object File Format" 1.5.
    table, size, count = struct.unpack_from("<Q", data, 0x28)[0], *struct.unpack_from("<HH", data, 0x3A)
    found = []
    for number in range(count):
        name, kind, _flags, _address, offset, length, link = struct.unpack_from("<IIQQQQI", data, table + number * size)
        found.append(Section(name, kind, offset, length, link))
    return found


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("latin-1")


def needed(data: bytes) -> list[str]:
    """The shared libraries (DT_NEEDED) that this program or library asks the loader for; [] when it is no ELF file."""
    if not is_elf(data):
        return []
    sections = _sections(data)
    names = []
    for section in sections:
        if section.kind != SHT_DYNAMIC:
            continue
        strings = sections[section.link].offset
        for at in range(section.offset, section.offset + section.size, 16):
            tag, value = struct.unpack_from("<qQ", data, at)
            if tag == DT_NEEDED:
                names.append(_text(data, strings + value))
    return names


def module_info(data: bytes) -> dict[str, list[str]]:
    """A kernel module's `.modinfo` as lists by key (`depends`, `alias`, …); {} when there is none."""
    if not is_elf(data):
        return {}
    sections = _sections(data)
    strings = sections[struct.unpack_from("<H", data, 0x3E)[0]].offset
    info: dict[str, list[str]] = {}
    for section in sections:
        if _text(data, strings + section.name_offset) == ".modinfo":
            for entry in data[section.offset : section.offset + section.size].split(b"\0"):
                key, equals, value = entry.decode("latin-1").partition("=")
                if equals:
                    info.setdefault(key, []).append(value)
    return info
