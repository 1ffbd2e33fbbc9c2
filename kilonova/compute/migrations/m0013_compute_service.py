"""What operators said of a host's compute service: out of service, or known to be down."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "compute_service",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", Id(), nullable=False, unique=True),
        sa.Column("host", Name(), nullable=False, unique=True),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", Name()),
        sa.Column("forced_down", sa.Boolean, nullable=False),
        sa.Column("updated_at", Timestamp()),
        sqlite_autoincrement=True,
    )
