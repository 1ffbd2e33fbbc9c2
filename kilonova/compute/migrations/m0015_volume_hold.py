"""Volumes that are reserved for a server before its record stands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "volume_hold",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("given_back", sa.Boolean, nullable=False),
    )
    op.create_index("ix_volume_hold_created_at", "volume_hold", ["created_at"])
