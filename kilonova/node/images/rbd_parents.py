"""Images on Ceph for a host or a volume backend: what disks are cloned from. An image that lies in the same cluster is
used where it is; any other is checked and converted as for files, and then written into a pool once, by any host."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kilonova.base.faults import Fault, Kind, not_found
from kilonova.base.world import World
from kilonova.image.contract import RemoteImage
from kilonova.node.ceph.pool import Parent, RbdPool
from kilonova.node.confined import convert_disk
from kilonova.node.images.cache import CachedImage, ImageCache

BASE: Final = "base_"  # begins the names of images that were written here
SNAPSHOT: Final = "snap"


class RbdParents:
    """Images by their ids. `find` is for images that `ensure` answered before, also in a process before this one: where
    one lies in another pool stands in a small file."""

    def __init__(self, world: World, directory: str, pool: RbdPool) -> None:
        self._world = world
        self._pool = pool
        self._files = ImageCache(world, directory)
        self._writing: dict[str, asyncio.Lock] = {}
        self._notes = Path(directory) / "parents"

    async def ensure(self, image: RemoteImage) -> CachedImage:
        """The image as something to clone: its path is that of a protected snapshot, `rbd:pool/device@snap`."""
        async with self._writing.setdefault(image.id, asyncio.Lock()):
            if known := await self._world.blocking(self.find, image.id):
                return known
            fsid = await self._world.blocking(self._pool.cluster.fsid)
            for url in await image.places():
                parent = parent_at(url, fsid)
                if parent is None or not await self._world.blocking(self._use, image.id, parent):
                    continue
                if known := await self._world.blocking(self.find, image.id):
                    return known
            return await self._write(image)

    def find(self, image_id: str) -> CachedImage | None:
        """The image, if it is there to be cloned. Blocks."""
        written = Parent(self._pool.name, f"{BASE}{image_id}", SNAPSHOT)
        for parent in filter(None, (self._noted(image_id), written)):
            size = RbdPool(self._pool.cluster, parent.pool).size_bytes(parent.image, parent.snapshot)
            if size is not None:
                return CachedImage(parent.path, "raw", size, "")
        return None

    def _use(self, image_id: str, parent: Parent) -> bool:
        """Whether the device is one that we may clone."""
        try:
            if RbdPool(self._pool.cluster, parent.pool).size_bytes(parent.image, parent.snapshot) is None:
                return False
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:  # a pool that our user may not see
                raise
            return False
        self._notes.mkdir(parents=True, exist_ok=True)
        part = self._notes / f"{image_id}.part"
        part.write_text(parent.path)
        part.rename(self._notes / image_id)
        return True

    def _noted(self, image_id: str) -> Parent | None:
        try:
            return Parent.at((self._notes / image_id).read_text())
        except FileNotFoundError:
            return None

    async def _write(self, image: RemoteImage) -> CachedImage:
        file = await self._files.ensure(image)
        try:
            await self._world.blocking(self._fill, image.id, file)
        finally:
            await self._world.blocking(self._files.drop, image.id)
        kept = await self._world.blocking(self.find, image.id)
        if kept is None:
            raise not_found("Image", image.id, inside="it was removed from the pool while it was written")
        return kept

    def _fill(self, image_id: str, file: CachedImage) -> None:
        raw = f"{file.path}.raw"
        try:
            if file.format != "raw":
                convert_disk(file.path, file.format, raw, "raw", file.virtual_size_bytes)
            self._pool.fill(f"{BASE}{image_id}", raw if file.format != "raw" else file.path)
        finally:
            if os.path.exists(raw):
                Path(raw).unlink()
        self._pool.snapshot(f"{BASE}{image_id}", SNAPSHOT)


def parent_at(url: str, fsid: str) -> Parent | None:
    """The snapshot of a location `rbd://FSID/POOL/DEVICE/SNAPSHOT` of that cluster; None for any other."""
    parts = urlsplit(url)
    names = parts.path.strip("/").split("/")
    if parts.scheme != "rbd" or parts.netloc != fsid or len(names) != 3 or not all(names):
        return None
    if any(c in name for name in names for c in "@/:\\"):
        return None
    return Parent(*names)
