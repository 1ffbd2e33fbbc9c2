"""Images are imported, copied and hashed by the four laws, in simulation with real workers."""

from __future__ import annotations

import random

import pytest

from kilonova.image import worker
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from tests.laws.images import DATA, URL, Pictures

IMPORT = {"method": {"name": "web-download", "uri": URL}, "all_stores": True}


async def _life(pictures: Pictures, kind: str) -> str:
    """An image whose data comes from the web, or stays there."""
    await pictures.start()
    image_id = await pictures.create()
    if kind == "import":
        await pictures.api().post(f"/v2/images/{image_id}/import", IMPORT, 202)
    else:
        await pictures.api().post(f"/v2/images/{image_id}/locations", {"url": URL}, 202)
    await pictures.settle()
    return image_id


def _steps(kind: str) -> list[tuple[str, int]]:
    pictures = Pictures(0, Plan(kind))
    run(_life(pictures, kind), 0)
    pictures.check_books()
    return pictures.seams.steps


ALL = [plan for kind in ("import", "location") for plan in plans(kind, _steps(kind))]


@pytest.mark.parametrize("plan", ALL, ids=str)
def test_four_laws(plan: Plan) -> None:
    pictures = Pictures(1, plan)
    run(_life(pictures, plan.kind), 1)
    (image,), (task,) = pictures.rows()
    pictures.check_books()
    if plan.how in ("fail", "undo twice"):
        assert task["status"] == "failure"
        assert image["status"] == ("queued" if plan.kind == "import" else "active")  # a location was in use already
        assert image["os_hash_value"] is None
    else:
        assert (image["status"], task["status"], image["size"]) == ("active", "success", len(DATA))
        assert image["os_hash_value"]


def test_every_kind_of_operation_has_its_laws() -> None:
    assert {kind.name for kind in worker.KINDS} <= {plan.kind for plan in ALL}
    assert {plan.at[0] for plan in ALL if plan.kind == "import"} >= {"download", "judge", "keep", "clear_staged"}


@pytest.mark.parametrize("seed", range(20))
def test_an_image_deleted_at_any_moment_of_its_import_leaves_nothing(seed: int) -> None:
    pictures = Pictures(seed)

    async def main() -> None:
        await pictures.start()
        image_id = await pictures.create()
        await pictures.api().post(f"/v2/images/{image_id}/import", IMPORT, 202)
        await pictures.world.clock.sleep(random.Random(seed).random() * 1.5)
        await pictures.api().delete(f"/v2/images/{image_id}")
        await pictures.settle()

    run(main(), seed)
    assert pictures.rows()[0] == []
    assert (pictures.first.images, pictures.second.images) == ({}, {})
