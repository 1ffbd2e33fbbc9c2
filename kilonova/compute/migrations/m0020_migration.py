"""Migrations: what moves a server to another flavor or host, until the user confirms or reverts it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "migration",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", Id(), nullable=False, unique=True),
        sa.Column("server_id", Id(), nullable=False, index=True),
        sa.Column("type", sa.String(24), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("source_host", Name(), nullable=False),
        sa.Column("source_node", Name(), nullable=False),
        sa.Column("target_host", Name(), nullable=False),
        sa.Column("target_node", Name(), nullable=False),
        sa.Column("target_ip", Name(), nullable=False),
        sa.Column("old_flavor", sa.JSON, nullable=False),
        sa.Column("new_flavor", sa.JSON, nullable=False),
        sa.Column("vm_state", sa.String(24), nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("project_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False, index=True),
        sa.Column("updated_at", Timestamp(), nullable=False, index=True),
        sqlite_autoincrement=True,
    )
