"""Proof 1: one host operation through saga, database, bus and ledger obeys the four laws, in simulation."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa

from kilonova.bus.memory import MemoryBroker, MemoryBus, SeededFaults
from kilonova.db.inline import InlineDatabase
from kilonova.saga.seal import Sealer
from kilonova.sim.laws import LawSeams, Plan, plans
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld
from tests.laws import lamp

SEALER = Sealer([Sealer.new_key()])


class House:
    """A house in simulation: a database, two keepers, a room agent with its ledger, an API process."""

    def __init__(self, seed: int, plan: Plan, *, faulty: bool = False) -> None:
        self.seed = seed
        faults = SeededFaults(random.Random(seed), loss=0.05, delay=0.3, double=0.1) if faulty else None
        self.broker = MemoryBroker(faults=faults)
        self.api = SimWorld("api", seed)
        self.db = InlineDatabase("house", self.api.clock)
        lamp.metadata.create_all(self.db.engine)
        self.ledger = InlineDatabase("ledger", self.api.clock)
        self.room = lamp.Room(sockets={}, lit=set(), work={})
        self.seams = LawSeams(plan, self.crash_keepers)
        self.keepers: list[SimWorld] = []
        self.agent = SimWorld("agent", seed)
        self.born = 0

    async def start(self) -> None:
        await self.start_keeper()
        await self.start_agent()

    async def start_keeper(self) -> None:
        self.born += 1
        world = SimWorld(f"keeper{self.born}", self.seed)
        self.keepers.append(world)
        db = self.db.seen_by(world.seam, world.seam)
        await lamp.start_keeper(world, db, MemoryBus(world, self.broker, "keeper"), SEALER, self.seams)

    async def start_agent(self) -> None:
        self.born += 1
        self.agent = world = SimWorld(f"agent{self.born}", self.seed)
        ledger = self.ledger.seen_by(world.seam, world.seam)
        await lamp.start_room(world, ledger, MemoryBus(world, self.broker, "room.attic"), self.room)

    def crash_keepers(self) -> None:
        for world in self.keepers:
            world.crash()
            self.broker.lose(world)
        self.keepers.clear()

    def crash_agent(self) -> None:
        self.agent.crash()
        self.broker.lose(self.agent)

    async def ask(self, kind: str, lamp_id: str) -> str:
        return await lamp.ask(self.api, self.db, MemoryBus(self.api, self.broker, "api"), kind, lamp_id)

    async def settle(self, limit_seconds: float = 900) -> None:
        """Until no operation is unfinished; a keeper is there again whenever none is."""
        end = self.api.clock.monotonic() + limit_seconds
        while self.api.clock.monotonic() < end:
            await self.api.clock.sleep(1)
            if not self.keepers:
                await self.start_keeper()
            if not await self.db.read(lambda c: c.scalar(self.unfinished)):
                return
        raise AssertionError(f"unfinished after {limit_seconds} s: {self.rows()}")

    unfinished = sa.select(sa.func.count()).where(lamp.journal.operations.c.state.not_in(("done", "failed")))

    def rows(self) -> list[tuple[object, ...]]:
        with self.db.engine.connect() as c:
            return [tuple(r) for r in c.execute(sa.select(lamp.lamps))]

    def check_books(self) -> None:
        """What the database says and what the room holds agree; nothing is half done or left over."""
        with self.db.engine.connect() as c:
            states = dict(c.execute(sa.select(lamp.lamps.c.id, lamp.lamps.c.state)).all())
            tasks = set(c.scalars(sa.select(lamp.lamps.c.task)))
            permits = set(c.scalars(sa.select(lamp.permits.c.lamp_id)))
        lit = {one for one, state in states.items() if state == "lit"}
        assert set(states.values()) <= {"lit", "error"}
        assert tasks <= {""}
        assert self.room.lit == lit
        assert set(self.room.sockets) == lit
        assert permits == lit


def steps_of(kind: str) -> list[tuple[str, int]]:
    house = House(0, Plan(kind))

    async def main() -> None:
        await house.start()
        await house.ask("light", "l1")
        await house.settle()
        if kind == "remove":
            await house.ask("remove", "l1")
            await house.settle()
        house.check_books()

    run(main(), 0)
    return house.seams.steps


@pytest.mark.parametrize("plan", plans("light", steps_of("light")) + plans("remove", steps_of("remove")), ids=str)
def test_four_laws(plan: Plan) -> None:
    house = House(1, plan)

    async def main() -> None:
        await house.start()
        await house.ask("light", "l1")
        await house.settle()
        if plan.kind == "remove":
            await house.ask("remove", "l1")
            await house.settle()

    run(main(), 1)
    if plan.how in ("fail", "undo twice"):
        house.seams.struck = True
        assert [row[1] for row in house.rows()] == ["error"]
    if plan.kind == "remove" and plan.how not in ("fail", "undo twice"):
        assert house.rows() == []
    elif plan.how not in ("fail", "undo twice"):
        assert [row[1] for row in house.rows()] == ["lit"]
    if plan.kind == "light":
        house.check_books()


def test_a_journal_that_undid_too_little_would_be_seen() -> None:
    """The checker itself: a lamp that stays lit after its record is gone is found."""
    house = House(1, Plan("light"))

    async def main() -> None:
        await house.start()
        await house.ask("light", "l1")
        await house.settle()

    run(main(), 1)
    house.room.lit.add("stray")
    with pytest.raises(AssertionError):
        house.check_books()


def test_delete_while_it_runs_wins_and_leaves_nothing() -> None:
    for seed in range(40):
        house = House(seed, Plan("light"), faulty=seed % 2 == 0)

        async def main(house: House = house, seed: int = seed) -> None:
            await house.start()
            await house.ask("light", "l1")
            await house.api.clock.sleep(random.Random(seed).random() * 5)
            await house.ask("remove", "l1")
            await house.settle()

        run(main(), seed)
        assert house.rows() == [], seed
        house.check_books()


def test_an_undo_that_fails_on_the_host_does_not_stop_the_remove_for_ever() -> None:
    """The host remembers its failures; what took the lamp over must be able to have it tried again."""
    house = House(4, Plan("light"))

    async def main() -> None:
        await house.start()
        house.room.refusals["screw_out"] = 5
        await house.ask("light", "l1")
        await house.api.clock.sleep(1.5)
        await house.ask("remove", "l1")
        await house.settle()

    run(main(), 4)
    assert house.room.refusals["screw_out"] == 0
    assert house.rows() == []
    house.check_books()


def test_a_paused_keeper_that_returns_writes_nothing() -> None:
    """Its lease ran out and another finished the work: the old epoch is refused by journal and room alike."""
    house = House(3, Plan("light"))

    async def main() -> None:
        await house.start()
        first = house.keepers[0]
        gate = asyncio.get_running_loop().create_future()
        real = first.seam

        async def paused() -> None:
            if not gate.done():
                await gate
            await real()

        first.seam = paused  # type: ignore[method-assign]
        house.keepers[0].clock = type(first.clock)(first)
        await house.ask("light", "l1")
        await house.start_keeper()
        await house.settle()
        assert [row[1] for row in house.rows()] == ["lit"]
        gate.set_result(None)
        await house.api.clock.sleep(200)

    import asyncio

    run(main(), 3)
    assert [row[1] for row in house.rows()] == ["lit"]
    house.check_books()
    assert house.room.work["light"] == 1


@pytest.mark.parametrize("block", range(4))
def test_seeds_with_crashes_and_a_bad_network_balance(block: int) -> None:
    """Mixed work while messages are lost, late and doubled and every process dies now and then."""
    for seed in range(block * 25, block * 25 + 25):
        house = House(seed, Plan(""), faulty=True)

        async def main(house: House = house, seed: int = seed) -> None:
            chance = random.Random(f"work {seed}")
            await house.start()
            for number in range(6):
                await house.ask("light", f"l{number}")
                await house.api.clock.sleep(chance.random() * 2)
                if chance.random() < 0.4:
                    await house.ask("remove", f"l{chance.randrange(number + 1)}") if number == 0 else None
                if chance.random() < 0.3:
                    house.crash_keepers()
                    await house.start_keeper()
                if chance.random() < 0.3:
                    house.crash_agent()
                    await house.api.clock.sleep(chance.random() * 10)
                    await house.start_agent()
            await house.settle()

        run(main(), seed)
        house.check_books()
