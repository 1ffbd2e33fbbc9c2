"""Steps on hosts: cast, wait for the answer, ask after a silence, send again what was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from kilonova.base.faults import Fault, Kind, forbidden, unavailable
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.bus.signing import is_agent
from kilonova.bus.steps import DoStep, StepDone, StepStatus

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
ASKED_AT_ONCE = 8  # questions to one host
FOREVER_SECONDS = float("inf")  # for steps that must not fail because a host is away: deletes

Key = tuple[str, str, int]
Entered = Callable[[str], Awaitable[None]]  # is told of the phase that a verb is in


def _host_of_sender() -> str:
    return rpc.sender().partition(".")[2]


def only_drivers_or(host: str) -> None:
    """FORBIDDEN when an agent is heard that is not of this host: what a host says is about its own steps."""
    if is_agent(rpc.sender()) and _host_of_sender() != host:
        log.warning("refused: %r speaks of a step of host %r", rpc.sender(), host)
        raise forbidden("A host may speak of its own steps only.")


class HostSilent(Fault):
    """The host did not answer within the step's patience: what became of the step is unknown."""

    def __init__(self, host: str) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            "The host does not answer.",
            hint="The operator sees why with `kilonova doctor`; the cloud goes on trying to clean up.",
            inside=f"host {host} is silent",
            code="HostSilent",
        )


class _Waiting(NamedTuple):
    """For a step's end."""

    epoch: int
    host: str
    future: asyncio.Future[StepDone]
    entered: Entered | None


class HostSteps:
    """Drives steps on agents for one runner's process."""

    def __init__(self, world: World, bus: Bus, reply: Target, silence_seconds: float) -> None:
        self._world = world
        self._bus = bus
        self._reply = reply
        self._silence_seconds = silence_seconds
        self._waiting: dict[Key, _Waiting] = {}
        self._heard: dict[Key, float] = {}
        self._asking: dict[str, asyncio.Semaphore] = {}  # by the host's queue
        self._unanswered: dict[str, float] = {}  # by the host's queue: when it last left a question unanswered

    def done(self, done: StepDone) -> bool:
        """An agent says a step ended. False when nobody here waits for it of that host, or only under another epoch."""
        waiting = self._waiting.get((done.operation, done.step, done.index))
        if waiting is None or waiting.epoch != done.epoch or done.host not in ("", waiting.host):
            return False
        if not waiting.future.done():
            waiting.future.set_result(done)
        return True

    async def progress(self, key: Key, epoch: int, phase: str) -> None:
        """An agent says a step still runs, and in which phase of its own it is."""
        waiting = self._waiting.get(key)
        if waiting is None:  # any runner of the type may be told; only one waits
            return
        self._heard[key] = self._world.clock.monotonic()
        if phase and waiting.entered and waiting.epoch == epoch and waiting.host == _host_of_sender():
            await waiting.entered(phase)

    async def run(self, step: DoStep, target: Target, patience_seconds: float, entered: Entered | None = None) -> Any:
        """The verb's result. Faults: what the host raised; HostSilent after the patience. `entered` hears of the
        phases that the verb is in, of those that last."""
        key = (step.operation, step.step, step.index)
        future: asyncio.Future[StepDone] = asyncio.get_running_loop().create_future()
        self._waiting[key] = _Waiting(step.epoch, target.host, future, entered)
        self._heard[key] = self._world.clock.monotonic()
        step = msgspec.structs.replace(step, reply_exchange=self._reply.exchange, reply_type=self._reply.type)
        try:
            await self._cast(target, step)
            return await self._wait(key, future, step, target, patience_seconds or PATIENCE_SECONDS)
        finally:
            self._waiting.pop(key, None)
            self._heard.pop(key, None)

    async def _wait(
        self, key: Key, future: asyncio.Future[StepDone], step: DoStep, target: Target, patience_seconds: float
    ) -> Any:
        while True:
            await asyncio.wait({future}, timeout=min(self._silence_seconds, patience_seconds))
            if future.done():
                done = future.result()
                return _outcome(done.state, done.result, done.error)
            silent = self._world.clock.monotonic() - self._heard[key]
            if silent < min(self._silence_seconds, patience_seconds):
                continue
            status = await self._ask(step, target)
            if status is None:
                if self._world.clock.monotonic() - self._heard[key] >= patience_seconds:
                    raise HostSilent(target.host)
                continue
            self._heard[key] = self._world.clock.monotonic()
            if status.state in ("finished", "failed"):
                return _outcome(status.state, status.result, status.error)
            if status.state in ("lost", "unknown"):
                await self._cast(target, step)

    async def _cast(self, target: Target, step: DoStep) -> None:
        """Name the message by the verb: traces and queues show `build_and_run_instance`, not `do_step`.

        A broker that is away is no failure of the step: it is a silence, and the step is sent again after it.
        """
        try:
            await self._bus.cast(target, step.verb, {"step": msgspec.to_builtins(step)})
        except Fault as fault:
            if fault.kind not in (Kind.UNAVAILABLE, Kind.BUSY):
                raise
            log.warning("%s to %s was not sent: %r", step.verb, target.queue, fault)

    async def _ask(self, step: DoStep, target: Target) -> StepStatus | None:
        """What the host says of the step; None when it does not answer. A host that hangs with a thousand steps is
        asked about a few of them: the others are as silent."""
        async with self._asking.setdefault(target.queue, asyncio.Semaphore(ASKED_AT_ONCE)):
            since = self._world.clock.monotonic() - self._unanswered.get(target.queue, float("-inf"))
            if since < self._silence_seconds / 3:
                return None
            status = await self._status(step, target)
            if status is None:
                self._unanswered[target.queue] = self._world.clock.monotonic()
            else:
                self._unanswered.pop(target.queue, None)
            return status

    async def _status(self, step: DoStep, target: Target) -> StepStatus | None:
        args = {"operation": step.operation, "step": step.step, "index": step.index, "epoch": step.epoch}
        try:
            answer = await self._bus.call(target, "step_status", args, timeout_seconds=5.0)
        except Fault as fault:
            if fault.kind is Kind.UNAVAILABLE:
                return None
            raise
        return msgspec.convert(answer, StepStatus)


def _outcome(state: str, result: Any, error: dict[str, Any] | None) -> Any:
    if state == "failed":
        raise Fault.from_wire(error or unavailable("The host failed without a reason.").to_wire())
    return result
