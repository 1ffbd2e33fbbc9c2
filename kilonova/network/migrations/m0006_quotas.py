"""Quotas, tags and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "quotas",
        sa.Column("project_id", Id(), primary_key=True),
        sa.Column("resource", sa.String(32), primary_key=True),
        sa.Column("maximum", sa.Integer(), nullable=True),
    )
    op.create_table(
        "tags",
        sa.Column("resource_id", Id(), primary_key=True),
        sa.Column("tag", Name(), primary_key=True),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
