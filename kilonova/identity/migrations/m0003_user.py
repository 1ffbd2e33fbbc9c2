"""Users, groups and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Text


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "user_account",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("name_key", Name(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("default_project_id", Id(), nullable=True),
        sa.Column("password_hash", Name(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.UniqueConstraint("domain_id", "name_key"),
    )
    op.create_table(
        "user_group",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("name_key", Name(), nullable=False),
        sa.Column("description", Text(), nullable=False),
        sa.UniqueConstraint("domain_id", "name_key"),
    )
    op.create_table(
        "group_member",
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("group_id", Id(), sa.ForeignKey("user_group.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("ix_group_member_group_id", "group_member", ["group_id"])
