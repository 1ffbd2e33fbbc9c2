"""Servers as hosts see them and as operators count them: power states, disagreements, what is under way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.schema import journal
from kilonova.compute.server import states
from kilonova.compute.server.store import Server, as_server, servers
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.statements import Statement, update

# ── what hosts say


_HERE = sa.select(
    servers.c.id, servers.c.vm_state, servers.c.task_state, servers.c.power_state, servers.c.operation_id
).where(servers.c.host == sa.bindparam("host"), sa.or_(servers.c.deleted_at.is_(None), servers.c.operation_id != ""))
_ON_HOST = Statement(_HERE)
_THESE_ON_HOST = Statement(_HERE.where(servers.c.id.in_(sa.bindparam("ids", expanding=True))))


def on_host(connection: Connection, host: str) -> list[tuple[str, str, str, str, str]]:
    """(id, vm_state, task_state, power_state, operation_id) of the servers on a host, also those being deleted."""
    return _ON_HOST.all(connection, host=host)


def these_on_host(connection: Connection, host: str, ids: Sequence[str]) -> list[tuple[str, str, str, str, str]]:
    """The same, of the servers with these ids only."""
    return _THESE_ON_HOST.all(connection, host=host, ids=ids)


_LIVE_ON_HOST = Statement(
    sa.select(servers.c.id).where(servers.c.host == sa.bindparam("host"), servers.c.deleted_at.is_(None))
)


def live_on_host(connection: Connection, host: str) -> frozenset[str]:
    """Ids of the servers on a host that are not deleted."""
    return frozenset(row[0] for row in _LIVE_ON_HOST.all(connection, host=host))


def may_hold_room(connection: Connection, server_id: str) -> bool:
    """Whether placement may hold something for it: it is on a host, or an operation is under way."""
    s = servers.c
    found = sa.select(s.number).where(s.id == server_id, s.deleted_at.is_(None), s.host != "")
    return connection.scalar(found) is not None or bool(unfinished_operations(connection, server_id))


def set_power(connection: Connection, server_id: str, power: str) -> None:
    """What the hypervisor sees."""
    update(connection, servers, {"id": server_id}, {"power_state": power})


def _is_stopped(runs: tuple[str, ...], settled: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Stopped for a while, in peace, with a guest that is in one of the power states `runs`."""
    s = servers.c
    still = (s.vm_state == states.STOPPED, s.power_state.in_(runs), s.operation_id == "", s.task_state == "")
    return (*still, s.deleted_at.is_(None), s.updated_at < settled)


def runs_though_stopped(connection: Connection, runs: tuple[str, ...], settled: datetime) -> list[str]:
    """Ids of servers that are stopped and whose guests run."""
    return list(connection.scalars(sa.select(servers.c.id).where(*_is_stopped(runs, settled))))


def admit_that_it_runs(
    connection: Connection, server_id: str, runs: tuple[str, ...], settled: datetime, now: datetime
) -> bool:
    """The record says active, as the guest is; False when that is not so (any more)."""
    admitted = servers.update().where(servers.c.id == server_id, *_is_stopped(runs, settled))
    return connection.execute(admitted.values(vm_state=states.ACTIVE, updated_at=now)).rowcount > 0


def soft_deleted_before(connection: Connection, moment: datetime) -> list[str]:
    """Ids of servers that were soft-deleted then or earlier, and that nobody works on."""
    s = servers.c
    due = (s.vm_state == states.SOFT_DELETED, s.soft_deleted_at <= moment, s.task_state == "", s.deleted_at.is_(None))
    return list(connection.scalars(sa.select(s.id).where(*due).order_by(s.number)))


# ── whose addresses are compared


def _settled() -> tuple[sa.ColumnElement[bool], ...]:
    """On a host, and no operation works on it."""
    return (servers.c.host != "", servers.c.operation_id == "", servers.c.deleted_at.is_(None))


def count_placed(connection: Connection) -> int:
    """How many servers are on hosts and left in peace."""
    return connection.scalar(sa.select(sa.func.count()).select_from(servers).where(*_settled())) or 0


def placed(connection: Connection, turn: int, turns: int) -> list[str]:
    """Ids of those whose turn it is."""
    found = sa.select(servers.c.id).where(*_settled(), servers.c.number % turns == turn)
    return list(connection.scalars(found.order_by(servers.c.number)))


# ── for checkers and operators


def every(connection: Connection) -> list[Server]:
    """All records, deleted ones too."""
    return [as_server(row) for row in connection.execute(sa.select(servers).order_by(servers.c.number))]


def count_operations(connection: Connection, in_states: tuple[str, ...]) -> int:
    """How many operations are in one of the states."""
    o = journal.operations.c
    return connection.scalar(sa.select(sa.func.count()).where(o.state.in_(in_states))) or 0


def open_operations(connection: Connection) -> list[tuple[str, str, str]]:
    """(kind, server id, state) of the operations that have not ended."""
    o = journal.operations.c
    found = sa.select(o.kind, o.resource_id, o.state).where(o.state.not_in(("done", "failed")))
    return [(row[0], row[1], row[2]) for row in connection.execute(found)]


def _contradicts(pairs: Iterable[tuple[str, str]], settled: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """In one of these (vm_state, power_state) for a while, in peace."""
    s = servers.c
    one_of = sa.or_(*(sa.and_(s.vm_state == vm_state, s.power_state == power) for vm_state, power in pairs))
    return (one_of, s.operation_id == "", s.task_state == "", s.deleted_at.is_(None), s.updated_at < settled)


def contradicting(
    connection: Connection, pairs: Iterable[tuple[str, str]], settled: datetime
) -> list[tuple[str, str, str, str]]:
    """(id, host, vm_state, power_state) of servers that nobody works on and that are in one of these pairs."""
    s = servers.c
    found = sa.select(s.id, s.host, s.vm_state, s.power_state).where(*_contradicts(pairs, settled))
    return [tuple(row) for row in connection.execute(found)]


def correct_state(
    connection: Connection, server_id: str, pair: tuple[str, str], true_state: str, settled: datetime, now: datetime
) -> int:
    """vm_state of a server that is still in this pair of (vm_state, power_state); 1 when it was set."""
    mine = servers.update().where(servers.c.id == server_id, *_contradicts([pair], settled))
    return connection.execute(mine.values(vm_state=true_state, updated_at=now)).rowcount
