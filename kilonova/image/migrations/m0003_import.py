"""Where images' data is, tasks, the journal of imports, and copies that API processes keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def _task(op: Operations) -> None:
    op.create_table(
        "task",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("type", sa.String(30), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("owner", Id(), nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("image_id", Id(), nullable=False),
        sa.Column("request_id", Name(), nullable=False),
        sa.Column("input", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("message", Text(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_task_image_id", "task", ["image_id"])
    op.create_index("ix_task_owner", "task", ["owner"])


def _cached(op: Operations) -> None:
    op.create_table(
        "cached_image",
        sa.Column("host", Id(), primary_key=True),
        sa.Column("image_id", Id(), primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("hits", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("queued_at", Timestamp(), nullable=False),
        sa.Column("accessed_at", Timestamp(), nullable=False),
        sa.Column("modified_at", Timestamp(), nullable=False),
    )


def _journal(op: Operations) -> None:
    op.create_table(
        "operation",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("kind", Name(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("request_id", Name(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", Name(), nullable=False),
        sa.Column("lease_until", Timestamp()),
        sa.Column("deadline_at", Timestamp()),
        sa.Column("sealed", sa.LargeBinary(1048576)),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("traceparent", sa.String(80), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
        sa.Column("finished_at", Timestamp()),
    )
    op.create_index("ix_operation_request_id", "operation", ["request_id"])
    op.create_index("ix_operation_resource_id", "operation", ["resource_id"])
    op.create_index("operation_unfinished", "operation", ["state", "lease_until"])
    op.create_table(
        "operation_step",
        sa.Column("operation_id", Id(), primary_key=True),
        sa.Column("step", sa.String(80), primary_key=True),
        sa.Column("index", sa.Integer, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("title", Name(), nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("undo", Name(), nullable=False),
        sa.Column("undo_arity", sa.Integer, nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("host", Name(), nullable=False),
        sa.Column("started_at", Timestamp(), nullable=False),
        sa.Column("finished_at", Timestamp()),
    )


def upgrade(op: Operations) -> None:
    """Make the tables. An active image without locations is in the default store, where all were until now."""
    op.add_column("image", sa.Column("locations", sa.JSON(none_as_null=True), nullable=True))
    _task(op)
    _cached(op)
    _journal(op)
