"""The authority that certifies users; its key is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "certificate_authority",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("certificate", Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
