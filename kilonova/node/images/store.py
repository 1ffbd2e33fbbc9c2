"""Image bytes as files of a directory, and a store in memory for simulation and tests."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from kilonova.base.faults import not_found, too_large
from kilonova.base.pieces import in_pieces
from kilonova.base.units import MIB
from kilonova.base.world import World
from kilonova.node.images.large_file import KeptFile, NewFile

CHUNK_BYTES = 1 * MIB
PIECE_BYTES = 4 * MIB  # written in one hop to a thread
KEPT_FREE_BYTES = 256 * MIB
ABANDONED_SECONDS = 3600
FIRST_BYTES = 1000


class FileStore:
    """One file per image; an upload becomes visible whole, by a rename after its bytes are on disk."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory
        self._partial = directory / "partial"
        self._first: dict[str, bytes] = {}  # image → its first byte: see `read`
        self._partial.mkdir(parents=True, exist_ok=True)
        long_ago = world.clock.now().timestamp() - ABANDONED_SECONDS
        for left in self._partial.iterdir():  # of a process that died during an upload; others may share the directory
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < long_ago:
                    left.unlink()

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        self._first.pop(image_id, None)
        partial = self._partial / f"{image_id}.{self._world.ids.uuid()[:8]}"
        try:
            file = await self._world.blocking(NewFile, partial)
            try:
                async for piece in in_pieces(chunks, PIECE_BYTES):
                    while not file.has_room(sum(map(len, piece))):
                        await self._check_room()
                        await self._world.blocking(file.make_room)
                    await self._world.blocking(file.write, piece)
                await self._world.blocking(file.keep)
            finally:
                await self._world.blocking(file.close)
            await self._world.blocking(self._put_in_place, partial, image_id)
        finally:
            with contextlib.suppress(FileNotFoundError):
                await self._world.blocking(os.unlink, partial)

    async def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The first byte, for which hosts ask when they want to know whether somebody may have the image, is kept in
        memory: an image's data never changes."""
        only_first = (start, end) == (0, 1)
        if only_first and image_id in self._first:
            yield self._first[image_id]
            return
        try:
            file, chunk = await self._world.blocking(_opened_at, self._directory / image_id, start, end)
        except FileNotFoundError:
            raise not_found("The data of image", image_id) from None
        if file is None:
            if only_first:
                self._keep_first(image_id, chunk)
            yield chunk
            return
        try:
            at = start
            while chunk:
                at += len(chunk)
                yield chunk
                chunk = await self._world.blocking(file.read, at, end) if at < end else b""
        finally:
            await self._world.blocking(file.close)

    def _keep_first(self, image_id: str, byte: bytes) -> None:
        if len(self._first) >= FIRST_BYTES:
            self._first.clear()
        self._first[image_id] = byte

    def _put_in_place(self, partial: Path, image_id: str) -> None:
        try:
            os.replace(partial, self._directory / image_id)
        except FileNotFoundError:  # dropped meanwhile
            raise not_found("Image", image_id) from None

    async def drop(self, image_id: str) -> None:
        self._first.pop(image_id, None)
        await self._world.blocking(self._drop, image_id)

    def _drop(self, image_id: str) -> None:
        for path in (self._directory / image_id, *self._partial.glob(f"{image_id}.*")):
            path.unlink(missing_ok=True)

    async def free_bytes(self) -> int:
        return (await self._world.blocking(shutil.disk_usage, self._directory)).free

    def location(self, image_id: str) -> str:
        return f"file:///{image_id}"

    async def _check_room(self) -> None:
        if await self.free_bytes() < KEPT_FREE_BYTES:
            raise too_large("The image store has no room for more data.", hint="The operator must free disk space.")


def _opened_at(path: Path, start: int, end: int) -> tuple[KeptFile | None, bytes]:
    """(the file, its first piece); no file when that is all."""
    with contextlib.ExitStack() as opened:
        file = KeptFile(path)
        opened.callback(file.close)
        chunk = file.read(start, end)
        if len(chunk) == end - start:
            return None, chunk
        opened.pop_all()
        return file, chunk


class MemoryStore:
    """Bytes in a dictionary."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        self.images[image_id] = b"".join([chunk async for chunk in chunks])

    async def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        if image_id not in self.images:
            raise not_found("The data of image", image_id)
        for at in range(start, end, CHUNK_BYTES):
            yield self.images[image_id][at : min(at + CHUNK_BYTES, end)]

    async def drop(self, image_id: str) -> None:
        self.images.pop(image_id, None)

    async def free_bytes(self) -> int:
        return 1 << 40

    def location(self, image_id: str) -> str:
        return f"memory:///{image_id}"
