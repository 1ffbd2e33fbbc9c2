"""Regions, services and endpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "region",
        sa.Column("id", Name(), primary_key=True),
        sa.Column("description", Text(), nullable=False),
        sa.Column("parent_region_id", Name(), nullable=True),
    )
    op.create_table(
        "service",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("type", Name(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "endpoint",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("service_id", Id(), sa.ForeignKey("service.id", ondelete="CASCADE"), nullable=False),
        sa.Column("region_id", Name(), sa.ForeignKey("region.id"), nullable=True),
        sa.Column("interface", sa.String(8), nullable=False),
        sa.Column("url", Text(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
    )
