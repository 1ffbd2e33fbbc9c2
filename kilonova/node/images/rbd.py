"""Image bytes as RADOS block devices: one per image, with a protected snapshot that others are cloned from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from kilonova.base.faults import Fault, Kind, not_found
from kilonova.base.world import World
from kilonova.node.ceph.cluster import CephCluster
from kilonova.node.ceph.library import ceph_faults
from kilonova.node.ceph.pool import GROWS_BY_BYTES, PIECE_BYTES, RbdPool

SNAPSHOT: Final = "snap"


class RbdStore:
    """Implements `image.contract.ImageStore`. An image has its name only once it is whole, and never changes then."""

    def __init__(self, world: World, cluster: CephCluster, pool: str) -> None:
        self._world = world
        self._cluster = cluster
        self._pool = RbdPool(cluster, pool)

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        part = f"{image_id}.{self._world.ids.uuid()[:8]}.part"
        try:
            await self._write(part, chunks)
            await self._world.blocking(self._put_in_place, part, image_id)
        except BaseException:  # edge: nothing half-written stays, whatever ended it
            await self._world.blocking(self._pool.remove, part)
            raise

    async def _write(self, part: str, chunks: AsyncIterator[bytes]) -> None:
        """Whole pieces, so that each write is of one object; the device grows ahead of them and is cut at the end."""
        await self._world.blocking(self._pool.create, part, 0)
        device = await self._world.blocking(self._pool.device, part)
        try:
            gathered, at = bytearray(), 0
            async for chunk in chunks:
                gathered += chunk
                while len(gathered) >= PIECE_BYTES:
                    await self._world.blocking(_append, device, at, bytes(gathered[:PIECE_BYTES]))
                    del gathered[:PIECE_BYTES]
                    at += PIECE_BYTES
            await self._world.blocking(_end, device, at, bytes(gathered))
        finally:
            await self._world.blocking(device.close)

    def _put_in_place(self, part: str, image_id: str) -> None:
        self._pool.snapshot(part, SNAPSHOT)
        self._pool.remove(image_id)
        self._pool.rename(part, image_id)

    async def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        device = await self._world.blocking(self._open, image_id)
        try:
            while start < end:
                piece: bytes = await self._world.blocking(_read, device, start, min(end - start, PIECE_BYTES))
                if not piece:
                    return
                start += len(piece)
                yield piece
        finally:
            await self._world.blocking(device.close)

    def _open(self, image_id: str) -> Any:
        try:
            return self._pool.device(image_id, SNAPSHOT)
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                raise not_found("The data of image", image_id, inside=fault.inside) from None
            raise

    async def drop(self, image_id: str) -> None:
        await self._world.blocking(self._drop, image_id)

    def _drop(self, image_id: str) -> None:
        for name in self._pool.names():
            if name == image_id or (name.startswith(f"{image_id}.") and name.endswith(".part")):
                self._pool.remove(name)
        self._pool.sweep()

    async def free_bytes(self) -> int:
        return (await self._world.blocking(self._cluster.room))[1]

    def location(self, image_id: str) -> str:
        return f"rbd://{self._cluster.fsid()}/{self._pool.name}/{image_id}/{SNAPSHOT}"


def _append(device: Any, at: int, piece: bytes) -> None:
    with ceph_faults("The image"):
        if device.size() < at + len(piece):
            device.resize(at + len(piece) + GROWS_BY_BYTES)
        if piece.count(0) != len(piece):
            device.write(piece, at)


def _end(device: Any, at: int, piece: bytes) -> None:
    with ceph_faults("The image"):
        device.resize(at + len(piece))
        if piece:
            device.write(piece, at)
        device.flush()


def _read(device: Any, start: int, length: int) -> bytes:
    with ceph_faults("The image"):
        return bytes(device.read(start, length))
