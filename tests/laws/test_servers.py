"""The four laws for every operation on servers, with the real flows, agents, ledgers and bus."""

from __future__ import annotations

import random

import pytest

from kilonova.base.faults import unavailable
from kilonova.sim import books
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from tests.laws.servers import Door, do, kind_of, steps_of

# story → (how it ends, how it ends when a step failed)
ENDS = {
    "create": ("active", "error"),
    "stop": ("stopped", "active"),
    "start": ("active", "stopped"),
    "delete": ("deleted", "deleted"),
    "reboot": ("active", "active"),
    "reboot hard": ("active", "error"),
    "reboot hard when stopped": ("active", "error"),
    "pause": ("paused", "active"),
    "unpause": ("active", "paused"),
    "suspend": ("suspended", "active"),
    "resume": ("active", "suspended"),
    "changePassword": ("active", "active"),
    "softDelete": ("soft-delete", "active"),
    "restore": ("active", "soft-delete"),
    "resize": ("resized", "active"),
    "confirmResize": ("active", "active"),
    "revertResize": ("active", "active"),
    "rebuild": ("active", "active"),
    "rescue": ("rescued", "active"),
    "rescue when stopped": ("rescued", "stopped"),
    "unrescue": ("active", "rescued"),
}
VERBS = tuple(dict.fromkeys(kind_of(story) for story in ENDS))
PLANS = [(story, plan) for story in ENDS for plan in plans(kind_of(story), steps_of(story))]


@pytest.mark.parametrize(("story", "plan"), PLANS, ids=[f"{story}-{plan}" for story, plan in PLANS])
def test_four_laws(story: str, plan: Plan) -> None:
    door = Door(1, plan, hosts=1)
    server_id = run(do(door, story), 1)
    well, badly = ENDS[story]
    if (story, plan.at[0]) == ("reboot", "start"):
        badly = "error"  # the guest went down and did not come back
    if (story, plan.at[0]) == ("unrescue", "forget_rescue_disks"):
        badly = well  # the guest runs from its own disk already: the rescue disk is removed until it is gone
    assert door.state(server_id) == (badly if plan.how in ("fail", "undo twice") else well)
    door.balance()


def test_every_story_has_steps() -> None:
    """A plan for no step would prove nothing."""
    assert {story: len(steps_of(story)) > 0 for story in ENDS} == dict.fromkeys(ENDS, True)
    assert ("build_and_run_instance", 0) in steps_of("create")


@pytest.mark.parametrize("verb", ["ensure_image", "ensure_disks", "ensure_started"])
def test_a_host_that_fails_the_build_gives_way_to_the_next(verb: str) -> None:
    for seed in range(6):
        door = Door(seed, hosts=3)
        for host in door.cloud.hosts.values():
            host.machine.refuse(verb, unavailable("The disk is broken."), 1 if host.name != "node3" else 0)
        server_id = run(do(door, "create"), seed)
        assert door.state(server_id) == "active", seed
        door.balance()


def test_when_every_host_fails_the_fault_says_why_host_by_host() -> None:
    door = Door(5, hosts=2)
    for host in door.cloud.hosts.values():
        host.machine.refuse("ensure_started", unavailable("The guest did not start.", inside=f"{host.name}: qemu"), 9)

    async def main() -> dict[str, object]:
        server_id = await do(door, "create")
        return {who: (await door.client.as_(who).get(f"/v2.1/servers/{server_id}"))["server"] for who in
                ("member", "admin")}  # fmt: skip

    shown = run(main(), 5)
    told = shown["member"]["fault"]["message"]  # type: ignore[index]
    assert "Host 1: The guest did not start." in told
    assert "Host 2:" in told
    assert "node" not in str(shown["member"]["fault"])  # type: ignore[index]
    assert "node1: qemu" in shown["admin"]["fault"]["details"]  # type: ignore[index]
    door.balance()


def test_delete_at_any_moment_of_a_create_wins_and_leaves_nothing() -> None:
    for seed in range(40):
        door = Door(seed, faulty=seed % 2 == 0)

        async def main(door: Door = door, seed: int = seed) -> str:
            await door.cloud.start()
            server_id = await door.create()
            await door.cloud.api_world.clock.sleep(random.Random(seed).random() * 4)
            await door.delete(server_id)
            await door.cloud.settle()
            return server_id

        assert door.state(run(main(), seed)) == "deleted", seed
        door.balance()
        assert door.cloud.books.allocations == {} and door.cloud.books.ports == {}, seed


def test_a_silent_host_does_not_hold_up_a_delete_and_cleans_up_when_it_returns() -> None:
    door = Door(7, hosts=1)

    async def main() -> tuple[int, int]:
        server_id = await do(door, "create")
        door.cloud.crash_host("node1")
        await door.delete(server_id)
        await door.cloud.api_world.clock.sleep(32)
        gone = await door.client.send("GET", f"/v2.1/servers/{server_id}")
        held = len(door.cloud.books.allocations)
        await door.cloud.start_host("node1")
        await door.cloud.settle()
        return gone.status, held

    status, held = run(main(), 7)
    assert (status, held) == (404, 1)  # gone for the user; its room is held until the host has let go
    door.balance()
    assert door.cloud.guests() == {}


def test_a_host_that_falls_silent_while_it_builds_leaves_an_error_and_cleans_up_when_it_returns() -> None:
    for seed, task in enumerate(("networking", "spawning")):
        door = Door(seed, hosts=1)

        async def main(door: Door = door, task: str = task) -> tuple[str, str]:
            await door.cloud.start()
            server_id = await door.create()
            door.cloud.hosts["node1"].machine.verb_seconds = 0.5
            while door.state_of(server_id).task_state != task:
                await door.cloud.api_world.clock.sleep(0.01)
            door.cloud.crash_host("node1")
            await door.cloud.api_world.clock.sleep(900)
            meanwhile = door.state(server_id)
            await door.cloud.start_host("node1")
            await door.cloud.settle()
            return meanwhile, door.state(server_id)

        assert run(main(), seed) == ("error", "error"), seed
        door.balance()
        assert door.cloud.guests() == {} and door.cloud.books.ports == {}


def test_the_checker_sees_a_guest_without_a_server() -> None:
    door = Door(2, hosts=1)
    server_id = run(do(door, "create"), 2)
    machine = door.cloud.hosts["node1"].machine
    machine.guests["stray"] = machine.guests[server_id]
    with pytest.raises(AssertionError, match="guest"):
        books.balance(door.cloud)


@pytest.mark.parametrize("block", range(4))
def test_seeds_with_crashes_and_a_bad_network_balance(block: int) -> None:
    """Mixed work while messages are lost, late and doubled and conductors and agents die now and then."""
    for seed in range(block * 10, block * 10 + 10):
        door = Door(seed, hosts=3, faulty=True)

        async def main(door: Door = door, seed: int = seed) -> None:
            chance = random.Random(f"work {seed}")
            await door.cloud.start()
            servers: list[str] = []
            for number in range(6):
                servers.append(await door.create(f"s{number}"))
                await door.cloud.api_world.clock.sleep(chance.random() * 3)
                await _disturb(door, chance, servers)
            for name, host in door.cloud.hosts.items():
                if host.world is None:
                    await door.cloud.start_host(name)
            await door.cloud.settle()

        run(main(), seed)
        door.balance()


async def _disturb(door: Door, chance: random.Random, servers: list[str]) -> None:
    one = chance.choice(servers)
    if chance.random() < 0.4:
        verb = chance.choice(["os-stop", "os-start"])
        await door.client.send("POST", f"/v2.1/servers/{one}/action", {verb: None})
    if chance.random() < 0.3:
        await door.client.send("DELETE", f"/v2.1/servers/{one}")
    if chance.random() < 0.3:
        door.cloud.crash_conductors()
        await door.cloud.start_conductor()
    if chance.random() < 0.3:
        name = chance.choice(list(door.cloud.hosts))
        if door.cloud.hosts[name].world is not None:
            door.cloud.crash_host(name)
        else:
            await door.cloud.start_host(name)
