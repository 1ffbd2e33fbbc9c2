"""All SQL about copies. `host` is the process that keeps them: each has its own."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.types import Id, Timestamp
from kilonova.image.schema import metadata

copies = sa.Table(
    "cached_image",
    metadata,
    sa.Column("host", Id(), primary_key=True),
    sa.Column("image_id", Id(), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("hits", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("queued_at", Timestamp(), nullable=False),
    sa.Column("accessed_at", Timestamp(), nullable=False),
    sa.Column("modified_at", Timestamp(), nullable=False),
)


class Copy(msgspec.Struct):
    """A copy that is there, or that is to be made."""

    host: str
    image_id: str
    state: str  # queued | cached
    queued_at: datetime
    accessed_at: datetime
    modified_at: datetime
    hits: int = 0
    size: int = 0


def queue(connection: Connection, host: str, image_id: str, now: datetime) -> None:
    """A copy is there, or will be made."""
    if get(connection, host, image_id) is None:
        row = Copy(host, image_id, "queued", now, now, now)
        connection.execute(copies.insert().values(**msgspec.structs.asdict(row)))


def get(connection: Connection, host: str, image_id: str) -> Copy | None:
    """The copy, or None."""
    found = sa.select(copies).where(copies.c.host == host, copies.c.image_id == image_id)
    row = connection.execute(found).mappings().first()
    return None if row is None else Copy(**row)


def listed(connection: Connection, host: str) -> list[Copy]:
    """Every copy of the host, the one used longest ago first."""
    found = sa.select(copies).where(copies.c.host == host).order_by(copies.c.accessed_at, copies.c.image_id)
    return [Copy(**row) for row in connection.execute(found).mappings()]


def filled(connection: Connection, host: str, image_id: str, size: int, now: datetime) -> bool:
    """The copy is whole. False: nobody wants it any more."""
    mine = copies.update().where(copies.c.host == host, copies.c.image_id == image_id)
    return bool(connection.execute(mine.values(state="cached", size=size, modified_at=now, accessed_at=now)).rowcount)


def hit(connection: Connection, host: str, image_id: str, now: datetime) -> None:
    """The copy was read."""
    mine = copies.update().where(copies.c.host == host, copies.c.image_id == image_id)
    connection.execute(mine.values(hits=copies.c.hits + 1, accessed_at=now))


def forget(connection: Connection, host: str, image_id: str) -> bool:
    """The copy is no more, or will not be made. False: there was none."""
    gone = copies.delete().where(copies.c.host == host, copies.c.image_id == image_id)
    return bool(connection.execute(gone).rowcount)
