"""What a disk's first and last bytes say it is, and whether it reaches outside itself.

Runs in the inspector's child, which has nothing but the standard library and must have imported all it needs before it
is shut in: nothing is imported inside a function here. Every search is linear in what it reads: the bytes are an
attacker's.

Sources: qcow2 (QEMU docs/interop/qcow2), VMDK 5.0 (VMware virtual disk format), VHD 1.0, VHDX 1.0 (MS-VHDX), VDI,
LUKS 1/2 on-disk formats, ISO 9660, GPT (UEFI 2.10), MBR.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

_QCOW2_DATA_FILE: Final = 1 << 2
_VMDK_SAFE: Final = {"monolithicsparse", "streamoptimized"}
_VMDK_DESCRIPTOR_BYTES: Final = 64 << 10  # writers make one of 10 KiB
_VMDK_PARENT_PLACE: Final = slice(512, 512 + 10240)  # where QEMU looks for a parent, wherever the descriptor is
# Blanks before a word stay on its line: what may run over lines is tried again from each of them.
_VMDK_KIND: Final = re.compile(r'^[^\S\n]*createType\s*=\s*"([^"]+)"', re.M | re.I)
_VMDK_EXTENT: Final = re.compile(r"^[^\S\n]*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", re.M | re.I)
_VMDK_PARENT: Final = re.compile(r"^[^\S\n]*(?:parentFileNameHint\s*=|parentCID\s*=\s*(?!\s|ffffffff\b))", re.M | re.I)


class Verdict(NamedTuple):
    """What the bytes are. `unsafe` says why they must not be used, "" when they may."""

    format: str  # raw | qcow2 | vmdk | vdi | vhd | vhdx | iso | luks | gpt | qed | parallels
    virtual_size_bytes: int | None = None
    unsafe: str = ""


def verdict(head: bytes, tail: bytes, size_bytes: int) -> Verdict:
    """The verdict over data of which these are the first bytes, the last (512), and the length."""
    for look in (_qcow2, _vmdk, _vdi, _vhdx, _luks, _qed, _parallels):
        if (found := look(head)) is not None:
            return found
    if tail[:8] == b"conectix" or head[:8] == b"conectix":
        return _vhd(tail if tail[:8] == b"conectix" else head)
    if head[0x8001:0x8006] == b"CD001":
        return Verdict("iso", size_bytes)
    if head[512:520] == b"EFI PART":
        return Verdict("gpt", size_bytes)
    return Verdict("raw", size_bytes)


def _qcow2(head: bytes) -> Verdict | None:
    if head[:4] != b"QFI\xfb":
        return None
    if len(head) < 72:
        return Verdict("qcow2", None, "its header is cut off")
    version, backing_offset = struct.unpack(">IQ", head[4:16])
    virtual_size = struct.unpack(">Q", head[24:32])[0]
    if version not in (2, 3):
        return Verdict("qcow2", virtual_size, f"qcow version {version} is not supported")
    if backing_offset:
        return Verdict("qcow2", virtual_size, "it names a backing file")
    if version == 3:
        features = struct.unpack(">Q", head[72:80])[0] if len(head) >= 80 else 0
        if features & _QCOW2_DATA_FILE:
            return Verdict("qcow2", virtual_size, "it names an external data file")
        if features >> 5:
            return Verdict("qcow2", virtual_size, "it needs features that are not known")
    if _qcow2_extension(head, version, 0x44415441):
        return Verdict("qcow2", virtual_size, "it names an external data file")
    if virtual_size == 0 or virtual_size > 1 << 50:
        return Verdict("qcow2", virtual_size, "its virtual size is absurd")
    return Verdict("qcow2", virtual_size)


def _qcow2_extension(head: bytes, version: int, wanted: int) -> bool:
    at = struct.unpack(">I", head[100:104])[0] if version == 3 and len(head) >= 104 else 72
    for _ in range(64):
        if at + 8 > len(head):
            return False
        kind, length = struct.unpack(">II", head[at : at + 8])
        if kind == 0:
            return False
        if kind == wanted:
            return True
        at += 8 + (length + 7) // 8 * 8
    return True  # more extensions than any writer makes: treat as hiding something


def _vmdk(head: bytes) -> Verdict | None:
    if head[:4] == b"KDMV":
        return _vmdk_sparse(head)
    if b"# Disk DescriptorFile" in head[:1024].lstrip():
        return Verdict("vmdk", None, "a VMDK descriptor alone names files of the host as its extents")
    return None


def _vmdk_sparse(head: bytes) -> Verdict:
    if len(head) < 512:
        return Verdict("vmdk", None, "its header is cut off")
    capacity, descriptor_at, descriptor_sectors = (
        struct.unpack("<Q", head[12:20])[0],
        struct.unpack("<Q", head[28:36])[0],
        struct.unpack("<Q", head[36:44])[0],
    )
    virtual_size = capacity * 512
    if not capacity:  # QEMU takes such a file for a bare descriptor
        return Verdict("vmdk", 0, "its virtual size is absurd")
    start, end = descriptor_at * 512, (descriptor_at + descriptor_sectors) * 512
    if not descriptor_at or end > len(head) or end - start > _VMDK_DESCRIPTOR_BYTES:
        return Verdict("vmdk", virtual_size, "its descriptor is not where it can be checked")
    text = head[start:end].split(b"\0", 1)[0].decode("latin-1")
    kind = _VMDK_KIND.search(text)
    if not kind or kind[1].lower() not in _VMDK_SAFE:
        return Verdict("vmdk", virtual_size, f"VMDK type {kind[1][:40] if kind else 'unknown'} may reach other files")
    extents = _VMDK_EXTENT.findall(text)
    if len(extents) != 1 or extents[0].upper() != "SPARSE":
        return Verdict("vmdk", virtual_size, "it has extents outside itself")
    if _VMDK_PARENT.search(text) or b"parentfilenamehint" in head[_VMDK_PARENT_PLACE].lower():
        return Verdict("vmdk", virtual_size, "it names a parent disk")
    return Verdict("vmdk", virtual_size)


def _vdi(head: bytes) -> Verdict | None:
    if head[0x40:0x44] != b"\x7f\x10\xda\xbe":
        return None
    if len(head) < 0x178:
        return Verdict("vdi", None, "its header is cut off")
    return Verdict("vdi", struct.unpack("<Q", head[0x170:0x178])[0])


def _vhd(footer: bytes) -> Verdict:
    if len(footer) < 64:
        return Verdict("vhd", None, "its footer is cut off")
    size = struct.unpack(">Q", footer[48:56])[0]
    if struct.unpack(">I", footer[60:64])[0] == 4:
        return Verdict("vhd", size, "it is a differencing disk with a parent")
    return Verdict("vhd", size)


def _vhdx(head: bytes) -> Verdict | None:
    if head[:8] != b"vhdxfile":
        return None
    regions = head[0x30000 : 0x30000 + 65536]
    metadata_guid = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
    size_guid = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")
    parameters_guid = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    if regions[:4] != b"regi":
        return Verdict("vhdx", None, "its region table cannot be read")
    at = regions.find(metadata_guid)
    if at < 0:
        return Verdict("vhdx", None, "its region table has no metadata")
    start = struct.unpack("<Q", regions[at + 16 : at + 24])[0]
    if start + 65536 > len(head):
        return Verdict("vhdx", None, "its metadata is not where it can be checked")
    table = head[start : start + 65536]
    size = _vhdx_item(head, start, table, size_guid, 8)
    parameters = _vhdx_item(head, start, table, parameters_guid, 8)
    if size is None:
        return Verdict("vhdx", None, "its metadata is not where it can be checked")
    if parameters is not None and struct.unpack("<I", parameters[4:8])[0] & 2:
        return Verdict("vhdx", None, "it is a differencing disk with a parent")
    return Verdict("vhdx", struct.unpack("<Q", size)[0])


def _vhdx_item(head: bytes, start: int, table: bytes, guid: bytes, length: int) -> bytes | None:
    at = table.find(guid)
    if at < 0 or at + 20 > len(table):
        return None
    offset = start + struct.unpack("<I", table[at + 16 : at + 20])[0]
    item = head[offset : offset + length]
    return item if len(item) == length else None


def _luks(head: bytes) -> Verdict | None:
    return Verdict("luks", None) if head[:6] == b"LUKS\xba\xbe" else None


def _qed(head: bytes) -> Verdict | None:
    return Verdict("qed", None, "QED images are not supported") if head[:4] == b"QED\0" else None


def _parallels(head: bytes) -> Verdict | None:
    if head[:16] in (b"WithoutFreeSpace", b"WithouFreSpacExt"):
        return Verdict("parallels", None, "Parallels images are not supported")
    return None
