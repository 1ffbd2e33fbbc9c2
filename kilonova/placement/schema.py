"""Placement's tables. `inventory.used` is the sum of its allocations, kept by the unit that changes them."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.types import Id, Name, Text, Timestamp

metadata = sa.MetaData()

provider = sa.Table(
    "resource_provider",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("parent_id", Id(), index=True),
    sa.Column("root_id", Id(), nullable=False, index=True),
    sa.Column("updated_at", Timestamp(), nullable=False),
)

inventory = sa.Table(
    "inventory",
    metadata,
    sa.Column("provider_id", Id(), primary_key=True),
    sa.Column("resource_class", Name(), primary_key=True, index=True),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("reserved", sa.Integer, nullable=False),
    sa.Column("min_unit", sa.Integer, nullable=False),
    sa.Column("max_unit", sa.Integer, nullable=False),
    sa.Column("step_size", sa.Integer, nullable=False),
    sa.Column("allocation_ratio", sa.Double, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),
)

provider_aggregate = sa.Table(
    "provider_aggregate",
    metadata,
    sa.Column("provider_id", Id(), primary_key=True),
    sa.Column("aggregate_id", Id(), primary_key=True, index=True),
)

trait = sa.Table("trait", metadata, sa.Column("name", Name(), primary_key=True))  # custom ones only

provider_trait = sa.Table(
    "provider_trait",
    metadata,
    sa.Column("provider_id", Id(), primary_key=True),
    sa.Column("trait", Name(), primary_key=True, index=True),
)

resource_class = sa.Table("resource_class", metadata, sa.Column("name", Name(), primary_key=True))  # custom ones only

consumer = sa.Table(
    "consumer",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("project_id", Name(), nullable=False, index=True),
    sa.Column("user_id", Name(), nullable=False),
    sa.Column("type", Name(), nullable=False),  # "unknown" for consumers made before 1.38
    sa.Column("updated_at", Timestamp(), nullable=False),
)

allocation = sa.Table(
    "allocation",
    metadata,
    sa.Column("consumer_id", Id(), primary_key=True),
    sa.Column("provider_id", Id(), primary_key=True, index=True),
    sa.Column("resource_class", Name(), primary_key=True),
    sa.Column("used", sa.Integer, nullable=False),
)

change = sa.Table(  # what mirrors read: one row for each unit that changed something, pruned from the front
    "provider_change",
    metadata,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("body", Text(), nullable=False),
)
