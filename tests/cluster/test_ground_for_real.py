"""Proof 1 for real: the lamp service as processes over RabbitMQ and a database server, killed with kill -9."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from kilonova.base.world import LiveWorld
from kilonova.db.server import ServerDatabase
from tests.cluster.house import House
from tests.laws import lamp
from tests.services import RabbitMQ

pytestmark = pytest.mark.cluster


async def make_tables(url: str) -> None:
    world = LiveWorld("setup")
    db = ServerDatabase("house", url, world)
    await db.write(lamp.metadata.create_all)
    await db.close()
    await world.close()


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ
) -> Iterator[House]:
    server = request.getfixturevalue(request.param)
    with server.database() as url:
        asyncio.run(make_tables(url))
        made = House(tmp_path_factory.mktemp("house"), rabbitmq, server, url)
        try:
            yield made
        finally:
            made.close()


PLACES = [
    "keeper before ask_permit",
    "keeper after note_permit",
    "keeper after screw_in",
    "keeper before light",
    "agent before screw_in",
    "agent worked light",
    "agent telling",
]


async def test_killed_at_any_place_the_lamp_burns(house: House) -> None:
    """Each of seven lamps has its own place of death; keepers and agent are started again as they die."""
    async with house.door() as door:
        for number, place in enumerate(PLACES):
            house.order(place)
            await door.ask("light", f"p{number}")
            await door.settle()
            assert house.died() == {place}
        assert set((await door.states()).values()) == {"lit"}
        assert door.done("light", "p6") == 1  # its end was in the ledger: told again, not done again
        await door.check_books()


async def test_keeper_and_agent_killed_together(house: House) -> None:
    async with house.door() as door:
        house.order("agent worked screw_in")
        await door.ask("light", "both")
        await door.wait(10, house.died)
        house.kill_keepers()
        await door.settle()
        assert (await door.states())["both"] == "lit"
        await door.check_books()


async def test_a_paused_keeper_that_returns_writes_nothing(house: House) -> None:
    async with house.door() as door:
        operation_id = await door.ask("light", "paused")
        mine = sa.select(lamp.journal.operations).where(lamp.journal.operations.c.id == operation_id)

        async def owner() -> str:
            return str((await door.operations(mine))[0]["owner"]).partition("/")[0]

        await door.wait(10, owner)
        paused = await owner()
        house.keepers[paused].send_signal(signal.SIGSTOP)
        try:
            await door.settle()
            before = await door.journal()
            taken = [row for row in before[0] if row["id"] == operation_id]
            assert taken[0]["epoch"] >= 2, "the pause came too late: nobody had to take over"
        finally:
            house.keepers[paused].send_signal(signal.SIGCONT)
        await door.world.clock.sleep(1.5)
        assert await door.journal() == before
        assert (await door.states())["paused"] == "lit"
        assert door.done("light", "paused") == 1
        await door.check_books()


async def test_remove_while_it_is_lit_wins(house: House) -> None:
    chance = random.Random(1)
    async with house.door() as door:
        for number in range(6):
            await door.ask("light", f"gone{number}")
            await door.world.clock.sleep(chance.random() * 0.5)
            await door.ask("remove", f"gone{number}")
        await door.settle()
        assert not [one for one in await door.states() if one.startswith("gone")]
        await door.check_books()


async def test_the_broker_dies_meanwhile(house: House) -> None:
    async with house.door() as door:
        for number in range(4):
            await door.ask("light", f"broker{number}")
        await asyncio.to_thread(house.broker.restart, kill=True)
        await door.settle(60)
        states = await door.states()
        assert {states[f"broker{number}"] for number in range(4)} == {"lit"}
        await door.check_books()


async def test_the_database_dies_meanwhile_and_nothing_is_undone(house: House) -> None:
    async with house.door() as door:
        for number in range(4):
            await door.ask("light", f"database{number}")
        await door.world.clock.sleep(0.2)
        await asyncio.to_thread(house.server.restart, kill=True)
        await door.settle(60)
        states = await door.states()
        assert {states[f"database{number}"] for number in range(4)} == {"lit"}
        await door.check_books()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 8))])
async def test_a_storm_of_kills_balances(house: House, seed: int) -> None:
    """20 lamps, some removed, while keepers and agent are killed at random moments."""
    chance = random.Random(seed)
    async with house.door() as door:
        names = [f"storm{seed}-{number}" for number in range(20)]
        removed = set()
        for name in names:
            await door.ask("light", name)
            await door.world.clock.sleep(chance.random() * 0.1)
            if chance.random() < 0.4:
                await door.ask("remove", name)
                removed.add(name)
            if chance.random() < 0.25:
                chance.choice([house.kill_agent, next(iter(house.keepers.values())).kill])()
                await house.tend()
        await door.settle(90)
        states = await door.states()
        assert {name for name in names if name in states} == set(names) - removed
        assert {states[name] for name in set(names) - removed} == {"lit"}
        await door.check_books()
