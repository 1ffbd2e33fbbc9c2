"""Runner: leases operations, runs their flows, undoes what failed, resumes what a dead runner left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, unavailable
from kilonova.base.faults import Kind as FaultKind
from kilonova.base.patience import patiently
from kilonova.base.signatures import hints_of, parameters_of
from kilonova.base.world import World
from kilonova.bus.contract import Bus, Target
from kilonova.bus.steps import DoStep, StepDone
from kilonova.db.database import Database, DatabaseAway, redone, says
from kilonova.saga.hosts import HostSteps, only_drivers_or
from kilonova.saga.journal import Journal, OperationRow, Parked, StepRow, Superseded
from kilonova.saga.operation import HostVerb, Kind, Operation, Step, Waits
from kilonova.saga.owed import Owed
from kilonova.saga.pace import Pace
from kilonova.saga.seal import Sealer
from kilonova.saga.seams import NoSeams, Seams
from kilonova.trace import spans

log = logging.getLogger(__name__)

S = TypeVar("S")
Act = Callable[..., Awaitable[Any]]
UNDO_TRIES = 3
RENEWED_TOGETHER = 25  # leases in one transaction: it must not meet the steps of hundreds of operations
UNDOABLE = ("finished", "running", "failed")


class Parts(msgspec.Struct, frozen=True):
    """What a runner stands on."""

    world: World
    db: Database
    bus: Bus
    journal: Journal
    sealer: Sealer
    reply: Target  # the topic where agents tell that steps ended
    participant: str  # nova_conductor | cinder | …
    pace: Pace = Pace()


class Runner(Generic[S]):
    """Runs one service's operations in one process. Several runners share the work through leases."""

    def __init__(self, parts: Parts, services: S, kinds: Iterable[Kind[S]], seams: Seams | None = None) -> None:
        self.world = parts.world
        self.db = parts.db
        self.journal = parts.journal
        self.sealer = parts.sealer
        self.services = services
        self.kinds = {kind.name: kind for kind in kinds}
        self.owner = f"{parts.world.name}/{parts.world.ids.uuid()[:8]}"
        self._parts = parts
        self._seams: Seams = seams or NoSeams()
        self._hosts = HostSteps(parts.world, parts.bus, parts.reply, parts.pace.silence_seconds)
        self._held: dict[str, int] = {}
        self._owed: dict[str, Owed] = {}  # by operation
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._closing = False

    # ── what wakes it

    def start(self) -> None:
        """Sweep for operations that nobody works on, and keep the leases of ours."""
        self.world.spawn(self._sweep_forever(), "saga sweep")
        self.world.spawn(self._renew_forever(), "saga renew")

    async def close(self) -> None:
        """Begin nothing more; what has not ended after a moment is given back, for another runner to go on with."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=self._parts.pace.leave_seconds)
        held, tasks = dict(self._held), list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not held:
            return
        try:
            await self.db.write(self._give_back, held)
        except Fault as fault:  # their leases end by themselves
            log.warning("%d operations were not given back: %r", len(held), fault)

    def _give_back(self, connection: Connection, held: dict[str, int]) -> None:
        now = self.db.now(connection)
        for operation_id, epoch in held.items():
            self.journal.hand_over(connection, operation_id, epoch, now)

    async def wake(self, operation_id: str, formerly: str = "") -> None:
        """An operation waits: run it in the background. Losing this call loses nothing: the sweep finds it.

        `formerly` is the runner that had it and let its lease end.
        """
        if operation_id not in self._tasks and not self._closing:
            task = self.world.spawn(self._run_guarded(operation_id, formerly), f"operation {operation_id}")
            self._tasks[operation_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(operation_id, None))

    async def step_done(self, done: StepDone) -> None:
        """An agent's answer; when this process does not run the operation, the journal gets it for who does."""
        only_drivers_or(done.host)
        if self._hosts.done(done):
            return
        await self.db.write(self.journal.record_host_result, done)
        await self._parts.bus.fanout(self._parts.reply, "step_recorded", {"done": msgspec.to_builtins(done)})

    async def step_recorded(self, done: StepDone) -> None:
        """Another process got the answer to a step that may be ours."""
        only_drivers_or("")
        self._hosts.done(done)

    async def step_progress(self, operation: str, step: str, index: int, epoch: int, phase: str) -> None:
        """An agent is still at it, and has come to that phase of it."""
        await self._hosts.progress((operation, step, index), epoch, phase)

    async def sweep(self) -> int:
        """Wake every operation that is due; returns how many."""
        due = await self.db.read(self._due)
        for operation_id, formerly in due:
            await self.wake(operation_id, formerly)
        return len(due)

    def _due(self, connection: Connection) -> list[tuple[str, str]]:
        return self.journal.due(connection, self.db.now(connection))

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as error:  # a background task's edge: a database away must not end it
                log.warning("saga sweep failed: %r", error)
            await self.world.clock.sleep(self._parts.pace.sweep_seconds * (0.5 + self.world.random.random()))

    async def _renew_forever(self) -> None:
        while True:
            await self.world.clock.sleep(self.journal.lease_seconds / 3)
            try:
                held = dict(self._held)
                while some := {one: held.pop(one) for one in list(held)[:RENEWED_TOGETHER]}:
                    for lost in await self.db.write(self._renew, some):
                        task = self._tasks.get(lost)
                        if task is not None and self._held.get(lost) == some[lost]:  # not ended, or begun anew, since
                            task.cancel()
                for owed in list(self._owed.values()):
                    with contextlib.suppress(Superseded):  # its own next commit hears of that
                        await owed.tell()
            except Exception as error:  # as above
                log.warning("saga renew failed: %r", error)

    @redone
    def _renew(self, connection: Connection, held: dict[str, int]) -> list[str]:
        return self.journal.renew(connection, held, self.db.now(connection))

    # ── one operation

    async def _run_guarded(self, operation_id: str, formerly: str) -> None:
        try:
            await self.run(operation_id, formerly)
        except Superseded:
            log.info("operation %s is another's now", operation_id)
        except Exception as error:  # a background task's edge: the lease expires and the sweep tries again
            log.exception("operation %s: runner failed: %r", operation_id, error)

    async def _begin(self, operation_id: str) -> tuple[OperationRow, list[StepRow], bool] | None:
        """(the operation, its steps so far, whether its lease is taken); None when it is over or somebody has it."""
        row = await self.db.read(self.journal.get, operation_id)
        if row is not None and (row.state, row.epoch, row.lease_until) == ("running", 0, None):
            row.epoch = 1  # as it will be: the lease is taken with the first thing that is written
            return row, [], False
        leased = None if row is None else await self.db.write(self._lease, operation_id)
        return None if leased is None else (*leased, True)

    @says(lambda operation_id: "journal: the operation is leased")
    def _lease(self, connection: Connection, operation_id: str) -> tuple[OperationRow, list[StepRow]] | None:
        row = self.journal.lease(connection, operation_id, self.owner, self.db.now(connection))
        return None if row is None else (row, self.journal.steps_of(connection, operation_id))

    async def run(self, operation_id: str, formerly: str = "") -> None:
        """Run or resume the operation to its end, if nobody else has it."""
        begun = await self._begin(operation_id)
        if begun is None:
            return
        row, steps, leased = begun
        self._owed[row.id] = Owed(self.db, self.journal, row, steps, self.owner, leased=leased)
        if leased:
            self._held[row.id] = row.epoch
        context = spans.begin(self._drawn_as(formerly), traceparent=row.traceparent, request_id=row.request_id)
        with spans.within(context):
            spans.about(row.resource_id)
            if row.epoch > 1:
                self._note_resumed(formerly, len(steps))
            try:
                await self._go_on(row, steps)
            except Superseded:
                await self._undo_late(row)
                raise
            except (Parked, DatabaseAway) as why:  # nothing that was asked for is wrong: nothing is undone
                log.warning("operation %s (%s) waits: %s", row.id, row.kind, why)
                await self.db.write(self._release, row)
            finally:
                self._held.pop(row.id, None)
                self._owed.pop(row.id, None)

    async def _commit(
        self, row: OperationRow, words: str, unit: Callable[[Connection], Any], *steps: StepRow
    ) -> Any:  # fmt: skip
        """What the unit returned, once it is committed with all that the run owes the journal."""
        result, came_along = await self._owed[row.id].commit(words, unit, *steps)
        self._held[row.id] = row.epoch
        for step in came_along:
            await self._seams.after(row, step, "do")
        return result

    async def _undo_late(self, row: OperationRow) -> None:
        """What this process did while another operation took the resource, perhaps after it had undone all: undone too.

        An operation that another runner goes on with is left alone: its step is asked for again under the same key.
        """
        late = [step for step in self._owed[row.id].untold() if step.undo.startswith("here:")]
        now = await self.db.read(self.journal.get, row.id) if late else None
        if now is not None and now.state in ("superseded", "failed"):
            for step in reversed(late):
                await self._undo(row, self.kinds.get(row.kind), step, row.id)

    def _drawn_as(self, formerly: str) -> str:
        """Who a trace shows at work: one that took over from another host has a column of its own."""
        host = formerly.partition("/")[0]
        return self._parts.participant + (f"@{self.world.name}" if host and host != self.world.name else "")

    def _note_resumed(self, formerly: str, steps: int) -> None:
        host, name = formerly.partition("/")[0], self.world.name
        if host:
            spans.note(f"{name} takes over from {host}, whose lease ended, after {steps} steps", host=name, worker=host)
        else:
            spans.note(f"goes on after {steps} steps")

    async def _go_on(self, row: OperationRow, steps: list[StepRow]) -> None:
        kind = self.kinds.get(row.kind)
        if kind is None or kind.version != row.version:
            fault = unavailable("This release cannot go on with an operation that another release began.")
            await self._undo_all(kind, row, steps, fault)
        elif row.state == "running":
            await self._flow(kind, row, steps)
        else:
            await self._undo_all(kind, row, steps, Fault.from_wire(row.error or {}))

    async def _flow(self, kind: Kind[S], row: OperationRow, steps: list[StepRow]) -> None:
        operation = Operation(self, kind, row, steps)
        hints = hints_of(kind.flow)
        args = {name: msgspec.convert(value, hints.get(name, Any)) for name, value in row.args.items()}
        try:
            await kind.flow(operation, self.services, **args)
            if not operation.finished:
                await self.finish(row, "done", _nothing, ())
        except (Superseded, Parked, DatabaseAway):
            raise
        except Exception as error:  # the edge of a flow: whatever failed is undone and told
            fault = Fault.wrap(error)
            if fault.kind is FaultKind.BUG:
                log.exception("operation %s (%s) failed", row.id, row.kind)
            else:
                reasons = "".join(f"; {reason}" for reason in fault.data.get("details", ()))
                log.warning("operation %s: %s of %s failed: %r%s", row.id, row.kind, row.resource_id, fault, reasons)
            self._owed[row.id].drop()
            steps = await self._commit(row, "journal: read its steps", lambda c: self.journal.steps_of(c, row.id))
            await self._undo_all(kind, row, steps, fault)

    async def _undo_all(self, kind: Kind[S] | None, row: OperationRow, steps: list[StepRow], fault: Fault) -> None:
        if row.state == "running":
            await self._move(row, "undoing", fault)
        for step in reversed(steps):
            try:
                await self.undo_step(row, kind, step)
            except (Superseded, Parked, DatabaseAway):
                raise
            except Exception as error:  # an undo that keeps failing parks the operation; the sweep tries again
                park = partial(self._park, kind=kind, row=row, fault=fault, why=f"undo of {step.step}: {error!r}")
                await self._commit(row, "journal: stuck", park)
                return
        await self._move(row, "failed", fault, kind)

    async def _move(self, row: OperationRow, state: str, fault: Fault, kind: Kind[S] | None = None) -> None:
        """The operation is in that state, and what `kind` does with its resource when it failed."""

        def move(connection: Connection) -> None:
            if kind is not None:
                kind.failed(connection, row, fault)
            self.journal.move(connection, row, state, self.db.now(connection), fault)

        await self._commit(row, f"journal: {state}", move)

    def _park(self, connection: Connection, kind: Kind[S] | None, row: OperationRow, fault: Fault, why: str) -> None:
        log.error("operation %s (%s) is stuck: %s", row.id, row.kind, why)
        now = self.db.now(connection)
        if row.state != "stuck" and kind is not None:
            kind.failed(connection, row, fault)
        self.journal.move(connection, row, "stuck", now, None)
        self.journal.release(connection, row.id, row.epoch, self._retry_at(now, row.epoch))

    def _release(self, connection: Connection, row: OperationRow) -> None:
        self.journal.release(connection, row.id, row.epoch, self._retry_at(self.db.now(connection), row.epoch))

    def _retry_at(self, now: datetime, epoch: int) -> datetime:
        """Soon at first, for what was away only while something restarted; the epoch counts who has tried."""
        pace = self._parts.pace
        return now + timedelta(seconds=min(pace.stuck_first_retry_seconds * epoch, pace.stuck_retry_seconds))

    # ── what an Operation asks of its runner

    async def begin_step(
        self, row: OperationRow, kind: Kind[S], step: StepRow, shows: str | None, *, found: bool
    ) -> None:  # fmt: skip
        """Journal that the step is about to act, or only look whether it still may, when that can wait. `found`: what
        it makes is found without its line."""
        if shows is None and self._owed[row.id].begun(step):
            await self.db.read(self.journal.check, row.id, row.epoch)
            return

        def begin(connection: Connection) -> None:
            self.journal.put_step(connection, step)
            kind.shown(connection, row, shows)

        unit = redone(begin) if found or not step.undo else begin
        await self._commit(row, f"journal: {step.title}" + _showing(shows), unit, step)

    async def write_step(
        self, row: OperationRow, kind: Kind[S], step: StepRow, unit: Callable[..., Any], args: tuple[Any, ...],
        shows: str | None,
    ) -> None:  # fmt: skip
        """Run the unit and journal it, in one transaction."""

        def write(connection: Connection) -> None:
            step.result = msgspec.to_builtins(unit(connection, *args))
            self.journal.put_step(connection, step)
            kind.shown(connection, row, shows)

        await self._seams.before(row, step, "do")
        step.finished_at = self.world.clock.now()
        await self._commit(row, step.title + _showing(shows), write, step)
        await self._seams.after(row, step, "do")

    async def write_later(
        self, row: OperationRow, step: StepRow, unit: Callable[..., None], args: tuple[Any, ...]
    ) -> None:  # fmt: skip
        """Run the unit and journal it, in the operation's next transaction."""
        await self._seams.before(row, step, "do")
        step.finished_at = self.world.clock.now()
        self._owed[row.id].later(step, unit, args)

    async def perform(self, row: OperationRow, step: StepRow, act: Act, args: tuple[Any, ...], waits: Waits) -> None:
        """Do the step; a failure is journalled at once, success with the operation's next write.

        A silent host leaves it running, its outcome unknown. While a service is away it is done again, as on a resume.
        """
        try:
            await self._seams.before(row, step, "do")
            for _ in range(self._seams.times(step, "do")):
                step.result = msgspec.to_builtins(await self._act(row, step, act, args, waits))
            await self._seams.after(row, step, "do")
            step.state, step.finished_at = "finished", self.world.clock.now()
            self._owed[row.id].ended(step)
            return
        except (Superseded, Parked, DatabaseAway):
            raise
        except Exception as error:  # journalled, then raised again by the operation
            fault = Fault.wrap(error)
            if fault.kind is FaultKind.BUG and not isinstance(error, Fault):
                log.exception("step %s of operation %s failed", step.step, row.id)
            if fault.code == "HostSilent":
                step.error = fault.to_wire()  # kept if it is undone as it is: a resumed flow must fail here again
                raise fault from error
            step.state, step.error = "failed", fault.to_wire()
        self._owed[row.id].ended(step)
        await self._commit(row, f"journal: {step.step} {step.state}", _nothing)

    async def finish(self, row: OperationRow, title: str, unit: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """The resource's end state and the operation's, together."""

        @redone
        def end(connection: Connection) -> None:
            unit(connection, *args)
            self.journal.move(connection, row, "done", self.db.now(connection), None)

        await self._commit(row, title, end)

    async def undo_step(self, row: OperationRow, kind: Kind[S] | None, step: StepRow) -> None:
        """Undo one step if there may be something to undo, and journal it. A step that failed may have done half."""
        if self._owed[row.id].drop(step):
            return
        if step.undo and step.state in UNDOABLE:
            await self._undo(row, kind, step, step.operation_id)
            step.state = "undone"
            step.finished_at = None
            await self._commit(row, f"journal: {step.step} undone", lambda c: self._end_undone(c, step))

    def _end_undone(self, connection: Connection, step: StepRow) -> None:
        self.journal.end_step(connection, step, self.db.now(connection))

    async def undo_superseded(self, row: OperationRow, operation_id: str) -> None:
        """Undo, newest first, every step of an operation whose resource `row` took over."""
        taking = f"journal: operation {operation_id} is undone"
        old = await self._commit(row, taking, lambda c: self.journal.reclaim_superseded(c, operation_id))
        if old is None:
            return
        kind = self.kinds.get(old.kind)
        for step in reversed(await self.db.read(self.journal.steps_of, operation_id)):
            if step.undo and step.state in UNDOABLE:
                try:
                    await self._undo(old, kind, step, operation_id)
                except Fault as fault:
                    raise Parked(f"undo of {old.kind}/{step.step}: {fault!r}") from fault
                step.state = "undone"
                await self._commit(row, f"journal: {step.step} undone", partial(self._end_undone, step=step))
        ended = self.journal.end_superseded
        await self._commit(row, taking, lambda c: ended(c, operation_id, self.db.now(c)))

    # ── acting

    async def _act(self, row: OperationRow, step: StepRow, act: Act, args: tuple[Any, ...], waits: Waits) -> Any:
        if isinstance(act, HostVerb):
            values = dict(zip(act.parameters, msgspec.to_builtins(list(args)), strict=False))
            do = DoStep(row.id, step.step, step.index, row.epoch, act.verb, values, "", "", row.request_id)
            do.away_seconds = waits.away_seconds
            entered = partial(self._entered, row, step, waits.phases)
            return await self._hosts.run(do, act.target, waits.host_seconds, entered)

        async def again(fault: Fault) -> None:
            spans.note(f"asked again: {fault.message}")
            await self.db.read(self.journal.check, row.id, row.epoch)  # it may be another's meanwhile

        here = partial(act, Step(self, row, f"{row.id}/{step.step}/{step.index}"), *args)
        return await patiently(self.world.clock, waits.away_seconds, here, again)

    async def _entered(self, row: OperationRow, step: StepRow, phases: tuple[str, ...], phase: str) -> None:
        """The step's host is in that phase of it, which users see when it is one of `phases`."""
        kind = self.kinds[row.kind]
        if phase in phases:
            await self._owed[row.id].show(step, step.title + _showing(phase), lambda c: kind.shown(c, row, phase))

    async def _undo(self, row: OperationRow, kind: Kind[S] | None, step: StepRow, operation_id: str) -> None:
        spans.note(f"undo: {step.title}")
        values = [*step.args, step.result][: step.undo_arity]
        await self._seams.before(row, step, "undo")
        for _ in range(self._seams.times(step, "undo")):
            await self._undo_with_retries(row, kind, step, values)
        await self._seams.after(row, step, "undo")

    async def _undo_with_retries(
        self, row: OperationRow, kind: Kind[S] | None, step: StepRow, values: list[Any]
    ) -> None:
        for attempt in range(1, UNDO_TRIES + 1):
            try:
                if step.undo.startswith("host:"):
                    return await self._undo_on_host(row, step, values, attempt)
                return await self._undo_here(row, kind, step, values)
            except (Superseded, DatabaseAway):
                raise
            except Exception as error:  # tried again, then parked by the caller
                if attempt == UNDO_TRIES or (isinstance(error, Fault) and error.code == "HostSilent"):
                    raise
                await self.world.clock.sleep(0.5 * 2**attempt)
        return None

    async def _undo_on_host(self, row: OperationRow, step: StepRow, values: list[Any], attempt: int) -> None:
        """Each attempt is a step of its own: a host answers a failed step of one epoch with the same failure."""
        _, exchange, type_, name, verb = step.undo.split(":", 4)
        key = f"{step.step}~undo" + (str(attempt) if attempt > 1 else "")
        do = DoStep(row.id, key, step.index, row.epoch, verb, {"*": values}, "", "", row.request_id)
        await self._hosts.run(do, Target(exchange, type_, name), self._parts.pace.undo_patience_seconds)

    async def _undo_here(self, row: OperationRow, kind: Kind[S] | None, step: StepRow, values: list[Any]) -> None:
        undo = next((u for u in (kind.undos if kind else ()) if step.undo == f"here:{u.__name__}"), None)
        if undo is None:
            raise unavailable("This release does not know how to undo a step.", inside=f"{row.kind}: {step.undo}")
        hints = hints_of(undo)
        named = zip(parameters_of(undo)[1:], values, strict=False)
        typed = [None if value is None else msgspec.convert(value, hints.get(name, Any)) for name, value in named]
        await undo(Step(self, row, f"{row.id}/{step.step}/{step.index}/undo"), *typed)


def _nothing(_: Connection) -> None:
    """A flow that ends without a last write, or a commit of what is owed alone."""


def _showing(shows: str | None) -> str:
    return f"; task_state = {shows}" if shows else ""
