"""The table of kept decisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.schema import metadata
from kilonova.db.statements import insert_all
from kilonova.db.types import Id, Name, Text, Timestamp

decisions = sa.Table(
    "scheduler_decision",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", Id(), nullable=False, unique=True),
    sa.Column("server_id", Id(), nullable=False, index=True),
    sa.Column("request_id", Id(), nullable=False, index=True),
    sa.Column("project_id", Id(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False, index=True),
    sa.Column("host", Name(), nullable=False),
    sa.Column("snapshot", sa.Integer, nullable=False),
    sa.Column("message", Text(), nullable=False),
    sa.Column("told", Text(), nullable=False),
)


def insert(connection: Connection, new: Sequence[dict[str, Any]]) -> None:
    """They are there."""
    insert_all(connection, decisions, new)


def rows(connection: Connection, about: str, project_id: str, limit: int) -> Sequence[Any]:
    """Newest first."""
    d = decisions.c
    query = sa.select(decisions).order_by(d.number.desc()).limit(limit)
    if about:
        query = query.where(sa.or_(d.server_id == about, d.request_id == about, d.id == about))
    if project_id:
        query = query.where(d.project_id == project_id)
    return connection.execute(query).all()


def forget(connection: Connection, before: datetime, most: int) -> int:
    """How many went: those from before, and the oldest above `most`."""
    d = decisions.c
    gone = connection.execute(sa.delete(decisions).where(d.created_at < before)).rowcount
    newest = connection.scalar(sa.select(sa.func.max(d.number)))
    if newest is not None:
        gone += connection.execute(sa.delete(decisions).where(d.number <= newest - most)).rowcount
    return gone
