"""The four laws for disks and NICs that come and go, and what delete does to them midway."""

from __future__ import annotations

import asyncio
import random

import pytest

from kilonova.base.faults import conflict, unavailable
from kilonova.block_storage.contract import VolumeRef
from kilonova.compute.server import addresses
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from tests.laws.servers import Door

VOLUME = "00000000-0000-4000-8000-00000000001{}"
VERBS = ("attach_volume", "detach_volume", "attach_interface", "detach_interface")


def add_volume(door: Door, number: int = 0) -> str:
    """An available volume."""
    volume_id = VOLUME.format(number)
    door.cloud.books.volumes[volume_id] = VolumeRef(volume_id, "v", "available", 1, False, False, "nova")
    return volume_id


async def attach(door: Door, server_id: str, volume_id: str, status: int = 200) -> None:
    body = {"volumeAttachment": {"volumeId": volume_id}}
    await door.client.post(f"/v2.1/servers/{server_id}/os-volume_attachments", body, status)


async def detach(door: Door, server_id: str, volume_id: str, status: int = 202) -> None:
    await door.client.delete(f"/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}", status)


async def plug_nic(door: Door, server_id: str) -> str:
    """The new port; "" when the attach failed."""
    answer = await door.client.send("POST", f"/v2.1/servers/{server_id}/os-interface", {"interfaceAttachment": {}})
    return str(answer.json()["interfaceAttachment"]["port_id"]) if answer.status == 200 else ""


async def do_nic(door: Door, verb: str) -> tuple[str, str]:
    """(server, port that came or went) after `verb`, once all is settled."""
    await door.cloud.start()
    server_id = await door.create()
    await door.cloud.settle()
    doing = asyncio.create_task(plug_nic(door, server_id))
    await door.cloud.api_world.clock.sleep(2)
    await door.cloud.settle()
    port_id = await doing
    if verb == "detach_interface":
        await door.client.delete(f"/v2.1/servers/{server_id}/os-interface/{port_id}", 202)
        await door.cloud.settle()
    return server_id, port_id


async def do(door: Door, verb: str) -> tuple[str, str]:
    """(server, volume or port) after `verb`, once all is settled."""
    if verb.endswith("interface"):
        return await do_nic(door, verb)
    await door.cloud.start()
    server_id = await door.create()
    volume_id = add_volume(door)
    await door.cloud.settle()
    await attach(door, server_id, volume_id)
    await door.cloud.settle()
    if verb == "detach_volume":
        await detach(door, server_id, volume_id)
        await door.cloud.settle()
    return server_id, volume_id


def steps_of(verb: str) -> list[tuple[str, int]]:
    door = Door(0, Plan(verb), hosts=1)
    run(do(door, verb), 0)
    door.balance()
    return door.seams.steps


def has(door: Door, server_id: str) -> list[str]:
    """Volumes that the guest has."""
    spec = door.cloud.hosts["node1"].machine.guests[server_id].spec
    return [disk.serial for disk in spec.disks if len(disk.serial) == 36]


@pytest.mark.parametrize("plan", [plan for verb in VERBS for plan in plans(verb, steps_of(verb))], ids=str)
def test_four_laws(plan: Plan) -> None:
    door = Door(1, plan, hosts=1)
    server_id, volume_id = run(do(door, plan.kind), 1)
    failed = plan.how in ("fail", "undo twice")
    door.balance()
    if plan.kind.endswith("interface"):
        nics = 2 if (plan.kind == "attach_interface") != failed else 1
        assert len(door.cloud.hosts["node1"].machine.guests[server_id].spec.nics) == nics
        assert len(door.state_of(server_id).ports) == len(door.cloud.books.ports) == nics
        return
    attached = (plan.kind == "attach_volume") != failed
    assert door.cloud.books.volumes[volume_id].status == ("in-use" if attached else "available")
    assert has(door, server_id) == ([volume_id] if attached else [])
    assert door.state(server_id) == "active"
    door.balance()


def test_a_guest_that_does_not_let_go_keeps_its_disk() -> None:
    door = Door(3, hosts=1)

    async def main() -> tuple[str, str]:
        server_id, volume_id = await do(door, "attach_volume")
        machine = door.cloud.hosts["node1"].machine
        machine.refuse("detach_disk", conflict("The guest does not let go of the disk."))
        await detach(door, server_id, volume_id)
        await door.cloud.settle()
        return server_id, volume_id

    server_id, volume_id = run(main(), 3)
    assert has(door, server_id) == [volume_id]
    assert door.cloud.books.volumes[volume_id].status == "in-use"
    door.balance()


def test_a_refused_volume_leaves_nothing_in_the_record() -> None:
    door = Door(4, hosts=1)

    async def main() -> str:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        volume_id = add_volume(door)
        door.cloud.books.refuse["reserve"] = [conflict("Volume is reserved by another.")]
        await attach(door, server_id, volume_id, 400)
        await door.cloud.settle()
        return server_id

    server_id = run(main(), 4)
    assert [one.volume_id for one in door.cloud.devices(server_id) if one.volume_id] == []
    door.balance()


def test_a_reservation_without_an_answer_is_made_good() -> None:
    door = Door(5, hosts=1)

    async def main() -> str:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        door.cloud.books.refuse["reserve"] = [unavailable("Block storage did not answer.")]
        await attach(door, server_id, add_volume(door))
        await door.cloud.settle()
        return server_id

    assert len(has(door, run(main(), 5))) == 1
    door.balance()


@pytest.mark.parametrize("refused", ["bind", "attach_nic"])
def test_a_record_that_is_compared_while_an_attach_is_undone_does_not_keep_its_port(refused: str) -> None:
    """Also when nobody knows whether there is a port: then the undo makes one, to throw it away."""
    door = Door(6, hosts=1)

    async def main() -> str:
        await door.cloud.start()
        server_id = await door.create()
        await door.cloud.settle()
        if refused == "bind":
            door.cloud.books.refuse["bind"] = [conflict("Network has no answer to that.")]
        else:
            door.cloud.hosts["node1"].machine.refuse("attach_nic", conflict("The guest has no slot left."))
        away = door.cloud.books.refuse["release_port"] = [unavailable("Network did not answer.")] * 4
        doing = asyncio.create_task(plug_nic(door, server_id))
        while len(away) == 4:
            await door.cloud.api_world.clock.sleep(0.1)
        await addresses.refresh(door.cloud.api, server_id)
        await door.cloud.settle()
        assert (await doing, away) == ("", [])
        return server_id

    server_id = run(main(), 6)
    assert len(door.state_of(server_id).ports) == len(door.cloud.books.ports) == 1
    door.balance()


def test_delete_wins_over_an_attach_and_a_detach_at_any_moment() -> None:
    for seed in range(40):
        door = Door(seed, hosts=2, faulty=seed % 2 == 0)

        async def main(door: Door = door, seed: int = seed) -> str:
            chance = random.Random(seed)
            await door.cloud.start()
            server_id = await door.create()
            await door.cloud.settle()
            volume_id = add_volume(door)
            if door.state(server_id) != "active":  # the bad network spoilt the create
                return volume_id
            await attach(door, server_id, volume_id)
            if seed % 3 == 0:
                await door.cloud.settle()
                await door.client.send("DELETE", f"/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}")
            await door.cloud.api_world.clock.sleep(chance.random() * 2)
            await door.delete(server_id)
            await door.cloud.settle()
            return volume_id

        volume_id = run(main(), seed)
        door.balance()
        assert door.cloud.books.attachments == {}, seed
        assert door.cloud.books.volumes[volume_id].status == "available", seed


def test_many_disks_at_once_beside_stop_and_start() -> None:
    """Terraform attaches all of a server's volumes at the same time; nobody waits for anybody."""
    for seed in range(20):
        door = Door(seed, hosts=1, faulty=seed % 2 == 0)

        async def main(door: Door = door, seed: int = seed) -> str:
            chance = random.Random(seed)
            await door.cloud.start()
            server_id = await door.create()
            await door.cloud.settle()
            if door.state(server_id) != "active":
                return ""
            volumes = [add_volume(door, number) for number in range(4)]
            for volume_id in volumes:
                await attach(door, server_id, volume_id)
                await door.cloud.api_world.clock.sleep(chance.random() * 0.3)
            await door.act(server_id, "os-stop")
            await door.cloud.settle()
            await door.client.send("DELETE", f"/v2.1/servers/{server_id}/os-volume_attachments/{volumes[0]}")
            await door.client.send("POST", f"/v2.1/servers/{server_id}/action", {"os-start": None})
            await door.cloud.settle()
            return server_id

        server_id = run(main(), seed)
        door.balance()
        if seed % 2 == 1:
            assert len(has(door, server_id)) == 3, seed
        names = [one.device_name for one in door.cloud.devices(server_id)]
        assert len(set(names)) == len(names), names
        door.balance()


def test_delete_wins_over_a_nic_on_its_way() -> None:
    for seed in range(20):
        door = Door(seed, hosts=2, faulty=seed % 2 == 0)

        async def main(door: Door = door, seed: int = seed) -> None:
            await door.cloud.start()
            server_id = await door.create()
            await door.cloud.settle()
            if door.state(server_id) != "active":
                return
            doing = asyncio.create_task(plug_nic(door, server_id))
            await door.cloud.api_world.clock.sleep(random.Random(seed).random() * 2)
            await door.delete(server_id)
            await door.cloud.settle()
            await doing

        run(main(), seed)
        door.balance()
        assert {port.server_id for port in door.cloud.books.ports.values()} <= {""}, seed
