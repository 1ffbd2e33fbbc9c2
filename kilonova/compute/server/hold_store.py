"""Holds: volumes are being reserved for a server whose record does not stand yet. One row, written before the first.

A process that dies in between leaves the row, by which a loop finds what was reserved and gives it back. Who takes
the row decides: a record that comes too late finds it marked, and does not stand.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.schema import metadata
from kilonova.db.types import Id, Timestamp

holds = sa.Table(
    "volume_hold",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("created_at", Timestamp(), nullable=False, index=True),
    sa.Column("given_back", sa.Boolean, nullable=False),
)


def begin(connection: Connection, server_id: str, now: datetime) -> None:
    """Volumes will be reserved for the server."""
    connection.execute(holds.insert().values(server_id=server_id, created_at=now, given_back=False))


def become_record(connection: Connection, server_id: str) -> bool:
    """The server's record stands from this transaction on; False when its volumes are being given back already."""
    mine = holds.delete().where(holds.c.server_id == server_id, holds.c.given_back.is_(False))
    return bool(connection.execute(mine).rowcount)


def give_back(connection: Connection, server_id: str) -> None:
    """No record will stand."""
    connection.execute(holds.update().where(holds.c.server_id == server_id).values(given_back=True))


def give_back_before(connection: Connection, moment: datetime, limit: int = 50) -> list[str]:
    """Ids of servers whose volumes were held before `moment`, and whose record will not stand any more."""
    old = sa.select(holds.c.server_id).where(holds.c.created_at < moment).order_by(holds.c.created_at).limit(limit)
    found = list(connection.scalars(old))
    connection.execute(holds.update().where(holds.c.server_id.in_(found)).values(given_back=True))
    return found


def end(connection: Connection, server_id: str) -> None:
    """Nothing is reserved for it."""
    connection.execute(holds.delete().where(holds.c.server_id == server_id))
