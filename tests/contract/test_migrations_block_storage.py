"""Block storage's migrations make the schema that its stores expect."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.base.clock import SystemClock
from kilonova.block_storage.schema import metadata
from kilonova.block_storage.service import MIGRATIONS
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current


async def test_migrated_schema_is_the_stores_schema() -> None:
    db = InlineDatabase("cinder", SystemClock())
    await ensure_current(db, MIGRATIONS)
    seen = await db.read(sa.inspect)
    for table in metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in seen.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}, table.name
        keys = {tuple(sorted(one["column_names"])) for one in seen.get_unique_constraints(table.name)}
        wanted = {
            tuple(sorted(column.name for column in one.columns))
            for one in table.constraints
            if isinstance(one, sa.UniqueConstraint)
        }
        assert keys == wanted, table.name
        indexes = {one["name"]: one["column_names"] for one in seen.get_indexes(table.name)}
        assert indexes == {one.name: [column.name for column in one.columns] for one in table.indexes}, table.name
