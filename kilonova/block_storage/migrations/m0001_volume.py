"""Block storage's first schema, with the default volume type."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def _attachment(op: Operations) -> None:
    op.create_table(
        "attachment",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("volume_id", Id(), nullable=False),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("instance_id", Id(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("mode", sa.String(2), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("mountpoint", Name(), nullable=False),
        sa.Column("connector", sa.JSON, nullable=False),
        sa.Column("connection", sa.JSON(none_as_null=True)),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("attached_at", Timestamp()),
    )
    op.create_index("ix_attachment_instance_id", "attachment", ["instance_id"])
    op.create_index("ix_attachment_volume_id", "attachment", ["volume_id"])


def _idempotency(op: Operations) -> None:
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])


def _message(op: Operations) -> None:
    op.create_table(
        "message",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("request_id", Name(), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("event_id", Id(), nullable=False),
        sa.Column("user_message", Text(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_message_project_id", "message", ["project_id"])
    op.create_index("ix_message_resource_id", "message", ["resource_id"])


def _operation(op: Operations) -> None:
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


def _operation_step(op: Operations) -> None:
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


def _quota(op: Operations) -> None:
    op.create_table(
        "quota",
        sa.Column("project_id", Id(), primary_key=True),
        sa.Column("resource", Name(), primary_key=True),
        sa.Column("maximum", sa.Integer, nullable=False),
    )


def _service(op: Operations) -> None:
    op.create_table(
        "service",
        sa.Column("binary", Id(), primary_key=True),
        sa.Column("host", Name(), primary_key=True),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", Name()),
        sa.Column("availability_zone", Name(), nullable=False),
        sa.Column("capabilities", sa.JSON(none_as_null=True)),
        sa.Column("reported_at", Timestamp(), nullable=False),
    )


def _volume(op: Operations) -> None:
    op.create_table(
        "volume",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("name", Name()),
        sa.Column("description", Name()),
        sa.Column("size_gib", sa.Integer, nullable=False),
        sa.Column("quota_gib", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("previous_status", sa.String(32), nullable=False),
        sa.Column("availability_zone", Name(), nullable=False),
        sa.Column("bootable", sa.Boolean, nullable=False),
        sa.Column("multiattach", sa.Boolean, nullable=False),
        sa.Column("readonly", sa.Boolean, nullable=False),
        sa.Column("volume_type_id", Id(), nullable=False),
        sa.Column("source_volume_id", Id(), nullable=False),
        sa.Column("image_id", Id(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("operation_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
    )
    op.create_index("ix_volume_project_id", "volume", ["project_id"])
    op.create_index("ix_volume_volume_type_id", "volume", ["volume_type_id"])
    op.create_index("volume_by_created", "volume", ["created_at", "id"])


def _volume_metadata(op: Operations) -> None:
    op.create_table(
        "volume_metadata",
        sa.Column("volume_id", Id(), primary_key=True),
        sa.Column("about", sa.String(8), primary_key=True),
        sa.Column("key", Name(), primary_key=True),
        sa.Column("value", Text(), nullable=False),
    )


def _volume_type(op: Operations) -> None:
    op.create_table(
        "volume_type",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", Name(), nullable=False, unique=True),
        sa.Column("description", Name()),
        sa.Column("is_public", sa.Boolean, nullable=False),
        sa.Column("extra_specs", sa.JSON, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
    )


def _volume_type_access(op: Operations) -> None:
    op.create_table(
        "volume_type_access",
        sa.Column("volume_type_id", Id(), primary_key=True),
        sa.Column("project_id", Id(), primary_key=True),
    )


def _default_type(op: Operations) -> None:
    kinds = sa.table(
        "volume_type",
        sa.column("id", Id()),
        sa.column("name", Name()),
        sa.column("description", Name()),
        sa.column("is_public", sa.Boolean),
        sa.column("extra_specs", sa.JSON),
        sa.column("created_at", Timestamp()),
    )
    row = {
        "id": "c1d5b6f0-6a35-4b0e-9f0c-5b1f5b1a7d00",
        "name": "__DEFAULT__",
        "description": "Default Volume Type",
        "is_public": True,
        "extra_specs": {},
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    op.bulk_insert(kinds, [row])


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _attachment(op)
    _idempotency(op)
    _message(op)
    _operation(op)
    _operation_step(op)
    _quota(op)
    _service(op)
    _volume(op)
    _volume_metadata(op)
    _volume_type(op)
    _volume_type_access(op)
    _default_type(op)
