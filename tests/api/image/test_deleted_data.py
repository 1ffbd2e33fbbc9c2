"""Data of deleted images goes, whoever was away when they were deleted."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kilonova.base.faults import unavailable
from kilonova.image.image import deleted_store
from kilonova.image.image.drop_data import drop_left_over
from kilonova.image.image.store import get_image
from kilonova.node.images.store import MemoryStore
from tests.api.image.door import WholeImage, whole_image


async def in_both(image: WholeImage) -> str:
    image_id = await image.create()
    await image.put(image_id, b"data", "stage")
    await image.import_(image_id, "glance-direct", all_stores=True)
    await image.ended(image_id)
    assert image.kept() == {"first": [image_id], "second": [image_id]}
    return image_id


AGO = timedelta(minutes=2)


def _deleted_at(connection: Any, then: datetime) -> None:
    connection.execute(deleted_store.deleted.update().values(deleted_at=then))


class SometimesAway(MemoryStore):
    """A store that does not answer while it is `away`."""

    away = False

    async def drop(self, image_id: str) -> None:
        if self.away:
            raise unavailable("The image store does not answer.")
        await super().drop(image_id)


async def test_a_store_that_is_away_loses_the_data_when_it_is_back(tmp_path: Path) -> None:
    second = SometimesAway()
    async with whole_image(tmp_path, second) as image:
        image_id = await in_both(image)
        second.away = True
        await image.api.delete(f"/v2/images/{image_id}")
        await image.api.get(f"/v2/images/{image_id}", 404)
        await image.api.post("/v2/images", {"id": image_id, "name": "again"}, 409)
        assert await drop_left_over(image.service) == 0  # whoever deletes it has a minute
        await image.service.db.write(_deleted_at, image.service.world.clock.now() - AGO)
        assert await drop_left_over(image.service) == 0
        assert image.kept()["second"] == [image_id]
        second.away = False
        assert await drop_left_over(image.service) == 1
        assert image.kept() == {"first": [], "second": []}
        await image.api.post("/v2/images", {"id": image_id, "name": "again"}, 201)


async def test_a_process_that_dies_after_the_record_is_gone(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await in_both(image)
        known = await image.service.db.read(get_image, image_id)
        then = image.service.world.clock.now() - AGO
        await image.service.db.write(deleted_store.delete_image, known, then)  # and then nothing
        assert await drop_left_over(image.service) == 1
        assert image.kept() == {"first": [], "second": []}
        assert await drop_left_over(image.service) == 0
