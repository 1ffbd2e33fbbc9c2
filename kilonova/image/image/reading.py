"""Data on its way into a store: hashed as it passes, and what its inspection needs kept of it, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.faults import invalid, too_large
from kilonova.base.pieces import in_pieces
from kilonova.base.units import MIB
from kilonova.base.world import World
from kilonova.image.contract import DiskInspector
from kilonova.image.image.signature import Verifier
from kilonova.image.image.store import Image
from kilonova.image.inspect.ends import Collector, refusal, remedy

PIECE_BYTES = 4 * MIB
TOLD_EVERY_BYTES = 64 * MIB

Progress = Callable[[int], Awaitable[None]]


class Facts(msgspec.Struct, frozen=True):
    """What is known of data that was read whole."""

    size: int
    virtual_size: int | None
    checksum: str
    hash_algo: str
    hash_value: str
    disk_format: str
    converted: bool = False

    def columns(self) -> dict[str, Any]:
        """The columns that an image with this data has."""
        return {
            "size": self.size,
            "virtual_size": self.virtual_size,
            "checksum": self.checksum,
            "os_hash_algo": self.hash_algo,
            "os_hash_value": self.hash_value,
        }


class Passing:
    """Counts what passes, for data that is judged afterwards."""

    def __init__(self, chunks: AsyncIterator[bytes], limit_bytes: int, progress: Progress | None = None) -> None:
        self._chunks = chunks
        self._limit = limit_bytes
        self._progress = progress
        self.size_bytes = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as they come."""
        async for chunk in self._chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limit:
                raise too_large(f"The image data is larger than the limit of {self._limit} bytes.")
            if self._progress is not None and self.size_bytes % TOLD_EVERY_BYTES < len(chunk):
                await self._progress(self.size_bytes)
            yield chunk


class Reading:
    """Hashes what passes, a piece at a time, and keeps its ends."""

    def __init__(self, world: World, chunks: AsyncIterator[bytes], limit_bytes: int, algorithm: str) -> None:
        self._world = world
        self._chunks = chunks
        self._limit = limit_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._algorithm = algorithm
        self._sha = hashlib.new(algorithm)
        self._collector = Collector()
        self.verifier: Verifier | None = None
        self.progress: Progress | None = None

    @property
    def size_bytes(self) -> int:
        """How much has passed."""
        return self._collector.size_bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, in chunks as they came."""
        async for piece in in_pieces(self._chunks, PIECE_BYTES):
            await self._see(piece)
            for chunk in piece:
                yield chunk

    def hash_value(self) -> str:
        """The hash of what has passed."""
        return self._sha.hexdigest()

    async def drain(self) -> None:
        """Read all of it, keeping nothing."""
        async for _ in self.pieces():
            pass

    async def _see(self, piece: list[bytes]) -> None:
        size_bytes = sum(map(len, piece))
        if self._collector.size_bytes + size_bytes > self._limit:
            raise too_large(f"The image data is larger than the limit of {self._limit} bytes.")
        await self._world.blocking(self._digest, piece)
        if self.progress is not None and self.size_bytes % TOLD_EVERY_BYTES < size_bytes:
            await self.progress(self.size_bytes)

    def _digest(self, piece: list[bytes]) -> None:
        for chunk in piece:
            self._md5.update(chunk)
            self._sha.update(chunk)
            self._collector.feed(chunk)
            if self.verifier is not None:
                self.verifier.update(chunk)

    async def facts(self, inspector: DiskInspector, image: Image, *, match: bool = True) -> Facts:
        """What the bytes are. INVALID when they must not be used, or (`match`) are not what the image declares;
        UNAVAILABLE when that could not be found out."""
        found = await inspector.judge(self._collector.ends())
        if why := refusal(image.disk_format or "", found, match=match):
            raise invalid(f"Image {image.id} was refused: {why}", hint=remedy(found))
        if self.verifier is not None:
            self.verifier.verify()
        return Facts(
            self._collector.size_bytes,
            found.virtual_size_bytes,
            self._md5.hexdigest(),
            self._algorithm,
            self._sha.hexdigest(),
            found.format,
        )
