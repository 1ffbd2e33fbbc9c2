"""SQL about roles and what they imply."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement
from kilonova.identity import store
from kilonova.identity.schema import implications, roles


class Role(msgspec.Struct):
    """What may be given to users and groups. `domain_id` "": known in the whole cloud."""

    id: str
    domain_id: str
    name: str
    description: str = ""
    options: dict[str, Any] = {}


def implied(connection: Connection, prior_id: str) -> list[Role]:
    """The roles that `prior_id` implies itself, not through others."""
    ids = sa.select(implications.c.implied_id).where(implications.c.prior_id == prior_id)
    return store.listed(connection, roles, Role, ids=ids)


_PAIRS = Statement(sa.select(implications.c.prior_id, implications.c.implied_id))


def pairs(connection: Connection) -> list[tuple[Any, ...]]:
    """Every (prior, implied)."""
    return _PAIRS.all(connection)


def imply(connection: Connection, prior_id: str, implied_id: str) -> None:
    """Who has the first has the second; it may have been so before."""
    if (prior_id, implied_id) not in pairs(connection):
        connection.execute(implications.insert().values(prior_id=prior_id, implied_id=implied_id))


def imply_no_more(connection: Connection, prior_id: str, implied_id: str) -> int:
    """0 when it did not."""
    gone = implications.delete().where(implications.c.prior_id == prior_id, implications.c.implied_id == implied_id)
    return connection.execute(gone).rowcount
