"""Quotas: what was set for a class, a project or a user in it, and the rows that new things lock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "quota_limit",
        sa.Column("scope", sa.String(8), primary_key=True),
        sa.Column("project_id", Id(), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource", sa.String(40), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.create_table("quota_lock", sa.Column("owner_id", Id(), primary_key=True))
