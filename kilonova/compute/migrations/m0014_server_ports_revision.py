"""A server's copy of its ports counts what is written to it, so that two writers do not undo each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the column; copies that are there begin at 0."""
    op.add_column("server", sa.Column("ports_revision", sa.Integer, nullable=False, server_default="0"))
