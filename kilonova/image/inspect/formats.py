"""Format inspection over a stream: the first bytes decide the format; headers that reach outside are refused.

Sources: qcow2 (QEMU docs/interop/qcow2), VMDK 5.0 (VMware virtual disk format), VHD 1.0, VHDX 1.0 (MS-VHDX), VDI,
LUKS 1/2 on-disk formats, ISO 9660, GPT (UEFI 2.10), MBR.
"""

from __future__ import annotations

import re
import struct
from typing import Final

import msgspec

HEAD_BYTES: Final = 5 << 20  # enough for every header read here: VHDX has its metadata in the first MBs
TAIL_BYTES: Final = 512  # a fixed VHD has its only header at the end

_QCOW2_DATA_FILE: Final = 1 << 2
_VMDK_SAFE: Final = {"monolithicsparse", "streamoptimized"}


class Found(msgspec.Struct, frozen=True):
    """What the bytes are. `unsafe` says why they must not be used, "" when they may."""

    format: str  # raw | qcow2 | vmdk | vdi | vhd | vhdx | iso | luks | gpt | qed | parallels
    virtual_size_bytes: int | None = None
    unsafe: str = ""


class Inspector:
    """Feed it every chunk; `found()` afterwards. Keeps the head and the tail only, whatever the length."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = b""
        self.size_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        self.size_bytes += len(chunk)
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        self._tail = chunk[-TAIL_BYTES:] if len(chunk) >= TAIL_BYTES else (self._tail + chunk)[-TAIL_BYTES:]

    def found(self) -> Found:
        """The verdict over all that was fed."""
        head = bytes(self._head)
        for look in (_qcow2, _vmdk, _vdi, _vhdx, _luks, _qed, _parallels):
            if (verdict := look(head)) is not None:
                return verdict
        if self._tail[:8] == b"conectix" or head[:8] == b"conectix":
            return _vhd(self._tail if self._tail[:8] == b"conectix" else head)
        if head[0x8001:0x8006] == b"CD001":
            return Found("iso", self.size_bytes)
        if head[512:520] == b"EFI PART":
            return Found("gpt", self.size_bytes)
        return Found("raw", self.size_bytes)


def _qcow2(head: bytes) -> Found | None:
    if head[:4] != b"QFI\xfb":
        return None
    if len(head) < 72:
        return Found("qcow2", None, "its header is cut off")
    version, backing_offset = struct.unpack(">IQ", head[4:16])
    virtual_size = struct.unpack(">Q", head[24:32])[0]
    if version not in (2, 3):
        return Found("qcow2", virtual_size, f"qcow version {version} is not supported")
    if backing_offset:
        return Found("qcow2", virtual_size, "it names a backing file")
    if version == 3:
        features = struct.unpack(">Q", head[72:80])[0] if len(head) >= 80 else 0
        if features & _QCOW2_DATA_FILE:
            return Found("qcow2", virtual_size, "it names an external data file")
        if features >> 5:
            return Found("qcow2", virtual_size, "it needs features that are not known")
    if _qcow2_extension(head, version, 0x44415441):
        return Found("qcow2", virtual_size, "it names an external data file")
    if virtual_size == 0 or virtual_size > 1 << 50:
        return Found("qcow2", virtual_size, "its virtual size is absurd")
    return Found("qcow2", virtual_size)


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


def _vmdk(head: bytes) -> Found | None:
    if head[:4] == b"KDMV":
        return _vmdk_sparse(head)
    if b"# Disk DescriptorFile" in head[:1024].lstrip():
        return Found("vmdk", None, "a VMDK descriptor alone names files of the host as its extents")
    return None


def _vmdk_sparse(head: bytes) -> Found:
    if len(head) < 512:
        return Found("vmdk", None, "its header is cut off")
    capacity, descriptor_at, descriptor_sectors = (
        struct.unpack("<Q", head[12:20])[0],
        struct.unpack("<Q", head[28:36])[0],
        struct.unpack("<Q", head[36:44])[0],
    )
    virtual_size = capacity * 512
    start, end = descriptor_at * 512, (descriptor_at + descriptor_sectors) * 512
    if not descriptor_at or end > len(head):
        return Found("vmdk", virtual_size, "its descriptor is not where it can be checked")
    text = head[start:end].split(b"\0", 1)[0].decode("latin-1")
    kind = re.search(r'^\s*createType\s*=\s*"([^"]+)"', text, re.M | re.I)
    if not kind or kind[1].lower() not in _VMDK_SAFE:
        return Found("vmdk", virtual_size, f"VMDK type {kind[1][:40] if kind else 'unknown'} may reach other files")
    extents = re.findall(r"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", text, re.M | re.I)
    if len(extents) != 1 or extents[0].upper() != "SPARSE":
        return Found("vmdk", virtual_size, "it has extents outside itself")
    if re.search(r"^\s*parentFileNameHint\s*=|^\s*parentCID\s*=\s*(?!ffffffff)", text, re.M | re.I):
        return Found("vmdk", virtual_size, "it names a parent disk")
    return Found("vmdk", virtual_size)


def _vdi(head: bytes) -> Found | None:
    if head[0x40:0x44] != b"\x7f\x10\xda\xbe":
        return None
    if len(head) < 0x178:
        return Found("vdi", None, "its header is cut off")
    return Found("vdi", struct.unpack("<Q", head[0x170:0x178])[0])


def _vhd(footer: bytes) -> Found:
    if len(footer) < 64:
        return Found("vhd", None, "its footer is cut off")
    size = struct.unpack(">Q", footer[48:56])[0]
    if struct.unpack(">I", footer[60:64])[0] == 4:
        return Found("vhd", size, "it is a differencing disk with a parent")
    return Found("vhd", size)


def _vhdx(head: bytes) -> Found | None:
    if head[:8] != b"vhdxfile":
        return None
    regions = head[0x30000 : 0x30000 + 65536]
    metadata_guid = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
    size_guid = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")
    parameters_guid = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    if regions[:4] != b"regi":
        return Found("vhdx", None, "its region table cannot be read")
    at = regions.find(metadata_guid)
    if at < 0:
        return Found("vhdx", None, "its region table has no metadata")
    start = struct.unpack("<Q", regions[at + 16 : at + 24])[0]
    if start + 65536 > len(head):
        return Found("vhdx", None, "its metadata is not where it can be checked")
    table = head[start : start + 65536]
    size = _vhdx_item(head, start, table, size_guid, 8)
    parameters = _vhdx_item(head, start, table, parameters_guid, 8)
    if size is None:
        return Found("vhdx", None, "its metadata is not where it can be checked")
    if parameters is not None and struct.unpack("<I", parameters[4:8])[0] & 2:
        return Found("vhdx", None, "it is a differencing disk with a parent")
    return Found("vhdx", struct.unpack("<Q", size)[0])


def _vhdx_item(head: bytes, start: int, table: bytes, guid: bytes, length: int) -> bytes | None:
    at = table.find(guid)
    if at < 0 or at + 20 > len(table):
        return None
    offset = start + struct.unpack("<I", table[at + 16 : at + 20])[0]
    item = head[offset : offset + length]
    return item if len(item) == length else None


def _luks(head: bytes) -> Found | None:
    return Found("luks", None) if head[:6] == b"LUKS\xba\xbe" else None


def _qed(head: bytes) -> Found | None:
    return Found("qed", None, "QED images are not supported") if head[:4] == b"QED\0" else None


def _parallels(head: bytes) -> Found | None:
    if head[:16] in (b"WithoutFreeSpace", b"WithouFreSpacExt"):
        return Found("parallels", None, "Parallels images are not supported")
    return None


# What each declared disk_format may really be: a GPT or MBR disk is raw to a hypervisor.
ACCEPTED: Final[dict[str, frozenset[str]]] = {
    "raw": frozenset({"raw", "gpt"}),
    "qcow2": frozenset({"qcow2"}),
    "vmdk": frozenset({"vmdk"}),
    "vdi": frozenset({"vdi"}),
    "vhd": frozenset({"vhd"}),
    "vhdx": frozenset({"vhdx"}),
    "iso": frozenset({"iso"}),
    "luks": frozenset({"luks"}),
    "gpt": frozenset({"gpt"}),
}


def refusal(declared: str, found: Found, *, match: bool = True) -> str:
    """Why an image declared as `declared` must be refused, or "". Kernel-like formats (ami, ari, aki) must be raw.

    Without `match` the declared format may be wrong; what reaches outside itself is refused all the same.
    """
    if found.unsafe:
        return f"The image data is {found.format} and {found.unsafe}."
    if match and found.format not in ACCEPTED.get(declared, frozenset({"raw"})):
        return f"The image data is {found.format}, not {declared} as its disk_format says."
    return ""
