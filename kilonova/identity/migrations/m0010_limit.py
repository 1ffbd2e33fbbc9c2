"""Registered limits, and the limits of projects and domains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "registered_limit",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("service_id", Id(), sa.ForeignKey("service.id"), nullable=False),
        sa.Column("region_id", Name(), nullable=False),
        sa.Column("resource_name", Name(), nullable=False),
        sa.Column("default_limit", sa.Integer(), nullable=False),
        sa.Column("description", Text(), nullable=True),
        sa.UniqueConstraint("service_id", "region_id", "resource_name"),
    )
    op.create_table(
        "project_limit",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("registered_limit_id", Id(), sa.ForeignKey("registered_limit.id"), nullable=False),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("domain_id", Id(), nullable=False),
        sa.Column("resource_limit", sa.Integer(), nullable=False),
        sa.Column("description", Text(), nullable=True),
        sa.UniqueConstraint("registered_limit_id", "project_id", "domain_id"),
    )
