"""What shares a commit with what, and that nothing is lost by it: the journal after each, and after a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from kilonova.base.faults import Fault, no_capacity
from kilonova.saga.operation import Operation, Step
from kilonova.saga.runner import Runner
from kilonova.sim.loop import run
from tests.unit.saga.test_runner import Bench, Diary, Heirs, give_back, nothing, take


async def look(step: Step[Diary], what: str) -> str:
    """A step without an undo."""
    step.services.note(f"look at {what}")
    return what


async def linger(step: Step[Diary], seconds: float) -> None:
    await step.world.clock.sleep(seconds)


def counted(runner: Runner[Diary]) -> list[str]:
    """What each commit of the runner says from here on."""
    said: list[str] = []
    write: Callable[..., Awaitable[Any]] = runner.db.write

    async def counting(unit: Any, *args: Any) -> Any:
        said.append(getattr(unit, "says", unit.__name__))
        return await write(unit, *args)

    runner.db.write = counting  # type: ignore[method-assign, assignment]
    return said


def test_steps_without_undo_share_the_commits_of_the_first_and_the_last() -> None:
    async def flow(op: Operation[Diary], diary: Diary) -> None:
        for what in ("one", "two", "three"):
            await op.step(f"look {what}", look, what)
        await op.finish("the end", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        _, runner = bench.runner()
        said = counted(runner)
        await runner.run(id_)
        assert said == ["journal: look one", "the end"]
        assert [(step.title, step.state) for step in await bench.steps(id_)] == [
            ("look one", "finished"), ("look two", "finished"), ("look three", "finished"),
        ]  # fmt: skip
        assert (await bench.row(id_)).epoch == 1

    run(main(), 1)


def test_a_step_that_lasts_is_seen_in_the_journal() -> None:
    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("look", look, "first")
        await op.step("it lingers", linger, 60.0)
        await op.finish("the end", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        bench.runner()[1].start()
        await bench.api.clock.sleep(8)
        assert [step.title for step in await bench.steps(id_)] == ["look"]
        await bench.api.clock.sleep(bench.journal.lease_seconds)
        assert [(step.title, step.state) for step in await bench.steps(id_)] == [
            ("look", "finished"), ("it lingers", "running"),
        ]  # fmt: skip
        await bench.api.clock.sleep(60)
        assert {step.state for step in await bench.steps(id_)} == {"finished"}
        assert (await bench.row(id_)).state == "done"

    run(main(), 1)


def test_a_runner_that_lost_its_operation_begins_nothing_more() -> None:
    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.step("it lingers", linger, 5.0)
        await op.step("look", look, "there")
        await op.finish("the end", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        bench.runner()[1].start()
        await bench.api.clock.sleep(3)
        await bench.db.write(bench.journal.supersede, id_, bench.api.clock.now())
        await bench.api.clock.sleep(30)
        assert bench.diary.lines == []

    run(main(), 1)


class Register:
    """Units over the diary, as if it were rows: what a rolled back transaction takes back is not modelled here."""

    def __init__(self, refuses: str = "") -> None:
        self.written: list[str] = []
        self.refuses = refuses

    def put(self, connection: Connection, what: str) -> None:
        if what == self.refuses:
            raise no_capacity(f"No room for {what}.")
        self.written.append(what)


async def erase(step: Step[Diary], what: str) -> None:
    step.services.note(f"erase {what}")


def test_a_write_with_the_next_step_is_committed_before_that_acts_and_undone_after_it() -> None:
    register = Register()

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.write_with_next("put", register.put, "name", undo=erase)
        assert register.written == []
        await op.step("take", take, "port", undo=give_back)
        assert register.written == ["name"]
        raise no_capacity("No more.")

    async def main() -> None:
        bench = Bench(flow, erase)
        id_ = await bench.begin()
        _, runner = bench.runner()
        said = counted(runner)
        await runner.run(id_)
        assert said[0] == "put; journal: take"
        assert bench.diary.lines == ["take port", "give back port", "erase name"]
        assert [step.state for step in await bench.steps(id_)] == ["undone", "undone"]

    run(main(), 1)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_crash_around_the_shared_commit_loses_nothing_and_doubles_nothing(place: str) -> None:
    register = Register()
    heirs = Heirs()

    async def taken(step: Step[Diary], what: str) -> str:
        if place == "after":
            await heirs.first_dies()
        return await take(step, what)

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        await op.write_with_next("put", register.put, "name")
        if place == "before":
            await heirs.first_dies()
        await op.step("take", taken, "port", undo=give_back)
        await op.finish("the end", nothing)

    async def main() -> None:
        bench = Bench(flow)
        id_ = await bench.begin()
        await heirs.run(bench)
        assert (await bench.row(id_)).state == "done"
        assert register.written == ["name"]
        assert bench.diary.lines == ["take port"]

    run(main(), 1)


def test_a_shared_write_that_is_refused_fails_the_step_and_the_flow_goes_on_elsewhere() -> None:
    register = Register(refuses="node1")

    async def flow(op: Operation[Diary], diary: Diary) -> None:
        for host in ("node1", "node2"):
            mark = op.mark()
            try:
                await op.write_with_next(f"put {host}", register.put, host, undo=erase)
                await op.step("take", take, host, undo=give_back)
            except Fault:
                await op.undo_since(mark)
                continue
            break
        await op.finish("the end", nothing)

    async def main() -> None:
        bench = Bench(flow, erase)
        id_ = await bench.begin()
        await bench.runner()[1].run(id_)
        assert (await bench.row(id_)).state == "done"
        assert register.written == ["node2"]
        assert bench.diary.lines == ["take node2"]  # nothing of node1 was begun, so nothing was undone

    run(main(), 1)
