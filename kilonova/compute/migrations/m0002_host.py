"""Compute hosts, as they reported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def _compute_host(op: Operations) -> None:
    op.create_table(
        "compute_host",
        sa.Column("name", Name(), primary_key=True),
        sa.Column("provider_id", Id(), nullable=False, unique=True),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("reported_at", Timestamp(), nullable=False),
    )


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _compute_host(op)
