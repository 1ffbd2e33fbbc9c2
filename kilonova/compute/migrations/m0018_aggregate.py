"""Host aggregates: their hosts and metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "aggregate",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", Id(), nullable=False, unique=True),
        sa.Column("name", Name(), nullable=False, unique=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "aggregate_host",
        sa.Column("aggregate_id", sa.Integer, primary_key=True),
        sa.Column("host", Name(), primary_key=True, index=True),
    )
    op.create_table(
        "aggregate_metadata",
        sa.Column("aggregate_id", sa.Integer, primary_key=True),
        sa.Column("key", Name(), primary_key=True),
        sa.Column("value", Name(), nullable=False),
    )
