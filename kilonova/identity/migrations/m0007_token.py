"""The keys that sign tokens, and what revokes them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "fernet_key",
        sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "revocation",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("value", Name(), nullable=False),
        sa.Column("revoked_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_revocation_value", "revocation", ["value"])
    op.create_index("ix_revocation_expires_at", "revocation", ["expires_at"])
    op.create_table(
        "token_version",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO token_version (id, value) VALUES (1, 1)")
