"""Idempotency keys: a POST between our services that is sent twice makes one row and gives one answer.

The key (`operation/step/index`) is stored in the transaction that inserts the row; a repeat finds the row's id.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement, insert
from kilonova.db.types import Id, Timestamp


def idempotency_table(metadata: sa.MetaData) -> sa.Table:
    """The table, one per service database."""
    return sa.Table(
        "idempotency",
        metadata,
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False, index=True),
    )


def earlier(connection: Connection, table: sa.Table, key: str, user_id: str) -> str | None:
    """The resource that this caller's earlier request with `key` made, if any. Empty key: None."""
    if not key:
        return None
    return _earlier(table).scalar(connection, key=key, user=user_id)  # type: ignore[no-any-return]


@cache
def _earlier(table: sa.Table) -> Statement:
    c = table.c
    return Statement(sa.select(c.resource_id).where(c.key == sa.bindparam("key"), c.user_id == sa.bindparam("user")))


def remember(connection: Connection, table: sa.Table, key: str, user_id: str, resource_id: str, now: datetime) -> None:
    """Store that `key` made `resource_id`; call in the unit that inserts the row."""
    if key:
        values = {"key": key, "user_id": user_id, "resource_id": resource_id, "created_at": now}
        insert(connection, table, values)


def forget_before(connection: Connection, table: sa.Table, moment: datetime) -> int:
    """Delete keys older than `moment`; returns how many."""
    return connection.execute(table.delete().where(table.c.created_at < moment)).rowcount


def forget(connection: Connection, table: sa.Table, key: str, user_id: str) -> None:
    """Drop one key: what it made was undone since, so the request is new again."""
    connection.execute(table.delete().where(table.c.key == key, table.c.user_id == user_id))
