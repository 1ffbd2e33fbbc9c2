"""All SQL about tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.db.listing import Page, paged
from kilonova.db.types import Id, Name, Text, Timestamp
from kilonova.image.schema import metadata

tasks = sa.Table(
    "task",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("type", sa.String(30), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("owner", Id(), nullable=False, index=True),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("image_id", Id(), nullable=False, index=True),
    sa.Column("request_id", Name(), nullable=False),
    sa.Column("input", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("message", Text(), nullable=False),
    sa.Column("expires_at", Timestamp()),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp(), nullable=False),
)
SORTS = {name: tasks.c[name] for name in ("id", "type", "status", "created_at", "updated_at")}


class Task(msgspec.Struct):
    """What was asked of the image workers, and how it goes."""

    id: str
    type: str  # import | api_image_import | location_import
    status: str  # pending | processing | success | failure
    owner: str
    user_id: str
    image_id: str
    request_id: str
    input: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    result: dict[str, Any] | None = None
    message: str = ""
    expires_at: datetime | None = None


def insert(connection: Connection, task: Task) -> None:
    """The task is there."""
    connection.execute(tasks.insert().values(**msgspec.structs.asdict(task)))


def get(connection: Connection, task_id: str, owner: str) -> Task:
    """The task, if it is the project's ("" sees all); otherwise NOT_FOUND."""
    row = connection.execute(sa.select(tasks).where(tasks.c.id == task_id)).mappings().first()
    if row is None or (owner and row["owner"] != owner):
        raise not_found("Task", task_id)
    return Task(**row)


def listed(connection: Connection, owner: str, equal: dict[str, str], page: Page) -> list[Task]:
    """A page of the project's tasks ("": all)."""
    mine = tasks.c.owner == owner if owner else sa.true()
    found = sa.select(tasks).where(mine, *(tasks.c[name] == value for name, value in equal.items()))
    found = paged(connection, found, SORTS, page, marker_filter=mine)
    return [Task(**row) for row in connection.execute(found).mappings()]


def of_image(connection: Connection, image_id: str) -> list[Task]:
    """The image's tasks, the oldest first."""
    found = sa.select(tasks).where(tasks.c.image_id == image_id).order_by(tasks.c.created_at, tasks.c.id)
    return [Task(**row) for row in connection.execute(found).mappings()]


def change(connection: Connection, task_id: str, values: dict[str, Any]) -> None:
    """The task goes on; one that has ended, or is forgotten, stays as it is."""
    mine = tasks.update().where(tasks.c.id == task_id, tasks.c.status.in_(("pending", "processing")))
    connection.execute(mine.values(**values))


def forget_expired(connection: Connection, now: datetime) -> int:
    """Ended tasks whose time has passed are gone; how many."""
    return connection.execute(tasks.delete().where(tasks.c.expires_at < now)).rowcount
