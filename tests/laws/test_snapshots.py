"""The four laws for images made of servers, and what a delete does midway."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kilonova.base.faults import unavailable
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from kilonova.sim.peers import IMAGE
from tests.laws.servers import Door

VERBS = ("createImage",)


async def snap(door: Door, server_id: str, **more: Any) -> str:
    """The new image's id."""
    body = {"createImage": {"name": "copy"} | more}
    return str((await door.client.post(f"/v2.1/servers/{server_id}/action", body, 202))["image_id"])


async def do(door: Door) -> tuple[str, str]:
    """(server, image) once all is settled."""
    await door.cloud.start()
    server_id = await door.create()
    await door.cloud.settle()
    image_id = await snap(door, server_id)
    await door.cloud.settle()
    return server_id, image_id


def steps() -> list[tuple[str, int]]:
    door = Door(0, Plan("createImage"), hosts=1)
    run(do(door), 0)
    door.balance()
    return door.seams.steps


@pytest.mark.parametrize("plan", plans("createImage", steps()), ids=str)
def test_four_laws(plan: Plan) -> None:
    door = Door(1, plan, hosts=1)
    server_id, image_id = run(do(door), 1)
    assert door.state(server_id) == "active"
    made = door.cloud.books.images.get(image_id)
    if plan.how in ("fail", "undo twice"):
        assert made is None
    else:
        assert made is not None and made.status == "active"
        assert made.properties["instance_uuid"] == server_id
        assert made.properties["base_image_ref"] == IMAGE
    door.balance()


@pytest.mark.parametrize("verb", ["copy_disk", "finish_snapshot", "upload_image"])
def test_what_fails_leaves_neither_image_nor_file(verb: str) -> None:
    door = Door(2, hosts=1)

    async def main() -> str:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        door.cloud.hosts["node1"].machine.refuse(verb, unavailable("broken"))
        door.cloud.books.refuse[verb] = [unavailable("broken")]
        await snap(door, server_id)
        await door.cloud.settle()
        return server_id

    assert door.state(run(main(), 2)) == "active"
    assert list(door.cloud.books.images) == [IMAGE]
    door.balance()


def test_delete_wins_over_a_snapshot_at_any_moment() -> None:
    for seed in range(16):
        door = Door(seed, hosts=1)

        async def main(door: Door = door, seed: int = seed) -> None:
            await door.cloud.start()
            server_id = await door.create()
            await door.cloud.settle()
            await snap(door, server_id)
            await door.cloud.api_world.clock.sleep(random.Random(seed).random() * 2)
            await door.delete(server_id)
            await door.cloud.settle()

        run(main(), seed)
        door.balance()
        assert {image.status for image in door.cloud.books.images.values()} == {"active"}, seed
