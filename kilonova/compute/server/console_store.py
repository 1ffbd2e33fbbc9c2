"""Console tokens: kept as hashes, used once, bound to one server on one host."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.schema import metadata
from kilonova.db.statements import delete
from kilonova.db.types import Id, Name, Timestamp

tokens = sa.Table(
    "console_token",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("server_id", Id(), nullable=False, index=True),
    sa.Column("host", Name(), nullable=False),
    sa.Column("console_type", sa.String(24), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),
)


def insert(connection: Connection, hashed: str, server: tuple[str, str], kind: str, expires_at: datetime) -> None:
    """Keep a token's hash for a (server id, host)."""
    values = {"hash": hashed, "server_id": server[0], "host": server[1]}
    connection.execute(tokens.insert().values(**values, console_type=kind, expires_at=expires_at))


def use_up(connection: Connection, hashed: str, now: datetime) -> tuple[str, str] | None:
    """(server id, host) that the token opens; it opens nothing a second time."""
    t = tokens.c
    row = connection.execute(sa.select(t.server_id, t.host, t.expires_at).where(t.hash == hashed)).first()
    used = connection.execute(tokens.delete().where(t.hash == hashed)).rowcount
    if row is None or not used or row.expires_at < now:
        return None
    return row.server_id, row.host


def drop_of(connection: Connection, server_id: str) -> None:
    """The server's tokens open nothing any more."""
    delete(connection, tokens, server_id=server_id)


def drop_expired(connection: Connection, now: datetime) -> int:
    """Forget tokens that have expired; returns how many."""
    return connection.execute(tokens.delete().where(tokens.c.expires_at < now)).rowcount
