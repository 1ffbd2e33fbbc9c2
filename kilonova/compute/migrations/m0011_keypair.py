"""Key pairs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "keypair",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("type", sa.String(8), nullable=False),
        sa.Column("fingerprint", Name(), nullable=False),
        sa.Column("public_key", Text(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.UniqueConstraint("user_id", "name"),
        sqlite_autoincrement=True,
    )
