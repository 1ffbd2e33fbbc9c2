"""The books: providers, inventories, traits, classes, consumers, allocations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from kilonova.db.types import Id, Name, Timestamp


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "resource_provider",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("parent_id", Id(), index=True),
        sa.Column("root_id", Id(), nullable=False, index=True),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "inventory",
        sa.Column("provider_id", Id(), primary_key=True),
        sa.Column("resource_class", Name(), primary_key=True, index=True),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in ("total", "reserved", "min_unit", "max_unit", "step_size")
        ),
        sa.Column("allocation_ratio", sa.Double, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_table("trait", sa.Column("name", Name(), primary_key=True))
    op.create_table(
        "provider_trait",
        sa.Column("provider_id", Id(), primary_key=True),
        sa.Column("trait", Name(), primary_key=True, index=True),
    )
    op.create_table("resource_class", sa.Column("name", Name(), primary_key=True))
    op.create_table(
        "consumer",
        sa.Column("id", Id(), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("project_id", Name(), nullable=False, index=True),
        sa.Column("user_id", Name(), nullable=False),
        sa.Column("type", Name(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
    )
    op.create_table(
        "allocation",
        sa.Column("consumer_id", Id(), primary_key=True),
        sa.Column("provider_id", Id(), primary_key=True, index=True),
        sa.Column("resource_class", Name(), primary_key=True),
        sa.Column("used", sa.Integer, nullable=False),
    )
