"""One contract, every store of images: files, memory, S3, Swift, Ceph."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.image.contract import ImageStore
from kilonova.node.ceph.pool import RbdPool
from kilonova.node.images.rbd import RbdStore
from kilonova.node.images.s3 import S3Store
from kilonova.node.images.store import FileStore, MemoryStore
from kilonova.node.images.swift import SwiftStore, SwiftUser
from tests.contract.object_servers import ACCESS, SECRET, S3Handler, SwiftHandler, served
from tests.real.ceph_rig import empty

PART = 100_000
DATA = random.Random(1).randbytes(3 * PART + 17)


SIMPLE = ("file", "memory", "s3", "swift")


@pytest.fixture(params=[*SIMPLE, pytest.param("rbd", marks=[pytest.mark.full, pytest.mark.root])])
async def store(request: Any, tmp_path: Path) -> Any:
    world = LiveWorld("store")
    if request.param == "file":
        yield FileStore(world, tmp_path / "images")
    elif request.param == "memory":
        yield MemoryStore()
    elif request.param == "rbd":
        cluster = request.getfixturevalue("ceph_rig").cluster()
        yield RbdStore(world, cluster, "images")
        await world.blocking(empty, RbdPool(cluster, "images"))
        await world.blocking(cluster.close)
    elif request.param == "s3":
        with served(S3Handler) as kept:
            made: Any = S3Store(world, kept.url, "images", (ACCESS, SECRET), part_bytes=PART)
            made.kept = kept  # type: ignore[attr-defined]
            yield made
    else:
        with served(SwiftHandler) as kept:
            user = SwiftUser(f"{kept.url}/v3", "glance", SECRET, "service", "R")
            swift = SwiftStore(world, user, "images", segment_bytes=PART)
            swift.kept = kept  # type: ignore[attr-defined]
            yield swift
    await world.close()


async def chunks(data: bytes, size: int = 33_333, fail_at: int = -1) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        if 0 <= fail_at <= at:
            raise ConnectionError("the client went away")
        yield data[at : at + size]


async def read(store: ImageStore, image_id: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(image_id, start, end)])


async def test_the_first_byte_is_read_again_and_goes_with_the_image(store: ImageStore) -> None:
    await store.save("one", chunks(DATA))
    assert [await read(store, "one", 0, 1) for _ in range(2)] == [DATA[:1]] * 2
    await store.drop("one")
    with pytest.raises(Fault) as gone:
        await read(store, "one", 0, 1)
    assert gone.value.kind is Kind.NOT_FOUND
    await store.save("one", chunks(DATA[1:]))
    assert await read(store, "one", 0, 1) == DATA[1:2]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, len(DATA)])
async def test_what_is_saved_is_read(store: ImageStore, size: int) -> None:
    await store.save("one", chunks(DATA[:size]))
    assert await read(store, "one", 0, size) == DATA[:size]
    if size > 10:
        assert await read(store, "one", 5, size - 3) == DATA[5 : size - 3]
    if size == len(DATA):
        assert await read(store, "one", PART - 2, 2 * PART + 2) == DATA[PART - 2 : 2 * PART + 2]


async def test_saving_again_replaces(store: ImageStore) -> None:
    await store.save("one", chunks(DATA[:1000]))
    await store.save("one", chunks(b"other"))
    assert await read(store, "one", 0, 5) == b"other"


@pytest.mark.parametrize("fail_at", [0, 50_000, 250_000])
async def test_a_save_that_breaks_leaves_nothing(store: ImageStore, fail_at: int, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        await store.save("one", chunks(DATA, fail_at=fail_at))
    with pytest.raises(Fault) as gone:
        await read(store, "one", 0, 10)
    assert gone.value.kind is Kind.NOT_FOUND
    kept = getattr(store, "kept", None)
    assert kept is None or (kept.objects, kept.uploads, kept.manifests) == ({}, {}, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_what_is_dropped_is_gone_and_may_be_dropped_again(store: ImageStore) -> None:
    await store.save("one", chunks(DATA))
    await store.save("two", chunks(b"stays"))
    for _ in range(2):
        await store.drop("one")
    with pytest.raises(Fault):
        await read(store, "one", 0, 10)
    assert await read(store, "two", 0, 5) == b"stays"
    kept = getattr(store, "kept", None)
    assert kept is None or len(kept.objects) == 1


async def test_it_says_where_without_secrets(store: ImageStore) -> None:
    where = store.location("one")
    assert "/one" in where and SECRET not in where and ACCESS not in where and "/tmp" not in where
    assert await store.free_bytes() > 1 << 20


async def test_wrong_keys_are_told_plainly() -> None:
    world = LiveWorld("store")
    with served(S3Handler) as kept:
        wrong = S3Store(world, kept.url, "images", (ACCESS, "guess"))
        with pytest.raises(Fault, match="refused"):
            await wrong.save("one", chunks(b"x"))
        assert kept.objects == {}
    with served(SwiftHandler) as kept:
        user = SwiftUser(f"{kept.url}/v3", "glance", "guess", "service")
        with pytest.raises(Fault, match="refused"):
            await SwiftStore(world, user, "images").save("one", chunks(b"x"))
    away = S3Store(world, "http://127.0.0.1:9", "images", (ACCESS, SECRET))
    with pytest.raises(Fault, match="does not answer"):
        await read(away, "one", 0, 1)
    await world.close()


@pytest.mark.parametrize("store", SIMPLE, indirect=True)
async def test_what_a_dead_process_left_of_a_save_goes_with_a_drop(store: ImageStore, tmp_path: Path) -> None:
    """The process dies between two chunks: its generator is never resumed, so nothing of it tidies up."""
    began, never = asyncio.Event(), asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        for at in range(0, 2 * PART, PART // 2):
            yield DATA[at : at + PART // 2]
        began.set()
        await never.wait()

    saving = asyncio.create_task(store.save("one", hangs()))
    await began.wait()
    await store.drop("one")
    kept = getattr(store, "kept", None)
    assert kept is None or (kept.objects, kept.uploads, kept.manifests) == ({}, {}, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    saving.cancel()
    await asyncio.wait([saving])
