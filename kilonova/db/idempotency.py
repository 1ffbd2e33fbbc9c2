"""Idempotency keys: a POST between our services that is sent twice makes one row and gives one answer.

The key (`operation/step/index`) is stored in the transaction that inserts the row; a repeat finds the row's id.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

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
    found = sa.select(table.c.resource_id).where(table.c.key == key, table.c.user_id == user_id)
    return connection.scalar(found)


def remember(connection: Connection, table: sa.Table, key: str, user_id: str, resource_id: str, now: datetime) -> None:
    """Store that `key` made `resource_id`; call in the unit that inserts the row."""
    if key:
        connection.execute(table.insert().values(key=key, user_id=user_id, resource_id=resource_id, created_at=now))


def forget_before(connection: Connection, table: sa.Table, moment: datetime) -> int:
    """Delete keys older than `moment`; returns how many."""
    return connection.execute(table.delete().where(table.c.created_at < moment)).rowcount


def forget(connection: Connection, table: sa.Table, key: str, user_id: str) -> None:
    """Drop one key: what it made was undone since, so the request is new again."""
    connection.execute(table.delete().where(table.c.key == key, table.c.user_id == user_id))
