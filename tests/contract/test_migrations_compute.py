"""Compute's migrations make exactly the schema that its stores speak to."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.compute.host import store as hosts
from kilonova.compute.schema import metadata
from kilonova.compute.server import console_store, store
from kilonova.compute.service import MIGRATIONS
from kilonova.db.migrations import upgrade
from kilonova.db.sqlite import sqlite_engine

OURS = {store.servers, store.devices, store.tags, store.faults, store.specs, hosts.hosts, console_store.tokens}


def columns(inspector: sa.Inspector, table: str) -> dict[str, tuple[bool, str]]:
    found = inspector.get_columns(table)
    return {column["name"]: (bool(column["nullable"]), str(column["type"])) for column in found}


def test_migrated_schema_is_the_declared_one() -> None:
    migrated, declared = sqlite_engine(":memory:"), sqlite_engine(":memory:")
    with migrated.connect() as made, declared.connect() as wanted:
        upgrade(made, MIGRATIONS)
        metadata.create_all(wanted)
        has, wants = sa.inspect(made), sa.inspect(wanted)
        assert set(has.get_table_names()) - {"schema_version"} == set(wants.get_table_names())
        assert {table.name for table in OURS} <= set(has.get_table_names())
        for table in wants.get_table_names():
            assert columns(has, table) == columns(wants, table), table
            indexes = {tuple(index["column_names"]) for index in wants.get_indexes(table)}
            assert {tuple(index["column_names"]) for index in has.get_indexes(table)} >= indexes, table
