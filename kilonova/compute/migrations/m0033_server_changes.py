"""How often a server's record was written: what was made of it need not be made again while that stays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the column; releases that do not know it neither write nor read it."""
    op.add_column("server", sa.Column("changes", sa.Integer, nullable=False, server_default="0"))
