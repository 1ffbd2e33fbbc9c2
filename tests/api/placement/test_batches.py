"""Claims by the batch, the feed of changes, and mirrors that follow it: alike on every database, exact under races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault
from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.placement.client import PlacementClient
from kilonova.placement.contract import ClaimRequest, Inventory, ProviderBooks
from kilonova.placement.mirror.books import Mirror
from kilonova.placement.mirror.keeper import Keeper
from tests.api.placement.doors import HOST, OTHER_HOST, SERVER, placement_client, placement_door
from tests.api.placement.test_races import books

SERVERS = [pytest.param(name, marks=pytest.mark.cluster) for name in ("postgresql", "mariadb")]
BOOKS = {"VCPU": Inventory(4, allocation_ratio=2.0), "MEMORY_MB": Inventory(4096, max_unit=2048, step_size=256)}
PROCESSES = 4


@pytest.fixture(params=["sqlite", *SERVERS])
async def processes(request: pytest.FixtureRequest, tmp_path: Path, world: LiveWorld) -> AsyncIterator[list[Database]]:
    """One database as several processes see it: each has connections (and, on SQLite, a writer) of its own."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            path = tmp_path / "placement.db"
            made: list[Database] = [SqliteDatabase("placement", path, SystemClock()) for _ in range(PROCESSES)]
        else:
            url = stack.enter_context(request.getfixturevalue(request.param).database())
            made = [await server_database("placement", url, world, pool_size=4) for _ in range(PROCESSES)]
        yield made
        for database in made:
            await database.close()


@pytest.fixture
async def clients(processes: list[Database], world: LiveWorld) -> list[PlacementClient]:
    made = [placement_client(await placement_door(world, db), world) for db in processes]
    for host, name in ((HOST, "node1"), (OTHER_HOST, "node2")):
        await made[0].ensure_provider(host, name, BOOKS, ["COMPUTE_NODE", "CUSTOM_FAST"] if host == HOST else [])
    return made


def claim(consumer_id: str, host: str = HOST, vcpus: int = 1, **more: int) -> ClaimRequest:
    return ClaimRequest(consumer_id, "project", "user", {host: {"VCPU": vcpus, **more}})


async def same(mirror: Mirror, placement: PlacementClient) -> None:
    """The mirror, fed by changes, holds what a new one reads whole."""
    fresh = Mirror()
    mirror.apply(await placement.changes(mirror.position))
    fresh.apply(await placement.changes(""))

    def told(one: Mirror) -> dict[str, ProviderBooks]:
        return {books.id: books for books in one.books if books is not None}

    assert told(mirror) == told(fresh)
    for name, column in fresh.columns.items():
        for id_, slot in fresh.slots.items():
            other = mirror.slots[id_]
            assert mirror.columns[name].used[other] == column.used[slot]
            assert mirror.columns[name].capacity[other] == column.capacity[slot]


async def test_each_claim_of_a_batch_stands_or_fails_alone(clients: list[PlacementClient], world: LiveWorld) -> None:
    placement, other = clients[0], clients[1]
    ids = [world.ids.uuid() for _ in range(8)]
    nobody = world.ids.uuid()
    results = await placement.claim_many(
        [
            claim(ids[0], vcpus=6),
            claim(ids[1], vcpus=3),
            claim(ids[2], vcpus=2),
            claim(ids[3], nobody),
            claim(ids[4], OTHER_HOST, VGPU=1),
            claim(ids[5], OTHER_HOST, MEMORY_MB=100),
            claim(ids[6], OTHER_HOST, MEMORY_MB=4096),
            ClaimRequest(ids[7], "project", "user", {OTHER_HOST: {"VCPU": 1}}, consumer_generation=3),
        ]
    )
    assert [result.consumer_id for result in results] == ids
    assert [result.reason for result in results] == [
        "", "no_room", "", "no_provider", "no_inventory", "bad_amount", "bad_amount", "changed",
    ]  # fmt: skip
    refused = results[1]
    assert (refused.provider_id, refused.resource_class, refused.wanted, refused.free) == (HOST, "VCPU", 3, 2)
    assert await other.consumers_on(HOST) == sorted([ids[0], ids[2]])
    again = await other.claim_many([claim(ids[0], vcpus=6), ClaimRequest(ids[2], "project", "user", {})])
    assert all(result.stands for result in again), "what is held already is granted again; nothing gives all back"
    assert await placement.allocations(ids[2]) == {}
    moved = await placement.claim_many([claim(ids[0], OTHER_HOST, vcpus=8), claim(ids[1], vcpus=8)])
    assert all(result.stands for result in moved), "what moves away makes room in the same batch"


async def test_a_mirror_follows_whatever_happens(clients: list[PlacementClient], world: LiveWorld) -> None:
    placement, mirror = clients[0], Mirror()
    await same(mirror, placement)
    before = mirror.snapshot
    await same(mirror, placement)
    assert mirror.snapshot == before, "nothing happened"
    servers = [world.ids.uuid() for _ in range(6)]
    for number, server in enumerate(servers):
        await clients[number % PROCESSES].claim(server, (HOST, OTHER_HOST)[number % 2], {"VCPU": 1}, "p", "u")
    await same(mirror, placement)
    assert mirror.columns["VCPU"].used[mirror.slots[HOST]] == 3
    await clients[1].release(servers[0])
    await clients[2].ensure_provider(HOST, "renamed", {**BOOKS, "DISK_GB": Inventory(5)}, [])
    await same(mirror, placement)
    assert mirror.room("DISK_GB", 5).sum() == 1 and not mirror.having("CUSTOM_FAST").any()
    for number in range(100):  # more than it had room for
        await placement.ensure_provider(world.ids.uuid(), f"more{number}", {"VCPU": Inventory(1)}, [])
    await same(mirror, placement)
    assert mirror.size == 102
    with pytest.raises(Fault, match="since"):
        await placement.changes("nonsense")


async def test_a_provider_that_is_as_said_is_asked_about_once_and_not_written(clients: list[PlacementClient]) -> None:
    placement = clients[0]
    position = (await placement.changes("")).position
    await placement.ensure_provider(HOST, "node1", dict(BOOKS), ["CUSTOM_FAST", "COMPUTE_NODE"])
    assert (await placement.changes(position)).position == position
    for name, books_, traits in (
        ("other", BOOKS, ["COMPUTE_NODE"]),
        ("other", {"VCPU": Inventory(2)}, ["COMPUTE_NODE"]),
        ("other", {"VCPU": Inventory(2)}, ["CUSTOM_NEW"]),
    ):
        await placement.ensure_provider(HOST, name, books_, traits)
        told = {one.id: one for one in (await placement.changes("")).providers}[HOST]
        assert (told.name, told.inventories, list(told.traits)) == (name, books_, traits)


async def test_many_processes_claim_on_their_mirrors(
    clients: list[PlacementClient], processes: list[Database], world: LiveWorld
) -> None:
    hosts = [world.ids.uuid() for _ in range(5)]
    for number, host in enumerate(hosts):
        await clients[0].ensure_provider(host, f"host{number}", {"VCPU": Inventory(20)}, ["STORAGE_DISK_SSD"])
    stood = 0

    async def schedule(placement: PlacementClient) -> None:
        """As a scheduler does: decide for eight servers on one snapshot, claim, and try those that lost again."""
        nonlocal stood
        keeper = Keeper(placement.changes)
        waiting = [world.ids.uuid() for _ in range(40)]
        while waiting:
            mirror = await keeper.current()
            fits = (mirror.room("VCPU", 1) & mirror.having("STORAGE_DISK_SSD")).nonzero()[0]
            if not len(fits):
                return
            chosen = [mirror.at(int(world.random.choice(fits))).id for _ in waiting[:8]]
            results = await placement.claim_many(
                [claim(id_, host) for id_, host in zip(waiting[:8], chosen, strict=True)]
            )
            won = {result.consumer_id for result in results if result.stands}
            stood += len(won)
            waiting = [id_ for id_ in waiting if id_ not in won]

    await asyncio.gather(*(schedule(placement) for placement in clients))
    assert stood == 100, "160 wanted, 100 fit, nobody was left out while there was room"
    _, held = await processes[0].read(books)
    assert {host: held[host] for host in hosts} == dict.fromkeys(hosts, 20)


async def test_a_keeper_answers_many_with_one_reading(clients: list[PlacementClient]) -> None:
    asked = 0

    async def changes(since: str) -> object:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return await clients[0].changes(since)

    keeper = Keeper(changes)  # type: ignore[arg-type]
    mirrors = await asyncio.gather(*(keeper.current() for _ in range(20)))
    assert len({id(mirror) for mirror in mirrors}) == 1
    assert asked <= 2, "those that came while one was reading share the next"
    await clients[1].claim(SERVER, HOST, {"VCPU": 1}, "p", "u")
    mirror = await keeper.current()
    assert mirror.columns["VCPU"].used[mirror.slots[HOST]] == 1, "what was committed before is seen"


async def test_claims_on_known_books_stand_only_while_nothing_else_happened(
    clients: list[PlacementClient], world: LiveWorld
) -> None:
    placement, other, ids = clients[0], clients[1], [world.ids.uuid() for _ in range(4)]
    mirror = Mirror()
    mirror.apply(await placement.changes(""))
    for consumer_id in ids[:2]:
        claimed = await placement.claim_as_known(mirror.position, [claim(consumer_id)])
        assert [result.stands for result in claimed.results] == [True]
        mirror.apply(claimed.changes)
        await same(mirror, placement)

    before = mirror.position
    await other.release(ids[0])
    late = await placement.claim_as_known(before, [claim(ids[2])])
    assert late.results == ()
    assert await placement.allocations(ids[2]) == {}
    late = await placement.claim_as_known(before, [claim(ids[2])], even_if_changed=True)
    assert [result.stands for result in late.results] == [True]
    mirror.apply(late.changes)
    await same(mirror, placement)
    too_much = await placement.claim_as_known(mirror.position, [claim(ids[2]), claim(ids[3], vcpus=100)])
    assert [result.reason for result in too_much.results] == ["", "no_room"]
    mirror.apply(too_much.changes)
    await same(mirror, placement)
    assert (await placement.claim_as_known("1000000", [claim(ids[3])])).results == (), "of another database"
