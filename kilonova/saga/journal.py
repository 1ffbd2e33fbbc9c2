"""The journal: operations and their steps as rows of the service's own database, so that a step and what it changed
commit together. Every write is compare-and-set on the operation's epoch: whoever lost the lease writes nothing more.

Operation states: running → done | undoing → failed | stuck; superseded when another operation took its resource.
Step states: running → finished | failed; then undone, or kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.bus.steps import StepDone
from kilonova.db.database import lone
from kilonova.db.statements import Statement, insert, update
from kilonova.db.types import Id, Name, Timestamp

LEASE_SECONDS = 30.0
UNFINISHED = ("running", "undoing", "stuck")


class Superseded(Exception):
    """Another runner or operation owns this now: stop, write nothing, undo nothing."""


class Parked(Exception):
    """The operation cannot go on now (a host is silent) and must not fail: it is tried again later, by anyone."""


class OperationRow(msgspec.Struct):
    """An operation as it is journalled."""

    id: str
    kind: str
    version: int
    resource_id: str
    args: dict[str, Any]
    user_id: str
    project_id: str
    request_id: str
    created_at: datetime
    state: str = "running"
    epoch: int = 0
    owner: str = ""
    lease_until: datetime | None = None
    deadline_at: datetime | None = None
    sealed: bytes | None = None
    error: dict[str, Any] | None = None
    traceparent: str = ""
    updated_at: datetime | None = None
    finished_at: datetime | None = None


class StepRow(msgspec.Struct):
    """A step as it is journalled. `undo` is "" | "here:NAME" | "host:EXCHANGE:TYPE:HOST:VERB"."""

    operation_id: str
    step: str
    index: int
    position: int
    title: str
    args: list[Any]
    started_at: datetime
    state: str = "running"
    undo: str = ""
    undo_arity: int = 0
    result: Any = None
    error: dict[str, Any] | None = None
    host: str = ""
    finished_at: datetime | None = None


class Journal:
    """The journal's tables and units in one service's database. Runners renew leases three times in `lease_seconds`."""

    def __init__(self, metadata: sa.MetaData, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lease_seconds = lease_seconds
        self.operations = sa.Table(
            "operation",
            metadata,
            sa.Column("id", Id(), primary_key=True),
            sa.Column("kind", Name(), nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("resource_id", Id(), nullable=False, index=True),
            sa.Column("args", sa.JSON, nullable=False),
            sa.Column("user_id", Id(), nullable=False),
            sa.Column("project_id", Id(), nullable=False),
            sa.Column("request_id", Name(), nullable=False, index=True),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("epoch", sa.Integer, nullable=False),
            sa.Column("owner", Name(), nullable=False),
            sa.Column("lease_until", Timestamp()),
            sa.Column("deadline_at", Timestamp()),
            sa.Column("sealed", sa.LargeBinary(1 << 20)),
            sa.Column("error", sa.JSON(none_as_null=True)),
            sa.Column("traceparent", sa.String(80), nullable=False),
            sa.Column("created_at", Timestamp(), nullable=False),
            sa.Column("updated_at", Timestamp()),
            sa.Column("finished_at", Timestamp()),
            sa.Index("operation_unfinished", "state", "lease_until"),
        )
        self.steps = sa.Table(
            "operation_step",
            metadata,
            sa.Column("operation_id", Id(), primary_key=True),
            sa.Column("step", sa.String(80), primary_key=True),
            sa.Column("index", sa.Integer, primary_key=True),
            sa.Column("position", sa.Integer, nullable=False),
            sa.Column("title", Name(), nullable=False),
            sa.Column("args", sa.JSON, nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("undo", Name(), nullable=False),
            sa.Column("undo_arity", sa.Integer, nullable=False),
            sa.Column("result", sa.JSON(none_as_null=True)),
            sa.Column("error", sa.JSON(none_as_null=True)),
            sa.Column("host", Name(), nullable=False),
            sa.Column("started_at", Timestamp(), nullable=False),
            sa.Column("finished_at", Timestamp()),
        )

        self._moves: dict[tuple[str, ...], Statement] = {}  # by the columns they set
        self._of_id, self._steps_of, self._on_host, self._lease, *others = self._statements()
        self._take, self._touch_mine, self._mine = others

    def _statements(self) -> tuple[Statement, ...]:
        """What every step runs, written once."""
        o, s = self.operations, self.steps
        alive: dict[str, Any] = {"lease_until": sa.bindparam("lease_until"), "updated_at": sa.bindparam("updated_at")}
        unfinished = o.c.state.in_(UNFINISHED)
        free = sa.or_(o.c.lease_until.is_(None), o.c.lease_until < sa.bindparam("now"))
        mine = o.c.id == sa.bindparam("operation")
        taken: dict[str, Any] = {"owner": sa.bindparam("by"), "epoch": o.c.epoch + 1, **alive}
        return (
            Statement(sa.select(*_columns(o, OperationRow)).where(o.c.id == sa.bindparam("operation"))),
            Statement(
                sa.select(*_columns(s, StepRow))
                .where(s.c.operation_id == sa.bindparam("operation"))
                .order_by(s.c.position)
            ),
            Statement(
                sa.select(s.c.index)
                .where(s.c.operation_id == sa.bindparam("operation"), s.c.host == sa.bindparam("on"))
                .limit(1)
            ),
            Statement(o.update().where(mine, unfinished, free).values(taken)),
            Statement(o.update().where(mine, o.c.state == "running", o.c.epoch == 0, free).values(taken)),
            Statement(o.update().where(mine, o.c.epoch == sa.bindparam("held"), unfinished).values(alive)),
            Statement(sa.select(o.c.id).where(mine, o.c.epoch == sa.bindparam("held"), unfinished)),
        )

    def tables(self) -> tuple[sa.Table, sa.Table]:
        """For the service's migration, and for retention."""
        return self.operations, self.steps

    # ── units: operations

    def insert(self, connection: Connection, row: OperationRow) -> None:
        """Record a new operation; call in the unit that changes the resource."""
        insert(connection, self.operations, _values(row))

    @lone
    def get(self, connection: Connection, operation_id: str) -> OperationRow | None:
        """The operation, or None."""
        row = self._of_id.first(connection, operation=operation_id)
        return None if row is None else OperationRow(*row)

    def lease(self, connection: Connection, operation_id: str, owner: str, now: datetime) -> OperationRow | None:
        """Take the operation if nobody holds it: its epoch rises. None when it is held, finished or unknown."""
        taken = self._lease.change(connection, operation=operation_id, now=now, by=owner, **self._alive(now))
        return self.get(connection, operation_id) if taken else None

    def take(self, connection: Connection, operation_id: str, owner: str, now: datetime) -> bool:
        """Take an operation that nobody has had yet: its epoch is 1 from now on. False when somebody has it."""
        return bool(self._take.change(connection, operation=operation_id, now=now, by=owner, **self._alive(now)))

    def keep(self, connection: Connection, operation_id: str, epoch: int, now: datetime) -> None:
        """Prolong the lease, with whatever else is written; Superseded when it was lost."""
        if not self._touch(connection, operation_id, epoch, now):
            raise Superseded(operation_id)

    @lone
    def check(self, connection: Connection, operation_id: str, epoch: int) -> None:
        """Superseded when the lease was lost; nothing is prolonged."""
        if self._mine.first(connection, operation=operation_id, held=epoch) is None:
            raise Superseded(operation_id)

    def renew(self, connection: Connection, held: dict[str, int], now: datetime) -> list[str]:
        """Prolong the leases of {operation id: epoch}; returns those that were lost."""
        return [one for one, epoch in held.items() if not self._touch(connection, one, epoch, now)]

    def release(self, connection: Connection, operation_id: str, epoch: int, until: datetime) -> None:
        """Give the lease back, to be tried again by anyone after `until`."""
        o = self.operations
        connection.execute(
            o.update().where(o.c.id == operation_id, o.c.epoch == epoch).values(owner="", lease_until=until)
        )

    def hand_over(self, connection: Connection, operation_id: str, epoch: int, now: datetime) -> None:
        """End the lease at once: the runner leaves, and whoever looks next goes on."""
        o = self.operations
        mine = o.update().where(o.c.id == operation_id, o.c.epoch == epoch, o.c.state.in_(UNFINISHED))
        connection.execute(mine.values(lease_until=now))

    def due(self, connection: Connection, now: datetime, limit: int = 100) -> list[tuple[str, str]]:
        """(operation, who had it last or "") of the unfinished ones that nobody works on."""
        o = self.operations
        free = sa.or_(o.c.lease_until.is_(None), o.c.lease_until < now)
        mine = sa.select(o.c.id, o.c.owner).where(o.c.state.in_(UNFINISHED), free)
        return [(id_, owner) for id_, owner in connection.execute(mine.order_by(o.c.created_at).limit(limit))]

    def under_way(self, connection: Connection) -> tuple[int, int]:
        """(unfinished operations, of them stuck)."""
        o = self.operations
        found = sa.select(o.c.state, sa.func.count()).where(o.c.state.in_(UNFINISHED)).group_by(o.c.state)
        by_state: dict[str, int] = dict(connection.execute(found).all())
        return sum(by_state.values()), by_state.get("stuck", 0)

    def supersede(self, connection: Connection, operation_id: str, now: datetime) -> OperationRow | None:
        """Take an operation away from its runner for good; its undos become the caller's duty. None: it had ended."""
        o = self.operations
        connection.execute(
            o.update()
            .where(o.c.id == operation_id, o.c.state.in_(UNFINISHED))
            .values(state="superseded", epoch=o.c.epoch + 1, owner="", lease_until=None, updated_at=now)
        )
        row = self.get(connection, operation_id)
        return row if row is not None and row.state == "superseded" else None

    def cancel(self, connection: Connection, operation_id: str, why: Fault, now: datetime) -> None:
        """Take an operation away from its runner: whoever leases it next undoes it. It has ended: nothing."""
        o = self.operations
        values = {"state": "undoing", "error": why.to_wire(), "epoch": o.c.epoch + 1, "owner": "", "lease_until": None}
        mine = o.update().where(o.c.id == operation_id, o.c.state.in_(UNFINISHED))
        connection.execute(mine.values(**values, updated_at=now))

    def reclaim_superseded(self, connection: Connection, operation_id: str) -> OperationRow | None:
        """A superseded operation under a higher epoch, so that hosts do again what failed before. None: it is over."""
        o = self.operations
        mine = o.update().where(o.c.id == operation_id, o.c.state == "superseded").values(epoch=o.c.epoch + 1)
        return self.get(connection, operation_id) if connection.execute(mine).rowcount else None

    def move(self, connection: Connection, row: OperationRow, state: str, now: datetime, fault: Fault | None) -> None:
        """Set the operation's state; ended states erase its secrets."""
        values: dict[str, Any] = {"state": state, "updated_at": now}
        if fault is not None:
            values["error"] = fault.to_wire()
        if state in ("done", "failed"):
            values |= {"sealed": None, "finished_at": now, "lease_until": None, "owner": ""}
        self._guarded(connection, row.id, row.epoch, values)
        row.state = state

    def end_superseded(self, connection: Connection, operation_id: str, now: datetime) -> None:
        """A superseded operation's undos are done."""
        o = self.operations
        connection.execute(
            o.update()
            .where(o.c.id == operation_id, o.c.state == "superseded")
            .values(state="failed", sealed=None, finished_at=now)
        )

    # ── units: steps

    def steps_of(self, connection: Connection, operation_id: str) -> list[StepRow]:
        """Its steps, in the order they began."""
        return [StepRow(*row) for row in self._steps_of.all(connection, operation=operation_id)]

    def has_step_on(self, connection: Connection, operation_id: str, host: str) -> bool:
        """Whether a step of the operation is or was done on that host."""
        return bool(operation_id) and self._on_host.first(connection, operation=operation_id, on=host) is not None

    def put_step(self, connection: Connection, step: StepRow) -> None:
        """A step that is about to act, whose undo is known from here on; or one that has ended already."""
        insert(connection, self.steps, _values(step))

    def end_step(self, connection: Connection, step: StepRow, now: datetime) -> None:
        """The step finished, failed, or was undone: `step.state`, with result or error. Call it beside `keep`."""
        key = {"operation_id": step.operation_id, "step": step.step, "index": step.index}
        ended = {"state": step.state, "result": step.result, "error": step.error, "finished_at": now}
        update(connection, self.steps, key, ended)

    def record_host_result(self, connection: Connection, done: StepDone) -> bool:
        """A host's answer arrived at a process that does not run the operation. False: nobody needs it of that host."""
        s, o = self.steps, self.operations
        held = sa.select(o.c.id).where(o.c.id == done.operation, o.c.epoch == done.epoch)
        if connection.scalar(held) is None:
            return False
        stored = connection.execute(
            s.update()
            .where(s.c.operation_id == done.operation, s.c.step == done.step, s.c.index == done.index)
            .where(s.c.state == "running", s.c.host.in_(sorted({"", done.host})))
            .values(state=done.state, result=done.result, error=done.error)
        )
        return bool(stored.rowcount)

    def step(self, connection: Connection, operation_id: str, step: str, index: int) -> StepRow | None:
        """One step."""
        s = self.steps
        found = sa.select(s).where(s.c.operation_id == operation_id, s.c.step == step, s.c.index == index)
        row = connection.execute(found).mappings().first()
        return None if row is None else StepRow(**row)

    def ended(self, connection: Connection, resource_id: str, kind: str) -> bool:
        """Whether an operation of that kind on the resource is done, as far back as the journal goes."""
        o = self.operations
        done = sa.select(o.c.id).where(o.c.resource_id == resource_id, o.c.kind == kind, o.c.state == "done")
        return connection.scalar(done.limit(1)) is not None

    def forget_before(self, connection: Connection, moment: datetime, limit: int = 1000) -> int:
        """Delete ended operations older than `moment`; returns how many."""
        o, s = self.operations, self.steps
        old = list(connection.scalars(sa.select(o.c.id).where(o.c.finished_at < moment).limit(limit)))
        connection.execute(s.delete().where(s.c.operation_id.in_(old)))
        connection.execute(o.delete().where(o.c.id.in_(old)))
        return len(old)

    # ── guards

    def _touch(self, connection: Connection, operation_id: str, epoch: int, now: datetime) -> bool:
        return bool(self._touch_mine.change(connection, operation=operation_id, held=epoch, **self._alive(now)))

    def _guarded(self, connection: Connection, operation_id: str, epoch: int, values: dict[str, Any]) -> None:
        statement = self._moves.get(tuple(values))
        if statement is None:
            statement = self._moves[tuple(values)] = self._move_of(values)
        if not statement.change(connection, operation=operation_id, held=epoch, **values):
            raise Superseded(operation_id)

    def _move_of(self, names: Iterable[str]) -> Statement:
        """Sets these columns of an operation that is still held and has not ended."""
        o = self.operations
        mine = o.c.id == sa.bindparam("operation"), o.c.epoch == sa.bindparam("held"), o.c.state.in_(UNFINISHED)
        new = {name: sa.bindparam(name, type_=o.c[name].type) for name in names}
        return Statement(o.update().where(*mine).values(new))

    def _alive(self, now: datetime) -> dict[str, Any]:
        return {"lease_until": now + timedelta(seconds=self.lease_seconds), "updated_at": now}


def _values(row: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _columns(table: sa.Table, row: type[msgspec.Struct]) -> list[sa.Column[Any]]:
    return [table.c[name] for name in row.__struct_fields__]
