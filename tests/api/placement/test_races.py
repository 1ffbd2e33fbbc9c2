"""Capacity is never passed by racing claims, and the counted use is the sum of what is held, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.placement.contract import Inventory
from kilonova.placement.schema import allocation, inventory
from tests.api.placement.doors import HOST, OTHER_HOST, placement_client, placement_door

SERVERS = [pytest.param(name, marks=pytest.mark.cluster) for name in ("postgresql", "mariadb")]
ROOM = 7
CLAIMS = 30


@pytest.fixture(params=["sqlite", *SERVERS])
async def db(request: pytest.FixtureRequest, tmp_path: Path, world: LiveWorld) -> AsyncIterator[Database]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            database: Database = SqliteDatabase("placement", tmp_path / "placement.db", SystemClock())
        else:
            url = stack.enter_context(request.getfixturevalue(request.param).database())
            database = await server_database("placement", url, world)
        yield database
        await database.close()


def books(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """(what is counted as used, the sum of what is held), by provider."""
    counted = connection.execute(sa.select(inventory.c.provider_id, inventory.c.used))
    held = connection.execute(
        sa.select(allocation.c.provider_id, sa.func.sum(allocation.c.used)).group_by(allocation.c.provider_id)
    )
    return {row[0]: row[1] for row in counted}, {row[0]: int(row[1]) for row in held}


async def test_racing_claims_and_releases_keep_the_books(db: Database, world: LiveWorld) -> None:
    placement = placement_client(await placement_door(world, db), world)
    for host, name in ((HOST, "node1"), (OTHER_HOST, "node2")):
        await placement.ensure_provider(host, name, {"VCPU": Inventory(ROOM)}, [])
    consumers = [world.ids.uuid() for _ in range(CLAIMS)]
    won = await asyncio.gather(*(placement.claim(c, HOST, {"VCPU": 1}, "project", "user") for c in consumers))
    assert sum(won) == ROOM
    assert await db.read(books) == ({HOST: ROOM, OTHER_HOST: 0}, {HOST: ROOM})

    winners = [consumer for consumer, got in zip(consumers, won, strict=True) if got]
    moves = [placement.claim(c, OTHER_HOST, {"VCPU": 2}, "project", "user") for c in winners]
    gone = [placement.release(c) for c in winners[:3]]
    again = [placement.claim(c, HOST, {"VCPU": 1}, "project", "user") for c in consumers[:10]]
    await asyncio.gather(*moves, *gone, *again)
    counted, held = await db.read(books)
    assert {host: used for host, used in counted.items() if used} == held
    assert max(counted.values()) <= ROOM


async def test_racing_reports_and_claims_of_one_server_agree(db: Database, world: LiveWorld) -> None:
    placement = placement_client(await placement_door(world, db), world)
    book, traits = {"VCPU": Inventory(ROOM)}, ["COMPUTE_NODE", "CUSTOM_NEW"]
    both = [(HOST, "node1"), (OTHER_HOST, "node2")] * 4
    await asyncio.gather(*(placement.ensure_provider(host, name, book, traits) for host, name in both))
    server = world.ids.uuid()
    hosts = [host for host, _ in both]
    won = await asyncio.gather(*(placement.claim(server, host, {"VCPU": 2}, "project", "user") for host in hosts))
    assert all(won), "there is room for each of them"
    ((host, held),) = (await placement.allocations(server)).items()
    assert host in hosts
    assert held == {"VCPU": 2}
    counted, summed = await db.read(books)
    assert {name: used for name, used in counted.items() if used} == summed == {host: 2}
