"""The agent's ledger: journalled steps that this host was asked to do, in its own small database.

A step is acknowledged once it stands here. It is done once; its end is told until the broker has that. After a
restart, what ran is `lost` (the driver sends it again), what ended untold is told again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.patience import patiently
from kilonova.base.signatures import hints_of
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler, Message, Target
from kilonova.bus.steps import DoStep, StepDone, StepDriver, StepStatus
from kilonova.db.database import Database
from kilonova.db.statements import Statement, update
from kilonova.db.types import Id, Name, Timestamp
from kilonova.trace import spans

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
PHASES_PER_PROGRESS = 10  # a step's phase that lasts is told of so much sooner
FORGET_SECONDS = 6 * 3600.0
LEAVE_SECONDS = 20.0  # how long an agent that leaves waits for its steps
KEPT = timedelta(days=7)
metadata = sa.MetaData()
_step = sa.Table(
    "step",
    metadata,
    sa.Column("operation", Id(), primary_key=True),
    sa.Column("step", Name(), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # running | finished | failed | lost
    sa.Column("told", sa.Boolean, nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("updated_at", Timestamp(), nullable=False),
)
_epoch = sa.Table(
    "epoch",
    metadata,
    sa.Column("operation", Id(), primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
)

Key = tuple[str, str, int]
T = TypeVar("T")


@dataclass(eq=False)
class _Work:
    """A step that runs; `context` is that of the message that asked for it."""

    step: DoStep
    context: spans.Context | None
    task: asyncio.Task[None] | None = None
    phase: str = ""
    phase_told: str = ""


_current: ContextVar[_Work] = ContextVar("kilonova_step")


def current_step() -> DoStep:
    """The step that the running verb belongs to: its operation, epoch and idempotency key."""
    return _current.get().step


def in_step() -> bool:
    """Whether a step's verb runs; False when the agent acts by itself."""
    return _current.get(None) is not None


def enter_phase(phase: str) -> None:
    """The running verb is in that phase now: its driver shows it to users, if it lasts half a second."""
    if (work := _current.get(None)) is not None:
        work.phase = phase


def idempotency_key(part: str = "") -> str:
    """For a POST to another service made by the running step; `part` tells several POSTs of one step apart."""
    step = current_step()
    return f"{step.operation}/{step.step}/{step.index}" + (f"/{part}" if part else "")


class _Entry(msgspec.Struct):
    asked: DoStep
    state: str
    result: Any = None
    error: dict[str, Any] | None = None

    @property
    def key(self) -> Key:
        return self.asked.operation, self.asked.step, self.asked.index


# ── units


def _unless_there(table: sa.Table, columns: tuple[str, ...]) -> sa.Insert:
    """A row, of which one by the same key is left as it is: the ledger is SQLite's, on every host."""
    return table.insert().prefix_with("OR IGNORE").values({name: sa.bindparam(name) for name in columns})


_KEY = (
    _step.c.operation == sa.bindparam("operation"),
    _step.c.step == sa.bindparam("name"),
    _step.c.index == sa.bindparam("number"),
)
_ENTRY = sa.select(_step.c.asked, _step.c.epoch, _step.c.state, _step.c.result, _step.c.error)
_ONE = Statement(_ENTRY.where(*_KEY))
_UNTOLD = Statement(_ENTRY.where(_step.c.state.in_(("finished", "failed")), _step.c.told.is_(False)))
_NEW_EPOCH = Statement(_unless_there(_epoch, ("operation", "epoch", "updated_at")))
_NEW_STEP = Statement(
    _unless_there(_step, ("operation", "step", "index", "epoch", "state", "told", "asked", "updated_at"))
)
_HIGHER = Statement(
    _epoch.update()
    .where(_epoch.c.operation == sa.bindparam("id"), _epoch.c.epoch <= sa.bindparam("asked"))
    .values(epoch=sa.bindparam("asked"), updated_at=sa.bindparam("now"))
)
_ENDED = Statement(
    _step.update()
    .where(*_KEY)
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "told", "result", "error", "updated_at")})
    .returning(_step.c.epoch)
)


def _read(connection: Connection, key: Key) -> _Entry | None:
    row = _ONE.first(connection, operation=key[0], name=key[1], number=key[2])
    return None if row is None else _entry(row)


def _entry(row: tuple[Any, ...]) -> _Entry:
    asked = msgspec.convert(row[0], DoStep)
    asked.epoch = row[1]
    return _Entry(asked, *row[2:])


def _raise_epoch(connection: Connection, operation: str, epoch: int, now: datetime) -> bool:
    """False when a higher epoch is known."""
    if _NEW_EPOCH.change(connection, operation=operation, epoch=epoch, updated_at=now):
        return True
    return _HIGHER.change(connection, id=operation, asked=epoch, now=now) > 0


def _accept(connection: Connection, step: DoStep, told: list[Key], now: datetime) -> tuple[str, _Entry | None]:
    """What to do with a step that arrived: stale | start | running | told (its entry)."""
    _mark_told(connection, told)
    if not _raise_epoch(connection, step.operation, step.epoch, now):
        return "stale", None
    new = {"operation": step.operation, "step": step.step, "index": step.index, "epoch": step.epoch}
    new |= {"state": "running", "told": False, "asked": msgspec.to_builtins(step), "updated_at": now}
    if _NEW_STEP.change_by(connection, new):
        return "start", None
    entry = _read(connection, (step.operation, step.step, step.index))
    assert entry is not None
    again = entry.state == "lost" or (entry.state == "failed" and step.epoch > entry.asked.epoch)
    values: dict[str, Any] = {"epoch": step.epoch, "updated_at": now}
    if again:
        values |= {"state": "running", "told": False, "error": None}
    _update(connection, (step.operation, step.step, step.index), values)
    entry.asked.epoch = step.epoch
    return ("start" if again else "running" if entry.state == "running" else "told"), entry


def _update(connection: Connection, key: Key, values: dict[str, Any]) -> None:
    update(connection, _step, {"operation": key[0], "step": key[1], "index": key[2]}, values)


def _mark_told(connection: Connection, keys: list[Key]) -> None:
    for key in keys:
        _update(connection, key, {"told": True})


def _end(connection: Connection, entry: _Entry, told: list[Key], now: datetime) -> int:
    """The verb ended; the epoch to tell it under, which a later driver may have raised meanwhile."""
    _mark_told(connection, told)
    operation, name, number = entry.key
    epoch = _ENDED.scalar(
        connection,
        operation=operation,
        name=name,
        number=number,
        new_state=entry.state,
        new_told=False,
        new_result=entry.result,
        new_error=entry.error,
        new_updated_at=now,
    )
    return entry.asked.epoch if epoch is None else int(epoch)


def _status(connection: Connection, key: Key, epoch: int, now: datetime) -> _Entry | None:
    _raise_epoch(connection, key[0], epoch, now)
    return _read(connection, key)


def _forget(connection: Connection, now: datetime) -> None:
    """Drop what nobody will ask about any more."""
    ended = sa.or_(_step.c.told, _step.c.state == "lost")
    connection.execute(_step.delete().where(ended, _step.c.updated_at < now - KEPT))
    connection.execute(_epoch.delete().where(_epoch.c.updated_at < now - KEPT * 2))


def _wake_up(connection: Connection, now: datetime) -> list[_Entry]:
    """After a restart: what ran is lost; returns what ended and was never told."""
    _forget(connection, now)
    connection.execute(_step.update().where(_step.c.state == "running").values(state="lost", updated_at=now))
    return [_entry(row) for row in _UNTOLD.all(connection)]


async def _asked_again(fault: Fault) -> None:
    spans.note(f"asked again: {fault.message}")


class StepServer:
    """Does the journalled verbs of `contract` on `served`, for messages to `type.host`."""

    def __init__(
        self,
        world: World,
        bus: Bus,
        db: Database,
        contract: type,
        served: object,
        *,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self._world = world
        self._bus = bus
        self._db = db
        self._contract = contract
        self._served = served
        self._progress_seconds = progress_seconds
        self._running: dict[Key, _Work] = {}
        self._progress: asyncio.Task[None] | None = None
        self._told: list[Key] = []  # to their drivers; written with the next step: told twice does no harm
        self.host = ""

    async def start(self, host: str) -> None:
        """Open the ledger; call before the bus delivers."""
        self.host = host
        await self._write(metadata.create_all)
        for entry in await self._write(_wake_up, self._world.clock.now()):
            self._world.spawn(self._tell(entry), "ledger tell")
        self._world.spawn(self._forget_forever(), "ledger forget")

    async def close(self) -> None:
        """Wait a while for the steps that run to end and be told; what is left then is `lost`, and asked for again."""
        if self._running:
            await asyncio.wait({work.task for work in self._running.values() if work.task}, timeout=LEAVE_SECONDS)

    async def _forget_forever(self) -> None:
        while True:
            await self._world.clock.sleep(FORGET_SECONDS)
            try:
                await self._write(_forget, self._world.clock.now())
            except Fault as fault:
                log.warning("the ledger was not tidied: %r", fault)

    def handlers(self) -> dict[str, Handler]:
        """For `bus.serve`: every verb of the contract, and `step_status`."""
        verbs = [name for name, value in vars(self._contract).items() if callable(value) and not name.startswith("_")]
        return {**dict.fromkeys(verbs, self._receive), "step_status": self._step_status}

    async def _write(self, unit: Callable[..., T], *args: Any) -> T:
        """Write to the ledger. It is the agent's own notebook, not the cloud's database: traces do not show it."""
        with spans.within(None):
            return await self._db.write(unit, *args)

    async def _read(self, unit: Callable[..., T], *args: Any) -> T:
        with spans.within(None):
            return await self._db.read(unit, *args)

    async def _receive(self, message: Message) -> None:
        step = msgspec.convert(message.args["step"], DoStep)
        verdict, entry = await self._write(_accept, step, self._take_told(), self._world.clock.now())
        key = (step.operation, step.step, step.index)
        if verdict == "stale":
            log.warning("refused %s of operation %s: epoch %d is old", step.verb, step.operation, step.epoch)
        elif verdict == "told" and entry is not None:
            self._world.spawn(self._tell(entry), "ledger tell")
        elif verdict == "start" or key not in self._running:
            ours = [(other, work.task) for other, work in self._running.items() if other[0] == step.operation]
            earlier = [task for other, task in ours if other != key and task is not None]
            work = self._running[key] = _Work(step, spans.current())
            work.task = self._world.spawn(self._do(work, earlier), f"step {step.verb}")
            work.task.add_done_callback(partial(self._ended, key))
            if self._progress is None or self._progress.done():
                self._progress = self._world.spawn(self._tell_progress(), "ledger progress")

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        """However it ended, also when the ledger could not be written: it runs no more, and `step_status` says so."""
        if (work := self._running.get(key)) is not None and work.task is task:
            del self._running[key]

    async def _step_status(self, message: Message) -> Any:
        args = message.args
        key = (str(args["operation"]), str(args["step"]), int(args["index"]))
        entry = await self._write(_status, key, int(args["epoch"]), self._world.clock.now())
        if entry is None:
            return msgspec.to_builtins(StepStatus("unknown"))
        lost = entry.state == "running" and key not in self._running
        state: Any = "lost" if lost else entry.state
        return msgspec.to_builtins(StepStatus(state, entry.result, entry.error))

    async def _do(self, work: _Work, earlier: list[asyncio.Task[None]]) -> None:
        step = work.step
        key = (step.operation, step.step, step.index)
        for task in earlier:  # an abandoned step must have stopped before its undo, or what follows it, begins
            task.cancel()
            await asyncio.wait({task})
        _current.set(work)
        entry = _Entry(step, "finished")
        try:
            done = await patiently(self._world.clock, step.away_seconds, partial(self._verb, step), _asked_again)
            entry.result = msgspec.to_builtins(done)
        except asyncio.CancelledError:
            await self._write(_update, key, {"state": "lost", "updated_at": self._world.clock.now()})
            raise
        except Exception as error:  # the edge of a verb: its fault travels to the driver
            fault = Fault.wrap(error)
            if not isinstance(error, Fault):
                log.exception("%s failed", step.verb)
            entry.state, entry.error = "failed", fault.to_wire()
        step.epoch = await self._write(_end, entry, self._take_told(), self._world.clock.now())
        self._running.pop(key, None)
        await self._tell(entry)

    def _take_told(self) -> list[Key]:
        told, self._told = self._told, []
        return told

    async def _verb(self, step: DoStep) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._served, step.verb)
        hints = hints_of(getattr(self._contract, step.verb))
        names = [name for name in hints if name != "return"]
        if "*" in step.args:
            pairs = list(zip(names, step.args["*"], strict=False))
        else:
            pairs = [(name, step.args[name]) for name in names if name in step.args]
        return await method(**{name: msgspec.convert(value, hints[name]) for name, value in pairs})

    async def _tell_progress(self) -> None:
        """While steps run, their drivers hear of them every few seconds, and sooner of the phase that one is in."""
        ticks = 0
        while self._running:
            await self._world.clock.sleep(self._progress_seconds / PHASES_PER_PROGRESS)
            ticks += 1
            for work in list(self._running.values()):
                if work.phase == work.phase_told and ticks % PHASES_PER_PROGRESS:
                    continue
                step, phase = work.step, work.phase
                driver = rpc.client(StepDriver, self._bus, Target(step.reply_exchange, step.reply_type))
                try:
                    with spans.within(work.context):
                        await driver.step_progress(step.operation, step.step, step.index, step.epoch, phase)
                    work.phase_told = phase
                except Fault:
                    pass  # progress is a courtesy: the driver asks step_status when it hears nothing

    async def _tell(self, entry: _Entry) -> None:
        """Tell the driver, until the broker has it; a later epoch's driver hears it under its own epoch."""
        asked, pause = entry.asked, 0.2
        driver = rpc.client(StepDriver, self._bus, Target(asked.reply_exchange, asked.reply_type))
        latest: _Entry | None = entry
        while latest is not None and latest.state in ("finished", "failed"):
            state: Any = latest.state
            done = StepDone(*entry.key, latest.asked.epoch, state, latest.result, latest.error, self.host)
            try:
                await driver.step_done(done)
            except Fault as fault:
                log.info("step_done of %s not sent yet: %r", asked.verb, fault)
                await self._world.clock.sleep(pause)
                pause = min(pause * 2, 10.0)
                latest = await self._read(_read, entry.key)
                continue
            self._told.append(entry.key)
            return
