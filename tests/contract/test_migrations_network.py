"""Network's migrations make exactly the tables that its stores use."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from kilonova.network.schema import metadata
from kilonova.network.service import MIGRATIONS


def columns(connection: Connection) -> dict[str, dict[str, bool]]:
    """table → column → nullable, as the database has them."""
    seen = sa.inspect(connection)
    return {
        table: {column["name"]: bool(column["nullable"]) for column in seen.get_columns(table)}
        for table in seen.get_table_names()
        if table != "schema_version"
    }


async def test_migrated_tables_are_those_of_the_stores() -> None:
    db = InlineDatabase("network", SystemClock())
    await ensure_current(db, MIGRATIONS)
    declared = {t.name: {c.name: bool(c.nullable) for c in t.columns} for t in metadata.tables.values()}
    assert await db.read(columns) == declared
    assert await ensure_current(db, MIGRATIONS) == []
