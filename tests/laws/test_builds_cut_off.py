"""A host builds a server in one step: image, port, volume, disks, guest. Whatever cuts that off at any moment of it,
what was made is found again, or goes."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.sim.loop import run
from kilonova.sim.peers import IMAGE
from kilonova.trace.spans import RING
from tests.laws.servers import Door

VERB_SECONDS = 0.4
MOMENTS = [0.1 + 0.2 * number for number in range(12)]  # of a build that takes two seconds
ROOT_VOLUME = {
    "boot_index": 0, "uuid": IMAGE, "source_type": "image", "destination_type": "volume", "volume_size": 1,
    "delete_on_termination": True,
}  # fmt: skip
WITH_A_VOLUME: dict[str, Any] = {"imageRef": "", "block_device_mapping_v2": [ROOT_VOLUME]}


async def _begun(door: Door, after_seconds: float, more: dict[str, Any]) -> str:
    """A server that has been under way for so long on a host that takes its time."""
    await door.cloud.start()
    door.cloud.hosts["node1"].machine.verb_seconds = VERB_SECONDS
    server_id = await door.create(**more)
    await door.cloud.api_world.clock.sleep(after_seconds)
    return server_id


@pytest.mark.parametrize("more", [{}, WITH_A_VOLUME], ids=["image", "volume"])
def test_a_host_that_dies_goes_on_when_it_is_back(more: dict[str, Any]) -> None:
    tasks = set()
    for seed, moment in enumerate(MOMENTS):
        door = Door(seed, hosts=1)

        async def main(door: Door = door, moment: float = moment) -> str:
            server_id = await _begun(door, moment, more)
            tasks.add(door.state_of(server_id).task_state)
            door.cloud.crash_host("node1")
            await door.cloud.start_host("node1")
            await door.cloud.settle()
            return server_id

        server = door.state_of(run(main(), seed))
        assert (server.vm_state, len(server.ports)) == ("active", 1), moment
        door.balance()
    assert {"networking", "spawning", ""} <= tasks  # it died early, late, and when all was done


@pytest.mark.parametrize("more", [{}, WITH_A_VOLUME], ids=["image", "volume"])
@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_server_that_is_deleted_meanwhile_leaves_nothing(dies: bool, more: dict[str, Any]) -> None:
    for seed, moment in enumerate(MOMENTS):
        door = Door(seed, hosts=1)

        async def main(door: Door = door, moment: float = moment) -> str:
            server_id = await _begun(door, moment, more)
            if dies:
                door.cloud.crash_host("node1")
            await door.delete(server_id)
            if dies:
                await door.cloud.start_host("node1")
            await door.cloud.settle()
            return server_id

        assert door.state(run(main(), seed)) == "deleted", moment
        door.balance()
        held = door.cloud.books
        assert (held.ports, held.allocations, held.volumes, door.cloud.guests()) == ({}, {}, {}, {}), moment


def test_users_see_how_far_a_long_build_has_come() -> None:
    door = Door(4, hosts=1)
    seen: list[str] = []

    async def main() -> None:
        server_id = await _begun(door, 0, {})
        while door.state(server_id) != "active":
            if (task := door.state_of(server_id).task_state) not in seen[-1:]:
                seen.append(task)
            await door.cloud.api_world.clock.sleep(0.05)

    run(main(), 4)
    assert seen == ["scheduling", "networking", "spawning"]


def test_a_short_build_asks_once_for_the_record_and_tells_of_no_phase() -> None:
    door = Door(3, hosts=1)

    async def main() -> None:
        await door.cloud.start()
        await door.create()
        await door.cloud.settle()

    RING.spans.clear()
    run(main(), 3)
    sent = [span.name for span in RING.spans if span.kind in ("call", "cast")]
    assert (sent.count("server_for_host"), sent.count("step_progress")) == (1, 0)
