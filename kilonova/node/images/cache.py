"""Images on a host: downloaded once, checked, converted once, and then never changed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from kilonova.base.faults import no_capacity
from kilonova.base.units import GIB, MIB
from kilonova.base.world import World
from kilonova.image.contract import RemoteImage
from kilonova.node.confined import convert_disk, inspect_disk

RESERVE_BYTES: Final = 512 * MIB  # never given to images or disks, so that the host itself can go on
KEPT_SECONDS: Final = 24 * 3600  # an image that no disk leans on
RECENT_SECONDS: Final = 600  # somebody may be about to make a disk of it


class CachedImage(msgspec.Struct, frozen=True):
    """A cached image. The file is root's and read-only for all: QEMU, which is not root, cannot change it."""

    path: str
    format: str  # raw | qcow2
    virtual_size_bytes: int
    sha256: str


class ImageCache:
    """The images under one directory. A file counts only with its `.json` beside it, which is written last, and whose
    time is when the image was asked for last.

    `used` tells the files that disks lean on. Others go after a day, or sooner when the room is needed: both is looked
    at when another image comes, which is the only time that the cache grows.
    """

    def __init__(self, world: World, directory: str, used: Callable[[], set[str]] = set) -> None:
        self._used = used
        self._world = world
        self._directory = Path(directory)
        self._incoming = self._directory / "incoming"
        self._fetching: dict[str, asyncio.Lock] = {}
        self._tidied = False

    async def ensure(self, image: RemoteImage) -> CachedImage:
        """The image, fetched when it is missing: once, however many ask.

        NO_CAPACITY before a byte is written when the disk is too small; what is partly there is removed.
        """
        async with self._fetching.setdefault(image.id, asyncio.Lock()):
            if known := await self._world.blocking(self.find, image.id):
                return known
            return await self._bring(image)

    def find(self, image_id: str) -> CachedImage | None:
        """The image if it is complete. Blocks."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            noted = self._directory / f"{image_id}.json"
            known = msgspec.json.decode(noted.read_bytes(), type=CachedImage)
            if os.path.exists(known.path):
                now = self._world.clock.now().timestamp()
                os.utime(noted, (now, now))
                return known
        return None

    def drop(self, image_id: str) -> None:
        """Forget an image. Blocks. Guests whose disks share it must be gone."""
        for path in self._directory.glob(f"{image_id}.*"):
            path.unlink()

    async def _bring(self, image: RemoteImage) -> CachedImage:
        await self._world.blocking(self._prepare, image.id, await image.room_bytes())
        part = str(self._incoming / f"{image.id}.download")
        try:
            await image.fetch(part)
            return await self._world.blocking(self._keep, image.id, part)
        finally:
            await self._world.blocking(_remove, part)

    def _prepare(self, image_id: str, min_free_bytes: int) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._incoming.chmod(0o711)
        if not self._tidied:  # what a crash left half done
            for path in self._incoming.iterdir():
                path.unlink()
            self._tidied = True
        self._make_room(min_free_bytes)
        require_room(self._directory, min_free_bytes, f"image {image_id}")

    def _make_room(self, bytes_: int) -> None:
        """Images that nobody uses are gone: those of yesterday, and as many more, the oldest first, as are needed."""
        now, used = self._world.clock.now().timestamp(), self._used()
        for noted in sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime):
            age = now - noted.stat().st_mtime
            if age < RECENT_SECONDS or (age < KEPT_SECONDS and _free(self._directory) >= bytes_):
                return
            if not any(str(path) in used for path in self._directory.glob(f"{noted.stem}.*")):
                self.drop(noted.stem)

    def _keep(self, image_id: str, part: str) -> CachedImage:
        """Check, convert when guests cannot use it as it is, and put it in place."""
        os.chmod(part, 0o644)
        facts = inspect_disk(part)
        usable, format_ = part, facts.format
        if facts.format not in ("raw", "qcow2"):
            require_room(self._directory, facts.virtual_size_bytes, f"image {image_id}")
            usable, format_ = str(self._incoming / f"{image_id}.converted"), "qcow2"
            convert_disk(part, facts.format, usable, format_, facts.virtual_size_bytes)
        kept = CachedImage(
            path=str(self._directory / f"{image_id}.{format_}"),
            format=format_,
            virtual_size_bytes=facts.virtual_size_bytes,
            sha256=_sha256(usable),
        )
        os.chmod(usable, 0o444)
        os.replace(usable, kept.path)
        noted = self._incoming / f"{image_id}.json"
        noted.write_bytes(msgspec.json.encode(kept))
        os.replace(noted, self._directory / f"{image_id}.json")
        return kept


def require_room(directory: Path, bytes_: int, what: str) -> None:
    """NO_CAPACITY unless `bytes_` more fit into `directory`'s file system, with the reserve left. Blocks."""
    free = _free(directory)
    if bytes_ > free:
        raise no_capacity(
            f"The host has too little disk for {what}: "
            f"{bytes_ / GIB:.1f} GiB needed, {max(free, 0) / GIB:.1f} GiB free.",
            hint="Free disk space on the host, or choose another.",
        )


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free - RESERVE_BYTES


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
