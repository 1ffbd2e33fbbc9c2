"""Aggregates: which providers belong together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "provider_aggregate",
        sa.Column("provider_id", Id(), primary_key=True),
        sa.Column("aggregate_id", Id(), primary_key=True, index=True),
    )
