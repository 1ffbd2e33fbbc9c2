"""The runner, in simulation: what a flow sees again after a crash, what is undone and in which order, what waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, no_capacity, unavailable
from kilonova.bus.contract import Target
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.database import DatabaseAway
from kilonova.db.inline import InlineDatabase
from kilonova.saga.journal import Journal, OperationRow, StepRow, Superseded
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.saga.runner import Parts, Runner
from kilonova.saga.seal import Sealer
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld
from kilonova.trace import spans
from kilonova.trace.tenant import without_hosts

SEALER = Sealer([Sealer.new_key()])


class Diary(msgspec.Struct):
    """The world outside, which steps change: a list of what was done, and troubles to come."""

    lines: list[str] = []
    troubles: dict[str, list[Exception]] = {}

    def note(self, line: str) -> None:
        if waiting := self.troubles.get(line):
            raise waiting.pop(0)
        self.lines.append(line)


Flow = Callable[..., Awaitable[None]]


async def take(step: Step[Diary], what: str) -> str:
    step.services.note(f"take {what}")
    return f"{what} no {len(step.services.lines)}"


async def give_back(step: Step[Diary], what: str, taken: str) -> None:
    step.services.note(f"give back {what}")


def nothing(connection: Connection) -> None:
    """A write that changes nothing."""


class Bench:
    """One service's runners over one database, with one kind of operation: `flow`."""

    def __init__(self, flow: Flow, *undos: Flow) -> None:
        self.metadata = sa.MetaData()
        self.journal = Journal(self.metadata)
        self.diary = Diary()
        self.told: list[str] = []
        self.broker = MemoryBroker()
        self.api = SimWorld("api", 1)
        self.db = InlineDatabase("bench", self.api.clock)
        self.metadata.create_all(self.db.engine)
        self.kind: Kind[Diary] = Kind("work", flow, self._failed, undos=(give_back, *undos))
        self.born = 0

    def _failed(self, _: Connection, __: OperationRow, fault: Fault) -> None:
        self.told.append(fault.message)

    def runner(self) -> tuple[SimWorld, Runner[Diary]]:
        self.born += 1
        world = SimWorld(f"runner{self.born}", 1)
        bus = MemoryBus(world, self.broker, "control")
        db = self.db.seen_by(world.seam, world.seam)
        parts = Parts(world, db, bus, self.journal, SEALER, Target("bench", "runner"), "runner")
        return world, Runner(parts, self.diary, [self.kind])

    async def begin(self, traceparent: str = "", **args: Any) -> str:
        now = self.api.clock.now()
        row = OperationRow(self.api.ids.uuid(), "work", 1, "r", args, "u", "p", "req", now, sealed=SEALER.seal({}))
        row.traceparent = traceparent
        await self.db.write(self.journal.insert, row)
        return row.id

    async def row(self, id_: str) -> OperationRow:
        found = await self.db.read(self.journal.get, id_)
        assert found is not None
        return found

    async def steps(self, id_: str) -> list[StepRow]:
        return await self.db.read(self.journal.steps_of, id_)


class Heirs:
    """Two runners, one after the other: the first dies where its flow says so, the second goes on."""

    def __init__(self) -> None:
        self.worlds: list[SimWorld] = []

    async def first_dies(self) -> None:
        """As by kill -9, and it never returns; to the second it is nothing."""
        if len(self.worlds) == 1:
            self.worlds[0].crash()
            await self.worlds[0].seam()

    async def run(self, bench: Bench) -> None:
        """Each for a minute."""
        for _ in range(2):
            world, runner = bench.runner()
            self.worlds.append(world)
            runner.start()
            await bench.api.clock.sleep(60)


def test_a_resumed_flow_sees_what_its_steps_returned_and_does_them_once() -> None:
    seen: list[tuple[str, str]] = []
    heirs = Heirs()

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        port = await op.step("a port", take, "port", undo=give_back)
        await op.write("noted", nothing)
        await heirs.first_dies()
        volume = await op.step("a volume", take, "volume", undo=give_back)
        seen.append((port, volume))
        await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        await heirs.run(bench)
        assert (await bench.row(id_)).state == "done"
        assert (await bench.row(id_)).sealed is None  # its secrets are erased
        assert bench.diary.lines == ["take port", "take volume"]
        assert seen == [("port no 1", "volume no 2")]

    run(main(), 1)


def test_a_takeover_stands_in_the_trace_in_a_column_of_its_own() -> None:
    heirs = Heirs()

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("a port", take, "port", undo=give_back)
        await op.write("noted", nothing)
        await heirs.first_dies()
        with spans.span("placement", "claim"):
            await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        context = spans.begin("api", request_id="req")
        with spans.within(context):
            await bench.begin(traceparent=f"00-{context.trace_id}-{'1' * 16}-01")
        await heirs.run(bench)
        mine = [span for span in spans.RING.spans if span.trace_id == context.trace_id]
        note = next(span for span in mine if span.kind == "note" and "takes over" in span.name)
        assert note.name == "runner2 takes over from runner1, whose lease ended, after 2 steps"
        assert note.target == "runner@runner2"
        assert next(span for span in mine if span.name == "claim").source == "runner@runner2"
        shown = {one.name for one in without_hosts(mine)}
        assert "(host) takes over from (host), whose lease ended, after 2 steps" in shown

    run(main(), 1)


async def three(op: Operation[Diary], diary: Diary) -> None:
    for what in ("port", "volume", "host"):
        await op.step(f"a {what}", take, what, undo=give_back)
    await op.finish("done", nothing)


def test_a_failure_undoes_newest_first_and_tells_why() -> None:
    async def main() -> None:
        bench = Bench(three)
        bench.diary.troubles["take host"] = [no_capacity("No host fits.")]
        id_ = await bench.begin()
        await bench.runner()[1].run(id_)
        assert bench.diary.lines == [
            *("take port", "take volume"),
            *("give back host", "give back volume", "give back port"),  # what failed may have done half
        ]
        assert bench.told == ["No host fits."]
        row = await bench.row(id_)
        assert row.state == "failed"
        assert Fault.from_wire(row.error or {}).message == "No host fits."
        assert [step.state for step in await bench.steps(id_)] == ["undone", "undone", "undone"]

    run(main(), 1)


def test_an_undo_that_fails_sticks_is_told_and_is_tried_again() -> None:
    async def main() -> None:
        bench = Bench(three)
        bench.diary.troubles["take host"] = [no_capacity("No host fits.")]
        bench.diary.troubles["give back volume"] = [conflict("It is in use.")] * 3
        id_ = await bench.begin()
        _, runner = bench.runner()
        await runner.run(id_)
        assert (await bench.row(id_)).state == "stuck"
        assert bench.told == ["No host fits."]  # the user does not wait for the clean-up
        runner.start()
        await bench.api.clock.sleep(60)
        assert (await bench.row(id_)).state == "failed"
        assert bench.diary.lines[2:] == ["give back host", "give back volume", "give back port"]

    run(main(), 1)


def test_what_is_stuck_is_tried_again_soon_and_then_ever_less_often() -> None:
    async def main() -> None:
        bench = Bench(three)
        bench.diary.troubles["take host"] = [no_capacity("No host fits.")]
        bench.diary.troubles["give back volume"] = [unavailable("It does not answer.") for _ in range(3000)]
        id_ = await bench.begin()
        _, runner = bench.runner()
        runner.start()

        async def epochs_in(seconds: float) -> int:
            before = (await bench.row(id_)).epoch
            await bench.api.clock.sleep(seconds)
            return (await bench.row(id_)).epoch - before

        assert await epochs_in(25) >= 3, "a service that restarted is found at once"
        await epochs_in(600)
        assert 8 <= await epochs_in(600) <= 20, "one that stays away costs little"

    run(main(), 1)


@pytest.mark.parametrize("place", ["take volume", "give back port"])
def test_a_database_that_is_away_undoes_nothing(place: str) -> None:
    """Our own database's trouble says nothing about what was asked: the operation goes on when it is back."""

    async def main() -> None:
        bench = Bench(three)
        bench.diary.troubles[place] = [DatabaseAway.of(unavailable("The cloud's database does not answer."))]
        if place.startswith("give"):
            bench.diary.troubles["take host"] = [no_capacity("No host fits.")]
        id_ = await bench.begin()
        _, runner = bench.runner()
        await runner.run(id_)
        assert (await bench.row(id_)).state == ("undoing" if place.startswith("give") else "running")
        assert bench.told == []
        runner.start()
        await bench.api.clock.sleep(60)
        assert (await bench.row(id_)).state == ("failed" if place.startswith("give") else "done")
        assert bench.told == (["No host fits."] if place.startswith("give") else [])

    run(main(), 1)


def test_undo_since_leaves_what_came_before_and_the_flow_goes_on() -> None:
    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("a port", take, "port", undo=give_back)
        for host in ("node1", "node2"):
            mark = op.mark()
            try:
                await op.step("a claim", take, f"claim {host}", undo=give_back)
                await op.step("a start", take, f"start {host}", undo=give_back)
            except Fault:
                await op.undo_since(mark)
                continue
            break
        await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        bench.diary.troubles["take start node1"] = [no_capacity("node1 is full.")]
        id_ = await bench.begin()
        await bench.runner()[1].run(id_)
        assert (await bench.row(id_)).state == "done"
        assert bench.diary.lines == [
            *("take port", "take claim node1", "give back start node1", "give back claim node1"),
            *("take claim node2", "take start node2"),
        ]

    run(main(), 1)


def test_a_runner_that_leaves_hands_its_operation_over() -> None:
    """Nobody waits for its lease to end: another goes on at its next look."""
    worlds: list[SimWorld] = []

    async def endless(step: Step[Diary]) -> str:
        if step.world is worlds[0]:
            step.services.note("the first waits")
            await step.world.clock.sleep(3600)
        step.services.note("the second works")
        return "done"

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("a port", take, "port", undo=give_back)
        await op.step("it takes long", endless)
        await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        world, runner = bench.runner()
        worlds.append(world)
        id_ = await bench.begin()
        runner.start()
        await bench.api.clock.sleep(10)
        assert bench.diary.lines == ["take port", "the first waits"]
        await runner.close()
        assert (await bench.row(id_)).state == "running"
        bench.runner()[1].start()
        await bench.api.clock.sleep(bench.journal.lease_seconds / 3)
        assert (await bench.row(id_)).state == "done"
        assert bench.diary.lines == ["take port", "the first waits", "the second works"]

    run(main(), 1)


def test_a_database_that_is_away_is_no_refusal_by_a_host() -> None:
    """PostgreSQL killed amid builds left active servers without guests: flows took its absence for a host's refusal and
    destroyed what ran; resumed, they heard from the host that it had been started."""
    away = [DatabaseAway.of(unavailable("The cloud's database does not answer."))]

    def end(connection: Connection) -> None:
        if away:
            raise away.pop()

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        for host in ("node1", "node2"):
            mark = op.mark()
            try:
                await op.step("a start", take, f"start {host}", undo=give_back)
                await op.finish("done", end)
                return
            except Fault:
                await op.undo_since(mark)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        bench.runner()[1].start()
        await bench.api.clock.sleep(60)
        assert (await bench.row(id_)).state == "done"
        assert set(bench.diary.lines) == {"take start node1"}

    run(main(), 1)


def test_what_a_silent_host_was_asked_is_heard_as_failed_after_its_undo_and_a_crash() -> None:
    """A flow that went on to the next host must not, resumed, believe that the first one did it."""
    heirs = Heirs()
    reached: list[str] = []

    async def silent(step: Step[Diary], host: str) -> str:
        if host == "node1":
            raise Fault(unavailable("").kind, "The host does not answer.", code="HostSilent")
        return host

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        for host in ("node1", "node2"):
            mark = op.mark()
            try:
                reached.append(await op.step("a start", silent, host, undo=give_back))
            except Fault:
                await op.undo_since(mark)
                await heirs.first_dies()
                continue
            break
        await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        await heirs.run(bench)
        assert (await bench.row(id_)).state == "done"
        assert reached == ["node2"]

    run(main(), 1)


@pytest.mark.parametrize("taken_by", ["another operation", "another runner"])
def test_what_a_step_did_after_all_was_undone_is_undone_too(taken_by: str) -> None:
    """An attach reserved its volume after the delete that took the server over had given everything back: it stayed
    reserved for ever. Who goes on with the operation itself has the step's answer by its key: that is left alone."""

    async def slow(step: Step[Diary], what: str) -> str:
        await step.world.clock.sleep(5)
        return await take(step, what)

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("a port", slow, "port", undo=give_back)
        await op.finish("done", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        world, runner = bench.runner()
        running = world.spawn(runner.run(id_), "run")
        await bench.api.clock.sleep(1)
        now = bench.api.clock.now()
        if taken_by == "another operation":
            assert await bench.db.write(bench.journal.supersede, id_, now) is not None
            await bench.db.write(bench.journal.end_superseded, id_, now)
        else:
            expired = now + timedelta(seconds=bench.journal.lease_seconds + 1)
            assert await bench.db.write(bench.journal.lease, id_, "another", expired) is not None
        with pytest.raises(Superseded):
            await running
        undone = ["give back port"] if taken_by == "another operation" else []
        assert bench.diary.lines == ["take port", *undone]

    run(main(), 1)


def test_another_releases_operation_is_not_guessed_at() -> None:
    async def main() -> None:
        bench = Bench(three)
        id_ = await bench.begin()
        table = bench.journal.operations
        await bench.db.write(lambda c: c.execute(table.update().values(version=7)))
        await bench.runner()[1].run(id_)
        assert (await bench.row(id_)).state == "failed"
        assert bench.diary.lines == []

    run(main(), 1)


def test_the_journal_forgets_what_ended_long_ago_and_nothing_else() -> None:
    async def main() -> None:
        bench = Bench(three)
        old = await bench.begin()
        _, runner = bench.runner()
        await runner.run(old)
        await bench.api.clock.sleep(86_400)
        new, waiting = await bench.begin(), await bench.begin()
        await runner.run(new)
        moment = bench.api.clock.now() - timedelta(hours=1)
        assert await bench.db.write(bench.journal.forget_before, moment) == 1
        assert await bench.db.read(bench.journal.get, old) is None
        assert await bench.steps(old) == []
        assert len(await bench.steps(new)) == 3
        assert (await bench.row(waiting)).state == "running"

    run(main(), 1)


def test_two_runners_never_hold_one_operation() -> None:
    async def main() -> None:
        bench = Bench(three)
        id_ = await bench.begin()
        now = bench.api.clock.now()
        first = await bench.db.write(bench.journal.lease, id_, "one", now)
        assert first is not None and first.epoch == 1
        assert await bench.db.write(bench.journal.lease, id_, "two", now) is None
        later = now + timedelta(seconds=bench.journal.lease_seconds + 1)
        second = await bench.db.write(bench.journal.lease, id_, "two", later)
        assert second is not None and second.epoch == 2
        assert await bench.db.write(bench.journal.renew, {id_: 1}, later) == [id_]
        assert await bench.db.write(bench.journal.renew, {id_: 2}, later) == []

    run(main(), 1)
