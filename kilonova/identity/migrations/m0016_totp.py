"""One-time passcodes: the last step of time that one was used of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Add the column."""
    op.add_column("credential", sa.Column("used_step", sa.BigInteger(), nullable=True))
