"""Migrations: numbered modules in a service's `migrations` package, each applied once, in order.

A module `m0003_port.py` has `def upgrade(op: alembic.operations.Operations) -> None`. The table `schema_version`
records what was applied. Alembic is imported only when there is something to apply.
"""

from __future__ import annotations

import importlib
import pkgutil

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.db.database import Database

_metadata = sa.MetaData()
schema_version = sa.Table("schema_version", _metadata, sa.Column("name", sa.String(100), primary_key=True))


def available(package: str) -> list[str]:
    """Names of the migrations in `package` (`kilonova.compute.migrations`), in order."""
    module = importlib.import_module(package)
    return sorted(found.name for found in pkgutil.iter_modules(module.__path__) if _numbered(found.name))


def _numbered(name: str) -> bool:
    return name.startswith("m") and name[1:5].isdigit()


def applied(connection: Connection) -> list[str]:
    """Names recorded as applied; empty for a new database."""
    if not sa.inspect(connection).has_table("schema_version"):
        return []
    return sorted(connection.scalars(sa.select(schema_version.c.name)))


def missing(connection: Connection, package: str) -> list[str]:
    """Migrations still to apply. A database newer than this release is a CONFLICT that says so."""
    have, known = set(applied(connection)), available(package)
    if newer := sorted(have - set(known)):
        raise conflict(
            f"The database was upgraded by a newer release (it has {newer[-1]}).",
            hint="Run that release, or restore the backup made before the upgrade.",
        )
    return [name for name in known if name not in have]


def upgrade(connection: Connection, package: str) -> list[str]:
    """Apply what is missing, as one unit; returns the names applied."""
    todo = missing(connection, package)
    if not todo:
        return []
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    _metadata.create_all(connection, checkfirst=True)
    operations = Operations(MigrationContext.configure(connection))
    for name in todo:
        importlib.import_module(f"{package}.{name}").upgrade(operations)
        connection.execute(sa.insert(schema_version).values(name=name))
    return todo


async def ensure_current(db: Database, package: str) -> list[str]:
    """Bring `db` to this release's schema; cheap when it is already there."""
    if not await db.read(missing, package):
        return []
    return await db.write(upgrade, package)
