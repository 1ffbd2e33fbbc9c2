"""A106: a host ends its own steps only, whatever it signs and whichever driver hears it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.bus import rpc
from kilonova.bus.contract import Target
from kilonova.bus.memory import MemoryBus
from kilonova.bus.steps import StepDone, StepDriver
from kilonova.saga.operation import Operation, host
from kilonova.sim.loop import run
from tests.unit.saga.test_runner import Bench, Diary, nothing


class LampHost(Protocol):
    async def light(self, lamp_id: str) -> str: ...


ATTIC = host(LampHost, Target("bench", "compute", "attic"))


async def light(op: Operation[Diary], diary: Diary) -> None:
    diary.note(await op.step("the attic lights its lamp", ATTIC.light, "l1"))
    await op.finish("done", nothing)


class House:
    """Two drivers, one of which waits for the attic, and agents that say what they like."""

    def __init__(self) -> None:
        self.bench = Bench(light)

    async def begin(self) -> StepDone:
        """The true end of the step that is under way."""
        for _ in range(2):
            world, runner = self.bench.runner()
            bus = MemoryBus(world, self.bench.broker, "runner")
            await bus.serve("bench", "runner", "", rpc.handlers(StepDriver, runner))
            runner.start()
        id_ = await self.bench.begin()
        await self.bench.api.clock.sleep(5)
        (step,) = await self.bench.steps(id_)
        return StepDone(
            id_, step.step, step.index, (await self.bench.row(id_)).epoch, "finished", "burns", None, "attic"
        )

    async def say(self, sender: str, method: str, done: StepDone) -> None:
        bus = MemoryBus(self.bench.api, self.bench.broker, sender)
        args: dict[str, Any] = {"done": msgspec.to_builtins(done)}
        if method == "step_recorded":
            await bus.fanout(Target("bench", "runner"), method, args)
        else:
            await bus.call(Target("bench", "runner"), method, args, timeout_seconds=5)
        await self.bench.api.clock.sleep(2)


def test_another_host_cannot_end_the_step() -> None:
    async def main() -> None:
        house = House()
        done = await house.begin()
        with pytest.raises(Fault) as told:
            await house.say("compute.cellar", "step_done", done)
        assert told.value.kind is Kind.FORBIDDEN
        await house.say("compute.cellar", "step_recorded", done)
        for _ in range(4):  # whichever of the two drivers hears it
            await house.say(
                "compute.cellar", "step_done", msgspec.structs.replace(done, host="cellar", result="stolen")
            )
        assert (await house.bench.row(done.operation)).state == "running"
        (step,) = await house.bench.steps(done.operation)
        assert step.state == "running"
        assert house.bench.diary.lines == []

    run(main(), 1)


def test_its_own_host_can_whichever_driver_hears_it() -> None:
    async def main() -> None:
        house = House()
        done = await house.begin()
        for _ in range(2):
            await house.say("compute.attic", "step_done", done)
        assert (await house.bench.row(done.operation)).state == "done"
        assert house.bench.diary.lines == ["burns"]

    run(main(), 1)
