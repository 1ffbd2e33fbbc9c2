"""With which image a server is rescued."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the column."""
    op.add_column("server", sa.Column("rescue", sa.JSON(none_as_null=True)))
