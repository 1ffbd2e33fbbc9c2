"""Invitations for hosts: each lets one host join, once, within an hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "host_invitation",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("host", Name(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False, index=True),
        sa.Column("used_at", Timestamp(), nullable=True),
    )
