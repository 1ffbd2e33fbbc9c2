"""Server groups and their members."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "server_group",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("project_id", Id(), nullable=False, index=True),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("name", Name(), nullable=False),
        sa.Column("policy", sa.String(24), nullable=False),
        sa.Column("max_server_per_host", sa.Integer),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "server_group_member",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("group_id", Id(), nullable=False, index=True),
    )
