"""Copies of images in this process's own directory: filled on request, verified, bounded, read instead of the store."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.image.cache import store
from kilonova.image.cache.store import Copy
from kilonova.image.contract import ImageStore
from kilonova.image.image.reading import Reading
from kilonova.image.image.store import Image

log = logging.getLogger(__name__)


class Copies:
    """`host` names this process among those that share the database; `data` is where it keeps its copies."""

    def __init__(self, world: World, db: Database, data: ImageStore, host: str, room_bytes: int) -> None:
        self._world = world
        self._db = db
        self._data = data
        self._host = host
        self._room = room_bytes

    async def listed(self) -> list[Copy]:
        """What is there and what waits."""
        return await self._db.read(store.listed, self._host)

    async def queue(self, image_id: str) -> None:
        """A copy is wanted."""
        await self._db.write(store.queue, self._host, image_id, self._world.clock.now())

    async def read(self, image: Image, start: int, end: int) -> AsyncIterator[bytes] | None:
        """The bytes from the copy; None when there is none."""
        copy = await self._db.read(store.get, self._host, image.id)
        if copy is None or copy.state != "cached" or copy.size != image.size:
            return None
        await self._db.write(store.hit, self._host, image.id, self._world.clock.now())
        return self._data.read(image.id, start, end)

    async def drop(self, image_id: str) -> bool:
        """No copy is kept or made. False: there was none."""
        known = await self._db.write(store.forget, self._host, image_id)
        await self._data.drop(image_id)
        return known

    async def clear(self, states: tuple[str, ...]) -> None:
        """Drop every copy in these states."""
        for copy in await self.listed():
            if copy.state in states:
                await self.drop(copy.image_id)

    async def fill(self, image: Image, chunks: AsyncIterator[bytes]) -> None:
        """Make the copy that is wanted; data that is not the image's is not kept."""
        reading = Reading(self._world, chunks, self._room, image.os_hash_algo or "sha512")
        try:
            await self._make_room(image.size or 0)
            await self._data.save(image.id, reading.pieces())
            if image.os_hash_value and reading.hash_value() != image.os_hash_value:
                raise unavailable(f"The data of image {image.id} does not match its hash.")
        except Fault as fault:
            log.warning("image %s is not copied here: %r", image.id, fault)
            await self.drop(image.id)
            return
        size, now = reading.size_bytes, self._world.clock.now()
        if not await self._db.write(store.filled, self._host, image.id, size, now):
            await self._data.drop(image.id)

    async def _make_room(self, size: int) -> None:
        """The copies used longest ago give way."""
        known = [copy for copy in await self.listed() if copy.state == "cached"]
        used = sum(copy.size for copy in known)
        for copy in known:
            if used + size <= self._room:
                return
            await self.drop(copy.image_id)
            used -= copy.size
        if used + size > self._room:
            raise unavailable(f"An image of {size} bytes is larger than all the room for copies.")
