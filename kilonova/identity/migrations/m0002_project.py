"""Projects and their tags."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "project",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
        sa.Column("parent_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("name_key", Name(), nullable=False),
        sa.Column("description", Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.UniqueConstraint("domain_id", "name_key"),
    )
    op.create_index("ix_project_parent_id", "project", ["parent_id"])
    op.create_table(
        "project_tag",
        sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", Name(), primary_key=True),
    )
