"""Messages as rows: why an operation on a volume failed, in words for its owner."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.block_storage.schema import metadata
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Text, Timestamp

KEPT = timedelta(days=30)

messages = sa.Table(
    "message",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), nullable=False, index=True),
    sa.Column("request_id", Name(), nullable=False),
    sa.Column("resource_type", sa.String(32), nullable=False),
    sa.Column("resource_id", Id(), nullable=False, index=True),
    sa.Column("event_id", Id(), nullable=False),
    sa.Column("user_message", Text(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
)
SORTS: dict[str, sa.ColumnElement[Any]] = {
    name: messages.c[name] for name in ("id", "created_at", "event_id", "resource_type", "resource_id", "request_id")
}


class Message(msgspec.Struct):
    """What a user is told."""

    id: str
    project_id: str
    request_id: str
    resource_id: str
    event_id: str
    user_message: str
    created_at: datetime
    resource_type: str = "VOLUME"


def insert(connection: Connection, one: Message) -> None:
    """Tell it; told already is fine (an operation that is undone again tells once)."""
    if connection.scalar(sa.select(messages.c.id).where(messages.c.id == one.id)) is None:
        connection.execute(messages.insert().values(**msgspec.structs.asdict(one)))


def get(connection: Connection, message_id: str, project_id: str = "") -> Message:
    """The message. NOT_FOUND when there is none (in that project, when given)."""
    mine = sa.select(messages).where(messages.c.id == message_id)
    row = connection.execute(mine.where(messages.c.project_id == project_id) if project_id else mine).mappings().first()
    if row is None:
        raise not_found("Message", message_id)
    return Message(**row)


def listed(connection: Connection, project_id: str, equal: dict[str, str], page: Page) -> list[Message]:
    """A page of the project's messages ("": of all)."""
    visible = messages.c.project_id == project_id if project_id else sa.true()
    statement = sa.select(messages).where(visible, *(messages.c[name] == value for name, value in equal.items()))
    found = paged(connection, statement, SORTS, page, marker_filter=visible)
    return [Message(**row) for row in connection.execute(found).mappings()]


def delete(connection: Connection, message_id: str) -> None:
    """Forget it."""
    connection.execute(messages.delete().where(messages.c.id == message_id))


def forget_before(connection: Connection, moment: datetime) -> int:
    """Forget old ones; returns how many."""
    return connection.execute(messages.delete().where(messages.c.created_at < moment)).rowcount
