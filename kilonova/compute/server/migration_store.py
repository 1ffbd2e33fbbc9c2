"""Migrations in compute's database: a resize, from its first record until it is confirmed, reverted or failed.

While one is open, placement holds the old claim under the migration's id, and the project's quota is charged the larger
of the old and the new flavor, resource by resource: so a revert can never fail for quota.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.compute.contract import Flavor
from kilonova.compute.schema import journal, metadata
from kilonova.compute.server.store import servers
from kilonova.db.database import says
from kilonova.db.listing import Page, paged
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Timestamp
from kilonova.saga.journal import UNFINISHED

PREPARING = "pre-migrating"
MIGRATING = "migrating"
FINISHED = "finished"  # waits for its user's word
CONFIRMING = "confirming"
REVERTING = "reverting"
CONFIRMED = "confirmed"
REVERTED = "reverted"
ERROR = "error"
OPEN = (PREPARING, MIGRATING, FINISHED, CONFIRMING, REVERTING)


class Migration(msgspec.Struct):
    """One move of one server. `vm_state` is the server's before."""

    number: int
    id: str
    server_id: str
    type: str
    status: str
    source_host: str
    source_node: str
    target_host: str
    target_node: str
    target_ip: str
    old_flavor: dict[str, Any]
    new_flavor: dict[str, Any]
    vm_state: str
    user_id: str
    project_id: str
    created_at: datetime
    updated_at: datetime


migrations = sa.Table(
    "migration",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", Id(), nullable=False, unique=True),
    sa.Column("server_id", Id(), nullable=False, index=True),
    sa.Column("type", sa.String(24), nullable=False),
    sa.Column("status", sa.String(24), nullable=False),
    sa.Column("source_host", Name(), nullable=False),
    sa.Column("source_node", Name(), nullable=False),
    sa.Column("target_host", Name(), nullable=False),
    sa.Column("target_node", Name(), nullable=False),
    sa.Column("target_ip", Name(), nullable=False),
    sa.Column("old_flavor", sa.JSON, nullable=False),
    sa.Column("new_flavor", sa.JSON, nullable=False),
    sa.Column("vm_state", sa.String(24), nullable=False),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("project_id", Id(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False, index=True),
    sa.Column("updated_at", Timestamp(), nullable=False, index=True),
)
M = migrations.c


# ── reading


@says("migrations: read the server's")
def open_of(connection: Connection, server_id: str) -> Migration | None:
    """The server's migration that is not over, if any."""
    found = sa.select(migrations).where(M.server_id == server_id, M.status.in_(OPEN)).order_by(M.number.desc())
    row = connection.execute(found).first()
    return None if row is None else Migration(*row)


def get(connection: Connection, migration_id: str) -> Migration:
    """The migration; NOT_FOUND when it is not there."""
    row = connection.execute(sa.select(migrations).where(M.id == migration_id)).first()
    if row is None:
        raise not_found("Migration", migration_id, code="MigrationNotFound")
    return Migration(*row)


_OPEN_OF = Statement(sa.select(M.id).where(M.server_id == sa.bindparam("server"), M.status.in_(OPEN)))


def open_ids(connection: Connection, server_id: str) -> list[str]:
    """Ids under which placement may hold the server's old claims."""
    return _OPEN_OF.scalars(connection, server=server_id)


def may_hold_room(connection: Connection, consumer: str) -> bool:
    """Whether placement may hold something under this migration's id: it is open, or its server is worked on."""
    found = connection.execute(sa.select(M.server_id, M.status).where(M.id == consumer)).first()
    if found is None:
        return False
    o = journal.operations.c
    busy = sa.select(o.id).where(o.resource_id == found.server_id, o.state.in_((*UNFINISHED, "superseded")))
    return found.status in OPEN or connection.scalar(busy.limit(1)) is not None


def finished_before(connection: Connection, moment: datetime, limit: int = 100) -> list[Migration]:
    """Those that have waited for their user's word since before `moment`."""
    found = sa.select(migrations).where(M.status == FINISHED, M.updated_at < moment).order_by(M.number).limit(limit)
    return [Migration(*row) for row in connection.execute(found)]


def every(connection: Connection) -> list[Migration]:
    """All of them: for checkers."""
    return [Migration(*row) for row in connection.execute(sa.select(migrations).order_by(M.number))]


class Filters(msgspec.Struct):
    """Which migrations; None is any."""

    status: str | None = None
    host: str | None = None  # either end
    server_id: str | None = None
    source_host: str | None = None
    type: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None


COLUMNS: Mapping[str, sa.ColumnElement[Any]] = {"id": M.id, "created_at": M.created_at}


def listed(connection: Connection, wanted: Filters, page: Page) -> list[Migration]:
    """One page of them."""
    equal = {M.status: wanted.status, M.server_id: wanted.server_id, M.source_host: wanted.source_host,
             M.type: wanted.type, M.user_id: wanted.user_id, M.project_id: wanted.project_id}  # fmt: skip
    found = sa.select(migrations).where(*(column == value for column, value in equal.items() if value is not None))
    if wanted.host is not None:
        found = found.where(sa.or_(M.source_host == wanted.host, M.target_host == wanted.host))
    if wanted.since is not None:
        found = found.where(M.updated_at >= wanted.since)
    if wanted.before is not None:
        found = found.where(M.updated_at <= wanted.before)
    return [Migration(*row) for row in connection.execute(paged(connection, found, COLUMNS, page))]


# ── writing


def insert(connection: Connection, migration: Migration) -> None:
    """A new one; its number is given here."""
    values = msgspec.structs.asdict(migration)
    del values["number"]
    connection.execute(migrations.insert().values(**values))


def set_status(connection: Connection, migration_id: str, status: str, now: datetime) -> None:
    """How far it is; one that is over stays so."""
    mine = migrations.update().where(M.id == migration_id, M.status.in_(OPEN))
    connection.execute(mine.values(status=status, updated_at=now))


_MINE = sa.update(migrations).where(M.server_id == sa.bindparam("server"))
_NOW: sa.BindParameter[datetime] = sa.bindparam("now", type_=M.updated_at.type)
_CLOSE_DONE = Statement(_MINE.where(M.status.in_((FINISHED, CONFIRMING))).values(status=CONFIRMED, updated_at=_NOW))
_CLOSE_OPEN = Statement(_MINE.where(M.status.in_(OPEN)).values(status=ERROR, updated_at=_NOW))


def close_of(connection: Connection, server_id: str, now: datetime) -> None:
    """The server is deleted: what waited for its user's word counts as confirmed, the rest has failed."""
    _CLOSE_DONE.change(connection, server=server_id, now=now)
    _CLOSE_OPEN.change(connection, server=server_id, now=now)


def set_flavor(connection: Connection, server_id: str, flavor: dict[str, Any], now: datetime) -> None:
    """The server is of this flavor. Not as its owner: also what was superseded is undone by this."""
    write_server(connection, server_id, {"flavor": flavor}, now)
    charge(connection, server_id)


def write_server(connection: Connection, server_id: str, values: dict[str, Any], now: datetime) -> None:
    """Change what is not state, whoever owns the server: also what was superseded is undone by this."""
    connection.execute(servers.update().where(servers.c.id == server_id).values(**values, updated_at=now))


def charge(connection: Connection, server_id: str) -> None:
    """Its project's quota counts the larger of the server's flavor and those of its open migration."""
    own = connection.scalar(sa.select(servers.c.flavor).where(servers.c.id == server_id))
    if own is None:
        return
    sizes = [msgspec.convert(own, Flavor)]
    if (moving := open_of(connection, server_id)) is not None:
        sizes += [msgspec.convert(one, Flavor) for one in (moving.old_flavor, moving.new_flavor)]
    values = {"vcpus": max(one.vcpus for one in sizes), "memory_mb": max(one.memory_mb for one in sizes)}
    connection.execute(servers.update().where(servers.c.id == server_id).values(**values))


def forget_orphans(connection: Connection, limit: int = 500) -> int:
    """Remove the migrations of servers whose records are gone; returns how many."""
    known = sa.select(servers.c.id)
    old = list(connection.scalars(sa.select(M.id).where(M.server_id.not_in(known)).limit(limit)))
    if old:
        connection.execute(migrations.delete().where(M.id.in_(old)))
    return len(old)
