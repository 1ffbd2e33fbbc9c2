"""A host's image cache stays in bounds: what nobody uses goes, what a disk leans on stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.node.confined import backing_file
from kilonova.node.images import cache
from kilonova.node.images.cache import CachedImage, ImageCache
from tests.offered_image import OfferedImage

HOUR = 3600


class Cached:
    """A cache with images of a given age; disks lean on `base`."""

    def __init__(self, world: LiveWorld, directory: Path) -> None:
        self.directory = directory
        self.cache = ImageCache(world, str(directory), lambda: {str(directory / "base.qcow2")})

    def put(self, name: str, age_seconds: float) -> None:
        path = self.directory / f"{name}.qcow2"
        path.write_bytes(b"x")
        noted = self.directory / f"{name}.json"
        noted.write_bytes(msgspec.json.encode(CachedImage(str(path), "qcow2", 1, "")))
        then = time.time() - age_seconds
        os.utime(noted, (then, then))

    def names(self) -> set[str]:
        return {path.stem for path in self.directory.glob("*.json")}

    async def bring(self, bytes_: int) -> Any:
        """Another image is asked for, and cannot be had."""

        async def fails(path: str) -> None:
            raise ConnectionError

        return await self.cache.ensure(OfferedImage("new", fails, bytes_))


@pytest.fixture
async def cached(tmp_path: Path) -> Any:
    world = LiveWorld("cache")
    yield Cached(world, tmp_path)
    await world.close()


async def test_images_that_no_disk_leans_on_go_after_a_day(cached: Cached) -> None:
    for name, age in (("base", 100 * HOUR), ("old", 25 * HOUR), ("young", 23 * HOUR), ("asked", 50 * HOUR)):
        cached.put(name, age)
    assert cached.cache.find("asked")  # a server is made of it
    with pytest.raises(ConnectionError):
        await cached.bring(1)
    assert cached.names() == {"base", "young", "asked"}
    assert not (cached.directory / "old.qcow2").exists()


async def test_they_go_sooner_when_the_room_is_needed(cached: Cached) -> None:
    for name, age in (("base", 20 * HOUR), ("older", 3 * HOUR), ("younger", 2 * HOUR), ("new", 60.0)):
        cached.put(name, age)
    cached.cache.drop("new")
    cached.put("recent", 60.0)
    with pytest.raises(Fault) as full:
        await cached.bring(1 << 60)
    assert full.value.kind is Kind.NO_CAPACITY
    assert cached.names() == {"base", "recent"}


def test_what_a_disk_leans_on_is_read_from_its_header(tmp_path: Path) -> None:
    overlay, other = tmp_path / "disk", tmp_path / "disk.eph0"
    head = b"QFI\xfb" + (3).to_bytes(4, "big") + (64).to_bytes(8, "big") + (9).to_bytes(4, "big")
    overlay.write_bytes(head.ljust(64, b"\0") + b"/base.raw" + bytes(100))
    other.write_bytes(bytes(100))
    assert (backing_file(overlay), backing_file(other), backing_file(tmp_path / "none")) == ("/base.raw", "", "")
    assert cache.RECENT_SECONDS < cache.KEPT_SECONDS
