"""Roles, what they imply, and who has them where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "role",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("name_key", Name(), nullable=False),
        sa.Column("description", Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.UniqueConstraint("domain_id", "name_key"),
    )
    op.create_table(
        "role_implication",
        sa.Column("prior_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("implied_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "role_assignment",
        sa.Column("actor", sa.String(5), primary_key=True),
        sa.Column("actor_id", Id(), primary_key=True),
        sa.Column("scope", sa.String(7), primary_key=True),
        sa.Column("scope_id", Id(), primary_key=True),
        sa.Column("role_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("inherited", sa.Boolean(), primary_key=True),
    )
    op.create_index("ix_role_assignment_scope", "role_assignment", ["scope", "scope_id"])
