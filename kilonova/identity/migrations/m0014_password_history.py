"""Earlier passwords, and when logins were right or wrong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "password_history",
        sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("set_at", Timestamp(), primary_key=True),
        sa.Column("password_hash", Name(), nullable=False),
    )
    op.add_column("user_account", sa.Column("password_set_at", Timestamp(), nullable=True))
    op.add_column("user_account", sa.Column("password_expires_at", Timestamp(), nullable=True))
    op.add_column("user_account", sa.Column("failed_logins", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("user_account", sa.Column("failed_at", Timestamp(), nullable=True))
    op.add_column("user_account", sa.Column("active_at", Timestamp(), nullable=True))
