"""Data of deleted images that its stores have not dropped yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "deleted_data",
        sa.Column("image_id", Id(), primary_key=True),
        sa.Column("stores", sa.JSON, nullable=False),
        sa.Column("deleted_at", Timestamp(), nullable=False),
    )
