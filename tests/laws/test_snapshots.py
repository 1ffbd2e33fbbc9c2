"""The four laws for images made of servers, and what a delete does midway."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kilonova.base.faults import unavailable
from kilonova.block_storage.contract import VolumeRef
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from kilonova.sim.peers import IMAGE
from tests.laws.servers import Door

VERBS = ("createImage", "createBackup")
ROOT, DATA = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))


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


# ── backups


async def back_up(door: Door, server_id: str, name: str, rotation: int = 2, kind: str = "daily") -> str:
    """The new image's id, once all is settled."""
    body = {"createBackup": {"name": name, "backup_type": kind, "rotation": rotation}}
    made = await door.client.post(f"/v2.1/servers/{server_id}/action", body, 202)
    await door.cloud.settle()
    return str(made["image_id"])


async def do_back_up(door: Door) -> tuple[str, str]:
    await door.cloud.start()
    server_id = await door.create()
    await door.cloud.settle()
    return server_id, await back_up(door, server_id, "copy")


def steps_of_backup() -> list[tuple[str, int]]:
    door = Door(0, Plan("createBackup"), hosts=1)
    run(do_back_up(door), 0)
    door.balance()
    return door.seams.steps


@pytest.mark.parametrize("plan", plans("createBackup", steps_of_backup()), ids=str)
def test_four_laws_of_backups(plan: Plan) -> None:
    door = Door(1, plan, hosts=1)
    server_id, image_id = run(do_back_up(door), 1)
    assert door.state(server_id) == "active"
    made = door.cloud.books.images.get(image_id)
    if plan.how in ("fail", "undo twice") and plan.at[0] != "delete_older":  # that one is asked for until it is done
        assert made is None
    else:
        assert made is not None and made.status == "active"
        assert (made.properties["image_type"], made.properties["backup_type"]) == ("backup", "daily")
    door.balance()


def test_only_the_newest_backups_of_their_kind_and_server_are_kept() -> None:
    door = Door(6, hosts=1)

    async def main() -> None:
        await door.cloud.start()
        server_id, other = await door.create(), await door.create()
        await door.cloud.settle()
        kept = [await back_up(door, other, "other's"), await back_up(door, server_id, "weekly", kind="weekly")]
        made = [await back_up(door, server_id, f"day {number}") for number in range(4)]
        there = set(door.cloud.books.images) - {IMAGE}
        assert there == {*kept, *made[-2:]}
        await back_up(door, server_id, "none", rotation=0)
        assert set(door.cloud.books.images) - {IMAGE} == set(kept)
        for wrong in ({"rotation": -1}, {"rotation": "x"}, {"backup_type": ""}, {"name": ""}):
            body = {"createBackup": {"name": "n", "backup_type": "daily", "rotation": 1} | wrong}
            await door.client.post(f"/v2.1/servers/{server_id}/action", body, 400)

    run(main(), 6)
    door.balance()


def test_a_server_on_volumes_is_not_backed_up() -> None:
    door = Door(7, hosts=1)

    async def main() -> None:
        server_id = await on_volumes(door)
        body = {"createBackup": {"name": "n", "backup_type": "daily", "rotation": 1}}
        await door.client.post(f"/v2.1/servers/{server_id}/action", body, 400)

    run(main(), 7)
    door.balance()


# ── of a server that boots from a volume


async def on_volumes(door: Door) -> str:
    """A server with two volumes."""
    await door.cloud.start()
    for volume_id in (ROOT, DATA):
        door.cloud.books.volumes[volume_id] = VolumeRef(volume_id, "v", "available", 2, True, False, "nova")
    mapping = [
        {"source_type": "volume", "uuid": ROOT, "destination_type": "volume", "boot_index": 0},
        {"source_type": "volume", "uuid": DATA, "destination_type": "volume", "boot_index": -1, "tag": "data"},
    ]
    server_id = await door.create(imageRef="", block_device_mapping_v2=mapping)
    await door.cloud.settle()
    return server_id


async def do_on_volumes(door: Door) -> tuple[str, str]:
    server_id = await on_volumes(door)
    image_id = await snap(door, server_id)
    await door.cloud.settle()
    return server_id, image_id


def steps_on_volumes() -> list[tuple[str, int]]:
    door = Door(0, Plan("createImage"), hosts=1)
    run(do_on_volumes(door), 0)
    door.balance()
    return door.seams.steps


@pytest.mark.parametrize("plan", plans("createImage", steps_on_volumes()), ids=str)
def test_four_laws_on_volumes(plan: Plan) -> None:
    door = Door(1, plan, hosts=1)
    server_id, image_id = run(do_on_volumes(door), 1)
    assert door.state(server_id) == "active"
    books = door.cloud.books
    made = books.images.get(image_id)
    if plan.how in ("fail", "undo twice"):
        assert made is None and books.snapshots == {}
    else:
        assert made is not None and made.status == "active"
        told = json.loads(made.properties["block_device_mapping"])
        assert [one["boot_index"] for one in told] == [0, -1]
        assert {one["snapshot_id"] for one in told} == set(books.snapshots)
        assert {books.snapshots[one["snapshot_id"]].volume_id for one in told} == {ROOT, DATA}
    door.balance()


def test_a_server_of_such_an_image_has_volumes_of_its_own() -> None:
    door = Door(4, hosts=1)

    async def main() -> str:
        _, image_id = await do_on_volumes(door)
        other = await door.create(imageRef=image_id)
        await door.cloud.settle()
        shown = (await door.client.get(f"/v2.1/servers/{other}"))["server"]
        assert (shown["status"], shown["image"]) == ("ACTIVE", "")
        refused = {"rebuild": {"imageRef": image_id}}
        await door.client.post(f"/v2.1/servers/{other}/action", refused, 400)
        return other

    other = run(main(), 4)
    devices = door.cloud.devices(other)
    assert [device.source_type for device in devices] == ["snapshot", "snapshot"]
    assert not {device.volume_id for device in devices} & {ROOT, DATA}
    assert devices[1].tag == "data"
    door.balance()


def test_a_paused_guest_stays_so_and_a_stopped_one_is_not_started() -> None:
    for verb, state in (("pause", "paused"), ("os-stop", "stopped")):
        door = Door(5, hosts=1)

        async def main(door: Door = door, verb: str = verb) -> str:
            server_id = await on_volumes(door)
            await door.act(server_id, verb)
            await door.cloud.settle()
            await snap(door, server_id)
            await door.cloud.settle()
            return server_id

        assert door.state(run(main(), 5)) == state
        assert len(door.cloud.books.snapshots) == 2
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
