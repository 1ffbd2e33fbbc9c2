"""Domains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "domain",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", Name(), nullable=False),
        sa.Column("name_key", Name(), nullable=False, unique=True),
        sa.Column("description", Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
    )
