"""What is kept of data that passes for its inspection, and what an image is refused for."""

from __future__ import annotations

from typing import Final

from kilonova.image.contract import Ends, Found

HEAD_BYTES: Final = 5 << 20  # enough for every header that is read: VHDX has its metadata in the first MBs
TAIL_BYTES: Final = 512  # a fixed VHD has its only header at the end


class Collector:
    """Fed with every chunk; keeps the head and the tail only, whatever the length."""

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

    def ends(self) -> Ends:
        """The ends of all that was fed."""
        return Ends(bytes(self._head), self._tail, self.size_bytes)


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


def remedy(found: Found) -> str:
    """What whoever was refused can do about it."""
    if found.unsafe:
        return "Upload a disk that needs no other file: `qemu-img convert -O qcow2 IN OUT` makes one."
    return f"Declare it as {found.format} (disk_format), or upload data of the declared format."
