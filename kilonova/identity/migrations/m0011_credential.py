"""Credentials, and what programs may ask for: access rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "credential",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("project_id", Id(), nullable=True),
        sa.Column("type", Name(), nullable=False),
        sa.Column("access_hash", Id(), nullable=True, unique=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_credential_user_id", "credential", ["user_id"])
    op.create_table(
        "access_rule",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("service", Name(), nullable=False),
        sa.Column("path", Name(), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.UniqueConstraint("user_id", "service", "path", "method"),
    )
    op.add_column("application_credential", sa.Column("access_rule_ids", sa.JSON(), nullable=True))
