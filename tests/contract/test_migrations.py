"""Every service's migrations make the schema that its stores expect, and run on every database."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

import kilonova
from kilonova.base.clock import SystemClock
from kilonova.base.world import LiveWorld
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import applied, available, ensure_current, upgrade
from kilonova.db.server import ServerDatabase


def services() -> list[str]:
    """The services that keep a database: those with a package of migrations."""
    names = (found.name for found in pkgutil.iter_modules(kilonova.__path__) if found.ispkg)
    parts = ("migrations", "schema", "service")
    return [n for n in names if all(importlib.util.find_spec(f"kilonova.{n}.{part}") for part in parts)]


def schema_of(service: str) -> sa.MetaData:
    """The service's tables, all of them: its stores are imported with it."""
    importlib.import_module(f"kilonova.{service}.service")
    metadata: sa.MetaData = importlib.import_module(f"kilonova.{service}.schema").metadata
    return metadata


def not_ours(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Whether alembic is to compare it: the runner's own table is none of the service's."""
    return not (kind == "table" and name == "schema_version")


def differences(connection: Connection, metadata: sa.MetaData) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": False, "include_object": not_ours})
    return compare_metadata(context, metadata)


def keys(connection: Connection, metadata: sa.MetaData) -> dict[str, tuple[list[str], list[str]]]:
    """table → (its primary key as migrated, as the stores expect it); alembic compares none of these."""
    seen = sa.inspect(connection)
    return {
        table.name: (
            sorted(seen.get_pk_constraint(table.name)["constrained_columns"]),
            sorted(column.name for column in table.primary_key),
        )
        for table in metadata.sorted_tables
    }


def test_some_service_has_migrations() -> None:
    assert "identity" in services()


@pytest.mark.parametrize("service", services())
async def test_migrated_schema_is_the_stores_schema(service: str) -> None:
    db = InlineDatabase(service, SystemClock())
    metadata = schema_of(service)
    package = f"kilonova.{service}.migrations"
    assert await ensure_current(db, package) == available(package)
    assert await db.read(differences, metadata) == []
    found = await db.read(keys, metadata)
    assert {table: migrated for table, (migrated, _) in found.items()} == {
        table: expected for table, (_, expected) in found.items()
    }
    assert await ensure_current(db, package) == []


@pytest.mark.cluster
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_migrations_run_on_servers(server: str, request: pytest.FixtureRequest) -> None:
    """All services, each in a database of its own."""

    async def migrate(service: str, url: str) -> None:
        world = LiveWorld("migrate")
        db = ServerDatabase(service, url, world)
        package = f"kilonova.{service}.migrations"
        try:
            await db.write(upgrade, package)
            assert await db.read(applied) == available(package)
            # A server may name or fold an index its own way; tables and columns are the same everywhere.
            told = await db.read(differences, schema_of(service))
            assert [one for one in told if isinstance(one, tuple) and one[0].endswith(("_table", "_column"))] == []
        finally:
            await db.close()
            await world.close()

    for service in services():
        with request.getfixturevalue(server).database() as url:
            asyncio.run(migrate(service, url))
