"""When a server was soft-deleted, and the password that its guest posted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Text, Timestamp


def upgrade(op: Operations) -> None:
    """Add the column and make the table."""
    op.add_column("server", sa.Column("soft_deleted_at", Timestamp()))
    op.create_table(
        "server_password",
        sa.Column("server_id", Id(), primary_key=True),
        sa.Column("password", Text(), nullable=False),
    )
