"""Policies, and the endpoints and services they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "policy",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("type", Name(), nullable=False),
        sa.Column("blob", Text(), nullable=False),
    )
    op.create_table(
        "policy_association",
        sa.Column("endpoint_id", Id(), primary_key=True),
        sa.Column("service_id", Id(), primary_key=True),
        sa.Column("region_id", Name(), primary_key=True),
        sa.Column("policy_id", Id(), sa.ForeignKey("policy.id", ondelete="CASCADE"), nullable=False),
    )
