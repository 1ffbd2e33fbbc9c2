"""Metadata definitions: namespaces, what stands in them, and the kinds of resources they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "metadef_namespace",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("namespace", sa.String(80), nullable=False, unique=True),
        sa.Column("display_name", sa.String(80), nullable=True),
        sa.Column("description", sa.String(500), nullable=True),
        sa.Column("visibility", sa.String(20), nullable=False),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("owner", Name(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_index("ix_metadef_namespace_owner", "metadef_namespace", ["owner"])
    _in_namespace(op, "metadef_object", sa.Column("body", sa.JSON, nullable=False))
    _in_namespace(op, "metadef_property", sa.Column("body", sa.JSON, nullable=False))
    _in_namespace(op, "metadef_tag")
    prefix = sa.Column("prefix", sa.String(80), nullable=True)
    _in_namespace(op, "metadef_association", prefix, sa.Column("properties_target", sa.String(80), nullable=True))
    op.create_table(
        "metadef_resource_type",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )


def _in_namespace(op: Operations, table: str, *columns: sa.Column[str]) -> None:
    op.create_table(
        table,
        sa.Column("namespace_id", Id(), sa.ForeignKey("metadef_namespace.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", Name(), primary_key=True),
        *columns,
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
