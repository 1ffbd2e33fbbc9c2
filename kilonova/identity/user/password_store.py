"""SQL about passwords: the present one and those before it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.schema import password_history, users

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # of passwords that a bootstrap or an earlier release wrote


class Password(msgspec.Struct, frozen=True):
    """A password as it is stored. "" is nobody's."""

    password_hash: str
    set_at: datetime | None
    expires_at: datetime | None

    def must_change(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def present(connection: Connection, user_id: str) -> Password:
    """The user's password; of nobody, one that matches nothing."""
    row = connection.execute(
        sa.select(users.c.password_hash, users.c.password_set_at, users.c.password_expires_at).where(
            users.c.id == user_id
        )
    ).first()
    return Password(*row) if row else Password("", None, None)


def earlier(connection: Connection, user_id: str, count: int) -> list[str]:
    """The hashes of the last `count` passwords before the present one."""
    table = password_history.c
    found = sa.select(table.password_hash).where(table.user_id == user_id).order_by(table.set_at.desc()).limit(count)
    return list(connection.scalars(found))


def replace(connection: Connection, user_id: str, new: Password, kept: int) -> None:
    """The user has this password from now on; of those before, `kept` are remembered. Wrong logins are forgotten."""
    old, table = present(connection, user_id), password_history
    if old.password_hash and kept:
        values = {"user_id": user_id, "set_at": old.set_at or _LONG_AGO, "password_hash": old.password_hash}
        connection.execute(table.delete().where(table.c.user_id == user_id, table.c.set_at == values["set_at"]))
        connection.execute(table.insert().values(**values))
    mine = sa.select(table.c.set_at).where(table.c.user_id == user_id).order_by(table.c.set_at.desc())
    for moment in connection.scalars(mine).all()[kept:]:
        connection.execute(table.delete().where(table.c.user_id == user_id, table.c.set_at == moment))
    connection.execute(
        users.update()
        .where(users.c.id == user_id)
        .values(
            password_hash=new.password_hash,
            password_set_at=new.set_at,
            password_expires_at=new.expires_at,
            failed_logins=0,
            failed_at=None,
        )
    )
