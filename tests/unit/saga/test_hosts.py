"""Steps on hosts: what is lost on the way, or by a host that could not write it down, is sent again and done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import pytest

from kilonova.base.faults import Fault, unavailable
from kilonova.bus import rpc
from kilonova.bus.contract import CALL_TIMEOUT_SECONDS, Json, Target
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.bus.steps import DoStep, StepDone, StepDriver
from kilonova.db.inline import InlineDatabase
from kilonova.node.ledger import StepServer, enter_phase
from kilonova.saga.hosts import HostSteps
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld

DRIVER, ROOM = Target("house", "keeper"), Target("house", "room", "attic")


class LampHost(Protocol):
    async def light(self, lamp_id: str) -> str: ...


class Room:
    """Counts what it does; fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.lit = 0
        self.failures = failures

    async def light(self, lamp_id: str) -> str:
        self.lit += 1
        if self.lit <= self.failures:
            raise unavailable("The switch is stuck.")
        return f"{lamp_id} burns"


class SlowRoom(Room):
    """Is warming for three seconds, then glowing for a moment."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__()
        self._clock = world.clock

    async def light(self, lamp_id: str) -> str:
        for phase, seconds in (("warming", 3.1), ("glowing", 0.2)):
            enter_phase(phase)
            await self._clock.sleep(seconds)
        return await super().light(lamp_id)


class FlakyBus(MemoryBus):
    """The first `away` casts find no broker; calls are counted."""

    away = 0
    calls = 0

    async def call(
        self, to: Target, method: str, args: Mapping[str, Json], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Json:
        self.calls += 1
        return await super().call(to, method, args, timeout_seconds=timeout_seconds)

    async def cast(self, to: Target, method: str, args: Mapping[str, Json], *, deadline_seconds: float = 0.0) -> None:
        if self.away > 0:
            self.away -= 1
            raise unavailable("The message broker does not answer.")
        await super().cast(to, method, args, deadline_seconds=deadline_seconds)


class FullLedger:
    """A ledger that has no room for the next `failures` ends of steps."""

    def __init__(self, kept: InlineDatabase, failures: int) -> None:
        self._kept, self.failures = kept, failures
        self.name, self.dialect, self.now, self.read, self.close = "ledger", "sqlite", kept.now, kept.read, kept.close

    async def write(self, unit: Any, *args: Any, **named: Any) -> Any:
        if unit.__name__ == "_end" and self.failures > 0:
            self.failures -= 1
            raise unavailable("The ledger has no room to write.")
        return await self._kept.write(unit, *args, **named)


class Bench:
    """One driver, one host."""

    def __init__(self, room: Room, *, full: int = 0, away: int = 0) -> None:
        self.room = room
        broker = self.broker = MemoryBroker()
        self.keeper, agent = SimWorld("keeper", 1), SimWorld("agent", 1)
        self.bus = FlakyBus(self.keeper, broker, "keeper")
        self.bus.away = away
        self.steps = HostSteps(self.keeper, self.bus, DRIVER, 15.0)
        self.agent_bus = MemoryBus(agent, broker, "room.attic")
        ledger = FullLedger(InlineDatabase("ledger", agent.clock), full)
        self.server = StepServer(agent, self.agent_bus, ledger, LampHost, room)
        self.seen: list[str] = []  # phases

    async def start(self) -> None:
        await self.server.start("attic")
        await self.agent_bus.serve("house", "room", "attic", self.server.handlers())
        await self.bus.serve("house", "keeper", "", rpc.handlers(StepDriver, self))

    async def step_done(self, done: StepDone) -> None:
        self.steps.done(done)

    async def step_recorded(self, done: StepDone) -> None:
        self.steps.done(done)

    async def step_progress(self, operation: str, step: str, index: int, epoch: int, phase: str) -> None:
        await self.steps.progress((operation, step, index), epoch, phase)

    async def light(self, epoch: int = 1, patience_seconds: float = 300.0, operation: str = "op") -> Any:
        step = DoStep(operation, "light", 0, epoch, "light", {"lamp_id": "l1"}, "", "")
        return await self.steps.run(step, ROOM, patience_seconds, self.see)

    async def see(self, phase: str) -> None:
        self.seen.append(phase)


def test_a_step_that_found_no_broker_is_sent_again() -> None:
    async def main() -> None:
        bench = Bench(Room(), away=2)
        await bench.start()
        assert await bench.light() == "l1 burns"
        assert bench.room.lit == 1

    run(main(), 1)


def test_a_broker_that_stays_away_is_a_silent_host() -> None:
    """Not a failure of the step: whether it was done is unknown, so its undo runs."""

    async def main() -> None:
        bench = Bench(Room())
        bench.bus.away = 1000
        with pytest.raises(Fault) as caught:
            await bench.light(patience_seconds=60)
        assert caught.value.code == "HostSilent"

    run(main(), 1)


def test_a_host_that_hangs_with_many_steps_is_asked_about_few_of_them() -> None:
    """A thousand questions to a host that does not answer would cost everybody else."""

    async def main() -> None:
        bench = Bench(Room())
        waiting = [
            bench.keeper.spawn(bench.light(patience_seconds=3600, operation=f"op{n}"), "light") for n in range(500)
        ]
        await bench.keeper.clock.sleep(120)
        assert 8 <= bench.bus.calls <= 120
        await bench.start()
        await bench.keeper.clock.sleep(30)
        assert [one.result() for one in waiting] == ["l1 burns"] * 500
        assert bench.room.lit == 500

    run(main(), 1)


def test_a_host_that_could_not_write_down_the_end_does_the_step_again() -> None:
    async def main() -> None:
        bench = Bench(Room(), full=1)
        await bench.start()
        assert await bench.light() == "l1 burns"
        assert bench.room.lit == 2

    run(main(), 1)


def test_a_failure_is_told_again_under_its_epoch_and_done_again_under_a_later_one() -> None:
    async def main() -> None:
        bench = Bench(Room(failures=1))
        await bench.start()
        for _ in range(2):
            with pytest.raises(Fault, match="stuck"):
                await bench.light(epoch=1)
        assert bench.room.lit == 1
        assert await bench.light(epoch=2) == "l1 burns"
        assert await bench.light(epoch=3) == "l1 burns"  # finished: told from the ledger
        assert bench.room.lit == 2

    run(main(), 1)


def test_a_late_answer_of_an_earlier_epoch_is_not_taken_for_this_ones() -> None:
    async def main() -> None:
        bench = Bench(Room())
        waiting = bench.keeper.spawn(bench.light(epoch=2), "light")
        await bench.keeper.clock.sleep(1)
        late = StepDone("op", "light", 0, 1, "failed", error=unavailable("The switch is stuck.").to_wire())
        assert not bench.steps.done(late)
        assert bench.steps.done(msgspec.structs.replace(late, epoch=2, state="finished", result="burns", error=None))
        assert await waiting == "burns"

    run(main(), 1)


def test_an_old_epochs_driver_is_refused_by_the_host() -> None:
    """A paused driver that returns moves nothing: its lease is another's."""

    async def main() -> None:
        bench = Bench(Room())
        await bench.start()
        assert await bench.light(epoch=5) == "l1 burns"
        late = DoStep("op", "darken", 0, 4, "light", {"lamp_id": "l1"}, "house", "keeper")
        await bench.bus.cast(ROOM, "light", {"step": msgspec.to_builtins(late)})
        await bench.keeper.clock.sleep(30)
        assert bench.room.lit == 1

    run(main(), 1)


def test_a_phase_that_lasts_is_told_once_and_a_short_one_never() -> None:
    async def main() -> None:
        bench = Bench(SlowRoom(SimWorld("room", 1)))
        await bench.start()
        assert await bench.light() == "l1 burns"
        assert bench.seen == ["warming"]

    run(main(), 1)


@pytest.mark.parametrize(("sender", "epoch"), [("room.cellar", 1), ("room.attic", 2), ("keeper", 1)])
def test_nobody_else_says_which_phase_a_host_is_in(sender: str, epoch: int) -> None:
    async def main() -> None:
        bench = Bench(Room())
        await bench.bus.serve("house", "keeper", "", rpc.handlers(StepDriver, bench))
        waiting = bench.keeper.spawn(bench.light(), "light")
        await bench.keeper.clock.sleep(1)
        liar = MemoryBus(bench.keeper, bench.broker, sender)
        driver = rpc.client(StepDriver, liar, DRIVER)
        await driver.step_progress("op", "light", 0, epoch, "burnt down")
        await bench.keeper.clock.sleep(1)
        assert bench.seen == []
        await rpc.client(StepDriver, bench.agent_bus, DRIVER).step_progress("op", "light", 0, 1, "warming")
        await bench.keeper.clock.sleep(1)
        assert bench.seen == ["warming"]
        waiting.cancel()

    run(main(), 1)
