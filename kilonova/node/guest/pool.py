"""The files inside the downloaded packages, as one tree in the merged layout (all under /usr, one bin folder)."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kilonova.base.faults import unavailable
from kilonova.node.guest import tools

# Checked in this order; the guest has /bin, /sbin and /usr/sbin as links to /usr/bin, and /lib as a link to /usr/lib.
MERGED = (("usr/sbin/", "usr/bin/"), ("sbin/", "usr/bin/"), ("bin/", "usr/bin/"), ("lib64/", "usr/lib64/"))
LEFT_OUT = ("usr/share/", "usr/include/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/x86_64-linux-gnu/perl")
MODULE_FOLDERS = ("drivers/", "fs/", "net/", "lib/", "crypto/", "arch/")
MODULE_FOLDERS_LEFT_OUT = ("drivers/gpu/", "drivers/infiniband/", "drivers/md/", "net/netfilter/", "drivers/hv/")


def merged(path: str) -> str:
    """The path in the guest's layout for a path in a package (`./sbin/blkid` → `usr/bin/blkid`)."""
    path = path.removeprefix("./")
    for old, new in MERGED:
        if path.startswith(old):
            return new + path[len(old) :]
    return "usr/" + path if path.startswith("lib/") else path


def _wanted(path: str) -> bool:
    if path.startswith("usr/lib/modules/"):
        within = path.partition("/kernel/")[2]
        return within.startswith(MODULE_FOLDERS) and not within.startswith(MODULE_FOLDERS_LEFT_OUT)
    return not path.startswith(LEFT_OUT)


@dataclass
class Pool:
    """Files and links of all packages by merged path."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def read(self, path: str) -> bytes | None:
        """The content behind `path`, through links; None when no package has it."""
        for _hop in range(8):
            if path in self.files:
                return self.files[path]
            if path not in self.links:
                return None
            path = _join(path, self.links[path])
        return None

    def need(self, path: str) -> bytes:
        """The content behind `path`. Raises UNAVAILABLE when no package has it (a newer Debian moved it)."""
        data = self.read(path)
        if data is None:
            raise unavailable(
                f"None of the guest's packages holds /{path}.",
                hint="The guest is built from Debian 12 packages; other releases may place files elsewhere.",
            )
        return data

    def add(self, deb: Path) -> None:
        """Takes the files of one package in."""
        archive = tools.run_for_bytes("dpkg-deb", "--fsys-tarfile", deb)
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                path = merged(member.name)
                if not _wanted(path):
                    continue
                if member.issym():
                    self.links[path] = member.linkname
                elif member.islnk():
                    self.links[path] = "/" + member.linkname.removeprefix("./")
                elif member.isfile():
                    content = tar.extractfile(member)
                    self.files[path] = content.read() if content else b""


def _join(path: str, target: str) -> str:
    """Where a link at `path` leads, in the merged layout."""
    if target.startswith("/"):
        return merged(target[1:])
    parts: list[str] = list(PurePosixPath(path).parent.parts)
    for part in PurePosixPath(target).parts:
        if part == "..":
            del parts[-1:]
        elif part != ".":
            parts.append(part)
    return merged("/".join(parts))


def open_debs(debs: Iterable[Path]) -> Pool:
    """One pool with the files of all these packages."""
    pool = Pool()
    for deb in debs:
        pool.add(deb)
    return pool


def unpacked(path: str, data: bytes) -> tuple[str, bytes]:
    """A kernel module's path and content without compression (Debian 13 ships `.ko.xz`)."""
    if path.endswith(".xz"):
        return path[:-3], lzma.decompress(data)
    return path, data
