"""Connections that hosts asked for themselves, without an attachment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "asked_connection",
        sa.Column("volume_id", Id(), primary_key=True),
        sa.Column("host", Name(), primary_key=True),
        sa.Column("asked_at", Timestamp(), nullable=False),
    )
