"""Uploads that are under way: whose process dies, his upload is given up by another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Timestamp


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "image_upload",
        sa.Column("image_id", Id(), primary_key=True),
        sa.Column("upload_id", Id(), nullable=False),
        sa.Column("held_until", Timestamp(), nullable=False),
    )
    op.create_index("ix_image_upload_held_until", "image_upload", ["held_until"])
