"""Trusts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "trust",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("trustor_user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("trustee_user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=True),
        sa.Column("impersonation", sa.Boolean(), nullable=False),
        sa.Column("role_ids", sa.JSON(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.Column("remaining_uses", sa.Integer(), nullable=True),
        sa.Column("redelegated_trust_id", Id(), sa.ForeignKey("trust.id", ondelete="CASCADE"), nullable=True),
        sa.Column("redelegation_count", sa.Integer(), nullable=False),
    )
