"""Application credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "application_credential",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Text(), nullable=True),
        sa.Column("secret_hash", Name(), nullable=False),
        sa.Column("role_ids", sa.JSON(), nullable=False),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.UniqueConstraint("user_id", "name"),
    )
