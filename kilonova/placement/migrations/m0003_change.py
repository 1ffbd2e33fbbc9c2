"""Changes: what mirrors of the books read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Text


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "provider_change",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("body", Text(), nullable=False),
    )
