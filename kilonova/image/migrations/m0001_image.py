"""Images, their tags and members, and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "image",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", Name(), nullable=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("visibility", sa.String(20), nullable=False),
        sa.Column("owner", Id(), nullable=True),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("os_hidden", sa.Boolean, nullable=False),
        sa.Column("disk_format", sa.String(20), nullable=True),
        sa.Column("container_format", sa.String(20), nullable=True),
        sa.Column("min_disk", sa.Integer, nullable=False),
        sa.Column("min_ram", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=True),
        sa.Column("virtual_size", sa.BigInteger, nullable=True),
        sa.Column("checksum", sa.String(32), nullable=True),
        sa.Column("os_hash_algo", sa.String(20), nullable=True),
        sa.Column("os_hash_value", sa.String(128), nullable=True),
        sa.Column("properties", sa.JSON, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_image_owner", "image", ["owner"])
    op.create_index("image_by_created", "image", ["created_at", "id"])
    op.create_table(
        "image_tag",
        sa.Column("image_id", Id(), sa.ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", Name(), primary_key=True),
    )
    op.create_table(
        "image_member",
        sa.Column("image_id", Id(), sa.ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("member_id", Id(), primary_key=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_index("image_member_by_member", "image_member", ["member_id"])
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_id", Id(), primary_key=True),
        sa.Column("resource_id", Id(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
