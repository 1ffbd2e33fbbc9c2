"""Entries of directories that are users and groups here, under ids that follow from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "directory_entry",
        sa.Column("public_id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("kind", sa.String(5), nullable=False),
        sa.Column("local_id", Name(), nullable=False),
        sa.Column("dn_key", Text(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
    )
