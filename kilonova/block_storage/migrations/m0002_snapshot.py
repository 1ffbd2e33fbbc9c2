"""Snapshots, and which one a volume was made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "snapshot",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("volume_id", Id(), nullable=False),
        sa.Column("volume_type_id", Id(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("name", Name()),
        sa.Column("description", Name()),
        sa.Column("size_gib", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("operation_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
    )
    op.create_index("ix_snapshot_project_id", "snapshot", ["project_id"])
    op.create_index("ix_snapshot_volume_id", "snapshot", ["volume_id"])
    op.create_index("snapshot_by_created", "snapshot", ["created_at", "id"])
    op.create_table(
        "snapshot_metadata",
        sa.Column("snapshot_id", Id(), primary_key=True),
        sa.Column("key", Name(), primary_key=True),
        sa.Column("value", Text(), nullable=False),
    )
    op.add_column("volume", sa.Column("snapshot_id", Id(), nullable=False, server_default=""))
