"""Uploads whose process dies, or sleeps too long: the image can be uploaded anew, and nothing of the first stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.image.image import upload_store
from kilonova.image.image.store import get_image
from kilonova.image.image.upload import Upload, give_up_abandoned
from tests.api.image.door import WholeImage, whole_image


async def begin(image: WholeImage, image_id: str, *, ago: timedelta) -> Upload:
    """An upload that a process began so long ago and did not hold since."""
    service = image.service
    upload, then = Upload(service, image_id), service.world.clock.now() - ago
    known = await service.db.read(get_image, image_id)
    await service.db.write(upload_store.begin_upload, known, upload.id, {}, {}, then)
    return upload


async def test_an_upload_of_a_dead_process_is_given_up(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        dead, alive = await image.create(), await image.create()
        await begin(image, dead, ago=timedelta(minutes=3))
        await begin(image, alive, ago=timedelta(minutes=1))
        (tmp_path / "images" / "partial" / f"{dead}.0123").write_bytes(b"half")
        (tmp_path / "images" / "partial" / f"{alive}.0123").write_bytes(b"half")
        assert await give_up_abandoned(image.service) == 1
        assert [(await image.show(one))["status"] for one in (dead, alive)] == ["queued", "saving"]
        assert [path.name for path in (tmp_path / "images" / "partial").iterdir()] == [f"{alive}.0123"]
        await image.put(dead, b"again")
        assert (await image.show(dead))["status"] == "active"
        assert await give_up_abandoned(image.service) == 0


async def test_one_of_a_release_that_held_none(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await image.create()
        for ago, left in ((timedelta(hours=2), "saving"), (timedelta(hours=25), "queued")):
            known = await image.service.db.read(get_image, image_id)
            then = image.service.world.clock.now() - ago
            if left == "saving":
                await image.service.db.write(upload_store.begin_upload, known, "x", {}, {}, then)
            await image.service.db.write(_forget_holder, image_id, then)
            await give_up_abandoned(image.service)
            assert (await image.show(image_id))["status"] == left


def _forget_holder(connection: Any, image_id: str, then: Any) -> None:
    connection.execute(upload_store.uploads.delete())
    images = upload_store.images
    connection.execute(images.update().where(images.c.id == image_id).values(updated_at=then))


async def test_a_process_that_wakes_too_late_replaces_nothing(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await image.create()
        late = await begin(image, image_id, ago=timedelta(minutes=3))
        await give_up_abandoned(image.service)
        await image.put(image_id, b"the second")

        async def rest() -> AsyncIterator[bytes]:
            yield b"the first"

        with pytest.raises(Fault) as refused:
            await image.service.data.save(image_id, late.only_while_held(rest()))
        assert refused.value.kind is Kind.CONFLICT
        assert await image.api.get(f"/v2/images/{image_id}/file") == b"the second"
        assert not await image.service.db.read(upload_store.is_held, image_id, late.id)
        now = image.service.world.clock.now()
        assert not await image.service.db.write(upload_store.end_upload, image_id, late.id, {"status": "queued"}, now)
        assert (await image.show(image_id))["status"] == "active"


async def test_an_image_that_is_deleted_while_it_comes_leaves_nothing(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await image.create()
        first, go_on = asyncio.Event(), asyncio.Event()
        messages: list[Any] = [{"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            first.set()
            await go_on.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        answers: list[Any] = []

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [(b"x-auth-token", b"member"), (b"content-type", b"application/octet-stream")]
        scope = {"type": "http", "method": "PUT", "path": f"/v2/images/{image_id}/file", "headers": headers}
        upload = asyncio.create_task(image.app(scope, receive, send))
        await first.wait()
        await image.api.delete(f"/v2/images/{image_id}")
        go_on.set()
        await upload
        assert answers[0]["status"] in (404, 409, 410)
        assert image.kept() == {"first": [], "second": []}
        assert list((tmp_path / "images" / "partial").iterdir()) == []
