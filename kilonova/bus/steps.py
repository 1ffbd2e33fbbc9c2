"""Journalled steps on a host, as they cross the bus.

The driver casts the verb with a `DoStep` to TYPE.HOST; the agent writes it to its ledger (that is the acknowledgement),
does it once, and casts `step_done` to the driver's topic: until the broker has that. Whoever waits for a step that was
not heard of asks `step_status`, so that nobody has to answer for having heard.

Rules: the key is (operation, step, index). An agent refuses an epoch lower than the highest it has seen for the
operation. The same key with the same epoch is done once; with a higher epoch a finished step answers from the
ledger, a running one goes on, a lost or failed one is done again. Steps of one operation follow each other, so a new
step ends (cancels) one that still runs.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from kilonova.bus import rpc

StepState = Literal["running", "finished", "failed", "lost", "unknown"]


class DoStep(msgspec.Struct):
    """What an agent is asked to do."""

    operation: str
    step: str
    index: int
    epoch: int
    verb: str  # method of the host's contract
    args: dict[str, Any]
    reply_exchange: str  # where step_done goes
    reply_type: str
    request_id: str = ""
    away_seconds: float = 0.0  # how long the verb waits for a service that is away


class StepDone(msgspec.Struct):
    """What became of it. `error` is Fault.to_wire() when failed."""

    operation: str
    step: str
    index: int
    epoch: int
    state: Literal["finished", "failed"]
    result: Any = None
    error: dict[str, Any] | None = None
    host: str = ""


class StepStatus(msgspec.Struct):
    """The agent's answer to `step_status`."""

    state: StepState
    result: Any = None
    error: dict[str, Any] | None = None


class StepHost(Protocol):
    """Served by every agent that does journalled steps, on TYPE.HOST."""

    # Steps arrive as casts named by their verb (`build_and_run_instance`), each with the one argument `step: DoStep`.

    @rpc.call(5)
    async def step_status(self, operation: str, step: str, index: int, epoch: int) -> StepStatus:
        """What the ledger says. Raises the operation's known epoch, as a step does."""
        ...


class StepDriver(Protocol):
    """Served by whoever runs operations (conductor, volume-scheduler), on its topic."""

    @rpc.cast
    async def step_done(self, done: StepDone) -> None:
        """A step ended: whoever waits for it goes on; when nobody here does, the journal has it."""
        ...

    @rpc.fanout
    async def step_recorded(self, done: StepDone) -> None:
        """A step's end reached a driver that does not run its operation; whoever does, hear it."""
        ...

    @rpc.cast
    async def step_progress(self, operation: str, step: str, index: int, epoch: int, phase: str) -> None:
        """Every 5 s while a step runs, and when it has been in a `phase` of its own ("": none) for up to half a
        second."""
        ...
