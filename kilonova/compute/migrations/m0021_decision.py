"""Decisions of the scheduler; who is being built where is found by task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table and the index."""
    op.create_table(
        "scheduler_decision",
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
        sqlite_autoincrement=True,
    )
    op.create_index("ix_server_task_state", "server", ["task_state", "host"])
