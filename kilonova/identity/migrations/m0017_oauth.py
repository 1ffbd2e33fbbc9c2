"""OAuth1: consumers, request tokens, access tokens, and signatures that were seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "consumer",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("description", Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "oauth_request_token",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("consumer_id", Id(), sa.ForeignKey("consumer.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False, index=True),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=True),
        sa.Column("verifier", Name(), nullable=True),
        sa.Column("role_ids", sa.JSON(), nullable=False),
    )
    op.create_table(
        "oauth_access_token",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("consumer_id", Id(), sa.ForeignKey("consumer.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
        sa.Column("role_ids", sa.JSON(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False, index=True),
    )
    op.create_table(
        "oauth_nonce",
        sa.Column("digest", Id(), primary_key=True),
        sa.Column("expires_at", Timestamp(), nullable=False, index=True),
    )
