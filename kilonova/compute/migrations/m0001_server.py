"""Servers, their block devices, tags, faults and request specs; the journal; idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def _block_device(op: Operations) -> None:
    op.create_table(
        "block_device",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("server_id", Id(), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("volume_id", Id(), nullable=False),
        sa.Column("delete_on_termination", sa.Boolean, nullable=False),
        sa.Column("mapping", sa.JSON, nullable=False),
    )
    op.create_index("ix_block_device_server_id", "block_device", ["server_id"])
    op.create_index("ix_block_device_volume_id", "block_device", ["volume_id"])


def _idempotency(op: Operations) -> None:
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])


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


def _request_spec(op: Operations) -> None:
    op.create_table(
        "request_spec",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
    )


def _server(op: Operations) -> None:
    op.create_table(
        "server",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", Id(), nullable=False, unique=True),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name()),
        sa.Column("hostname", Name(), nullable=False),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("vm_state", sa.String(24), nullable=False),
        sa.Column("task_state", sa.String(40), nullable=False),
        sa.Column("power_state", sa.String(16), nullable=False),
        sa.Column("operation_id", Id(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("node", Name(), nullable=False),
        sa.Column("availability_zone", Name(), nullable=False),
        sa.Column("pinned_zone", Name(), nullable=False),
        sa.Column("flavor", sa.JSON, nullable=False),
        sa.Column("vcpus", sa.Integer, nullable=False),
        sa.Column("memory_mb", sa.Integer, nullable=False),
        sa.Column("image_id", Id(), nullable=False),
        sa.Column("image_properties", sa.JSON, nullable=False),
        sa.Column("key_name", Name(), nullable=False),
        sa.Column("public_key", Text(), nullable=False),
        sa.Column("user_data", Text(), nullable=False),
        sa.Column("config_drive", sa.Boolean, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("personality", sa.JSON, nullable=False),
        sa.Column("port_requests", sa.JSON, nullable=False),
        sa.Column("security_groups", sa.JSON, nullable=False),
        sa.Column("ports", sa.JSON, nullable=False),
        sa.Column("access_ip_v4", Id(), nullable=False),
        sa.Column("access_ip_v6", Id(), nullable=False),
        sa.Column("locked", sa.Boolean, nullable=False),
        sa.Column("locked_by", sa.String(16), nullable=False),
        sa.Column("locked_reason", Name()),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("disk_config", sa.String(16), nullable=False),
        sa.Column("root_device_name", Name(), nullable=False),
        sa.Column("reservation_id", Id(), nullable=False),
        sa.Column("launch_index", sa.Integer, nullable=False),
        sa.Column("trusted_certs", sa.JSON(none_as_null=True)),
        sa.Column("server_group_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("launched_at", Timestamp()),
        sa.Column("terminated_at", Timestamp()),
        sa.Column("deleted_at", Timestamp()),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_server_created_at", "server", ["created_at"])
    op.create_index("ix_server_deleted_at", "server", ["deleted_at"])
    op.create_index("ix_server_host", "server", ["host"])
    op.create_index("ix_server_project_id", "server", ["project_id"])
    op.create_index("ix_server_reservation_id", "server", ["reservation_id"])


def _server_fault(op: Operations) -> None:
    op.create_table(
        "server_fault",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("message", Text(), nullable=False),
        sa.Column("details", Text(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )


def _server_tag(op: Operations) -> None:
    op.create_table(
        "server_tag",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("tag", sa.String(60), primary_key=True),
    )


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _block_device(op)
    _idempotency(op)
    _operation(op)
    _operation_step(op)
    _request_spec(op)
    _server(op)
    _server_fault(op)
    _server_tag(op)
