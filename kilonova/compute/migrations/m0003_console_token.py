"""Console tokens, as hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def _console_token(op: Operations) -> None:
    op.create_table(
        "console_token",
        sa.Column("hash", Id(), primary_key=True),
        sa.Column("server_id", Id(), nullable=False),
        sa.Column("host", Name(), nullable=False),
        sa.Column("console_type", sa.String(24), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_console_token_expires_at", "console_token", ["expires_at"])
    op.create_index("ix_console_token_server_id", "console_token", ["server_id"])


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _console_token(op)
