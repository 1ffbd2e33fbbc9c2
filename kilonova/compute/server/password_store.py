"""Passwords that guests posted of their own: encrypted by the guest, stored as they came."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.compute.schema import metadata
from kilonova.db.database import says
from kilonova.db.types import Id, Text

passwords = sa.Table(
    "server_password",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("password", Text(), nullable=False),
)


def posted(connection: Connection, server_id: str) -> str:
    """What the guest posted, or ""."""
    return connection.scalar(sa.select(passwords.c.password).where(passwords.c.server_id == server_id)) or ""


@says("server_password: posted by the guest")
def keep(connection: Connection, server_id: str, password: str) -> bool:
    """Keep it; False when one is there: a guest does not replace what its owner may have read."""
    try:
        with connection.begin_nested():
            connection.execute(passwords.insert().values(server_id=server_id, password=password))
    except IntegrityError:
        return False
    return True


def forget(connection: Connection, server_id: str) -> None:
    """None is kept any more."""
    connection.execute(passwords.delete().where(passwords.c.server_id == server_id))
