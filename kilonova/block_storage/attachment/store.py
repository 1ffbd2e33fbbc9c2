"""Attachments as rows: reserved, attaching or attached. Their volume's status follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.block_storage.schema import metadata
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Timestamp

attachments = sa.Table(
    "attachment",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("volume_id", Id(), nullable=False, index=True),
    sa.Column("project_id", Id(), nullable=False),
    sa.Column("instance_id", Id(), nullable=False, index=True),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("mode", sa.String(2), nullable=False),
    sa.Column("host", Name(), nullable=False),
    sa.Column("mountpoint", Name(), nullable=False),
    sa.Column("connector", sa.JSON, nullable=False),
    sa.Column("connection", sa.JSON(none_as_null=True)),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("attached_at", Timestamp()),
)
SORTS: dict[str, sa.ColumnElement[Any]] = {
    "id": attachments.c.id,
    "created_at": attachments.c.created_at,
    "status": attachments.c.status,
    "volume_id": attachments.c.volume_id,
}


class Attachment(msgspec.Struct):
    """Who has (or is about to have) a volume."""

    id: str
    volume_id: str
    project_id: str
    created_at: datetime
    instance_id: str = ""
    status: str = "reserved"  # reserved | attaching | attached
    mode: str = "rw"
    host: str = ""  # where it is connected
    mountpoint: str = ""
    connector: dict[str, Any] = {}
    connection: dict[str, Any] | None = None
    attached_at: datetime | None = None


class Filters(msgspec.Struct):
    """Which attachments; project "" is all."""

    project_id: str = ""
    equal: dict[str, str] = {}


def insert(connection: Connection, one: Attachment) -> None:
    """A new attachment."""
    connection.execute(attachments.insert().values(**msgspec.structs.asdict(one)))


def get(connection: Connection, attachment_id: str) -> Attachment:
    """The attachment. NOT_FOUND when there is none."""
    row = connection.execute(sa.select(attachments).where(attachments.c.id == attachment_id)).mappings().first()
    if row is None:
        raise not_found("Volume attachment", attachment_id)
    return Attachment(**row)


def is_gone(connection: Connection, attachment_id: str) -> bool:
    """Whether it was deleted."""
    return connection.execute(sa.select(attachments.c.id).where(attachments.c.id == attachment_id)).first() is None


def of_volumes(connection: Connection, volume_ids: Iterable[str]) -> dict[str, list[Attachment]]:
    """volume id → its attachments, oldest first."""
    found: dict[str, list[Attachment]] = {}
    mine = sa.select(attachments).where(attachments.c.volume_id.in_(list(volume_ids)))
    for row in connection.execute(mine.order_by(attachments.c.created_at, attachments.c.id)).mappings():
        found.setdefault(row["volume_id"], []).append(Attachment(**row))
    return found


def change(connection: Connection, attachment_id: str, values: dict[str, Any]) -> None:
    """Set columns. NOT_FOUND when it is gone."""
    if not connection.execute(attachments.update().where(attachments.c.id == attachment_id).values(**values)).rowcount:
        raise not_found("Volume attachment", attachment_id)


def delete(connection: Connection, attachment_id: str) -> None:
    """Forget it; gone is fine."""
    connection.execute(attachments.delete().where(attachments.c.id == attachment_id))


def delete_of_volume(connection: Connection, volume_id: str) -> None:
    """Forget all of a volume's."""
    connection.execute(attachments.delete().where(attachments.c.volume_id == volume_id))


def listed(connection: Connection, filters: Filters, page: Page) -> list[Attachment]:
    """A page of attachments."""
    visible = [attachments.c.project_id == filters.project_id] if filters.project_id else []
    equal = [attachments.c[name] == value for name, value in filters.equal.items()]
    statement = sa.select(attachments).where(*visible, *equal)
    found = paged(connection, statement, SORTS, page, marker_filter=sa.and_(sa.true(), *visible))
    return [Attachment(**row) for row in connection.execute(found).mappings()]
