"""Security groups, their rules and members."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "security_groups",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("stateful", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_security_groups_project_id", "security_groups", ["project_id"])
    op.create_table(
        "default_groups",
        sa.Column("project_id", Id(), primary_key=True),
        sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), nullable=False),
    )
    op.create_table(
        "security_group_rules",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("description", Name(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("ethertype", sa.String(4), nullable=False),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("port_min", sa.Integer(), nullable=True),
        sa.Column("port_max", sa.Integer(), nullable=True),
        sa.Column("remote_cidr", Id(), nullable=False),
        sa.Column("remote_group", Id(), nullable=False),
        sa.Column("sameness", Name(), nullable=False),
        sa.UniqueConstraint("group_id", "sameness", name="uq_security_group_rules_same"),
    )
    op.create_index("ix_security_group_rules_group_id", "security_group_rules", ["group_id"])
    op.create_index("ix_security_group_rules_project_id", "security_group_rules", ["project_id"])
    op.create_index("ix_security_group_rules_remote_group", "security_group_rules", ["remote_group"])
    op.create_table(
        "port_groups",
        sa.Column("port_id", Id(), sa.ForeignKey("ports.id"), primary_key=True),
        sa.Column("group_id", Id(), sa.ForeignKey("security_groups.id"), primary_key=True),
    )
    op.create_index("ix_port_groups_group_id", "port_groups", ["group_id"])
