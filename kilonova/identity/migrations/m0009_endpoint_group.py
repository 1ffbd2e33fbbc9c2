"""Which endpoints the catalog of a project shows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "endpoint_group",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Text(), nullable=False),
        sa.Column("filters", sa.JSON(), nullable=False),
    )
    op.create_table(
        "project_endpoint",
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("endpoint_id", Id(), sa.ForeignKey("endpoint.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "project_endpoint_group",
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("endpoint_group_id", Id(), sa.ForeignKey("endpoint_group.id", ondelete="CASCADE"), primary_key=True),
    )
