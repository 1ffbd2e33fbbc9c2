"""What is configured for one domain only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "domain_option",
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("section", Id(), primary_key=True),
        sa.Column("name", Id(), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )
