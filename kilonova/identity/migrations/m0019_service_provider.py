"""Service providers: other clouds that tokens name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "service_provider",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("auth_url", Name(), nullable=False),
        sa.Column("sp_url", Name(), nullable=False),
        sa.Column("description", Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("relay_state_prefix", Name(), nullable=False),
    )
