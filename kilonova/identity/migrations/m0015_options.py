"""Options of domains and projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the columns."""
    for table in ("domain", "project"):
        op.add_column(table, sa.Column("options", sa.JSON(), nullable=True))
