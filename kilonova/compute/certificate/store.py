"""SQL about the authority that certifies users: one row."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.faults import exists
from kilonova.compute.schema import metadata
from kilonova.db.types import Id, Text, Timestamp

USERS = "users"


class Row(msgspec.Struct, frozen=True):
    """An authority: its certificate in PEM; `sealed` holds {"key": PEM}."""

    id: str
    certificate: str
    sealed: bytes
    created_at: datetime


authorities = sa.Table(
    "certificate_authority",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("certificate", Text(), nullable=False),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
)


def find(connection: Connection) -> Row | None:
    """The authority, once somebody asked for a certificate."""
    found = connection.execute(sa.select(authorities).where(authorities.c.id == USERS)).mappings().first()
    return None if found is None else Row(**found)


def keep(connection: Connection, row: Row) -> Row:
    """This authority, or the one that another process kept first; EXISTS when that happens at the same moment."""
    known = find(connection)
    if known is None:
        try:
            connection.execute(authorities.insert().values(**msgspec.structs.asdict(row)))
        except IntegrityError:
            raise exists("The authority was made a moment ago.") from None
    return known or row
