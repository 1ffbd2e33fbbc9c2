"""SQL about the keys that sign tokens."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.schema import fernet_keys


def sealed_keys(connection: Connection) -> list[bytes]:
    """Every key, sealed, the one that signs first."""
    return list(connection.scalars(sa.select(fernet_keys.c.sealed).order_by(fernet_keys.c.rank.desc())))


def insert_key(connection: Connection, sealed: bytes, now: datetime) -> None:
    """A key that signs from now on."""
    rank = (connection.scalar(sa.select(sa.func.max(fernet_keys.c.rank))) or 0) + 1
    connection.execute(fernet_keys.insert().values(rank=rank, sealed=sealed, created_at=now))


def delete_beyond(connection: Connection, maximum: int) -> None:
    """Keep the `maximum` newest."""
    newest = connection.scalar(sa.select(sa.func.max(fernet_keys.c.rank))) or 0
    connection.execute(fernet_keys.delete().where(fernet_keys.c.rank <= newest - maximum))
