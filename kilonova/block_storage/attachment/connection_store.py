"""Which hosts are to be connected to a volume: those of its attachments, and those that asked for it themselves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.block_storage.attachment.store import attachments
from kilonova.block_storage.contract import Connected
from kilonova.block_storage.schema import metadata
from kilonova.db.types import Id, Name, Timestamp

asked_connections = sa.Table(
    "asked_connection",
    metadata,
    sa.Column("volume_id", Id(), primary_key=True),
    sa.Column("host", Name(), primary_key=True),
    sa.Column("asked_at", Timestamp(), nullable=False),
)
_c = asked_connections.c


def want(connection: Connection, volume_id: str, host: str, now: datetime) -> None:
    """The host asks for the connection itself, without an attachment; twice is once."""
    unwant(connection, volume_id, host)
    connection.execute(asked_connections.insert().values(volume_id=volume_id, host=host, asked_at=now))


def unwant(connection: Connection, volume_id: str, host: str) -> None:
    """The host has given it back; it may never have asked."""
    connection.execute(asked_connections.delete().where(_c.volume_id == volume_id, _c.host == host))


def forget_volume(connection: Connection, volume_id: str) -> None:
    """The volume is gone."""
    connection.execute(asked_connections.delete().where(_c.volume_id == volume_id))


def wanted(connection: Connection, volume_ids: Iterable[str]) -> set[Connected]:
    """The connections that somebody wants, of these volumes."""
    ids = list(volume_ids)
    a = attachments.c
    attached = sa.select(a.volume_id, a.host).where(a.volume_id.in_(ids), a.host != "")
    asked = sa.select(_c.volume_id, _c.host).where(_c.volume_id.in_(ids))
    return {Connected(*row) for found in (attached, asked) for row in connection.execute(found)}
