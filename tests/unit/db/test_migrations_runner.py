"""The runner of migrations: each once, in order, all or nothing; a newer database is left alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault, Kind
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import applied, available, ensure_current, missing, schema_version

ONE = 'def upgrade(op):\n    op.execute("CREATE TABLE lamp (id INTEGER)")\n'
TWO = 'def upgrade(op):\n    op.execute("ALTER TABLE lamp ADD COLUMN colour TEXT")\n'
BROKEN = 'def upgrade(op):\n    op.execute("CREATE TABLE half (id INTEGER)")\n    op.execute("NOT SQL")\n'


class Package:
    """A package of migrations that grows."""

    def __init__(self, directory: Path) -> None:
        self.name = f"migrations_{directory.name}"
        self.path = directory / self.name
        self.path.mkdir()
        self.add("__init__", "")

    def add(self, name: str, text: str) -> None:
        (self.path / f"{name}.py").write_text(text)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    sys.path.insert(0, str(tmp_path))
    made = Package(tmp_path)
    yield made
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith(made.name)]:
        del sys.modules[name]


@pytest.fixture
def db() -> InlineDatabase:
    return InlineDatabase("test", SystemClock())


def columns(connection: Connection) -> list[str]:
    return [column["name"] for column in sa.inspect(connection).get_columns("lamp")]


async def test_each_is_applied_once_in_order(package: Package, db: InlineDatabase) -> None:
    package.add("m0002_colour", TWO)
    package.add("m0001_lamp", ONE)
    package.add("words", "raise SystemExit")  # no migration: has no number
    assert available(package.name) == ["m0001_lamp", "m0002_colour"]
    assert await ensure_current(db, package.name) == ["m0001_lamp", "m0002_colour"]
    assert await db.read(columns) == ["id", "colour"]
    assert await ensure_current(db, package.name) == []
    assert await db.read(applied) == ["m0001_lamp", "m0002_colour"]


async def test_only_what_is_missing_is_applied(package: Package, db: InlineDatabase) -> None:
    package.add("m0001_lamp", ONE)
    await ensure_current(db, package.name)
    package.add("m0002_colour", TWO)
    assert await db.read(missing, package.name) == ["m0002_colour"]
    assert await ensure_current(db, package.name) == ["m0002_colour"]


async def test_one_that_fails_leaves_the_database_as_it_was(package: Package, db: InlineDatabase) -> None:
    package.add("m0001_lamp", ONE)
    await ensure_current(db, package.name)
    package.add("m0002_half", BROKEN)
    with pytest.raises(sa.exc.OperationalError):
        await ensure_current(db, package.name)
    assert await db.read(applied) == ["m0001_lamp"]
    assert not await db.read(lambda c: sa.inspect(c).has_table("half"))


async def test_a_newer_database_is_refused_by_name(package: Package, db: InlineDatabase) -> None:
    package.add("m0001_lamp", ONE)
    await ensure_current(db, package.name)
    await db.write(lambda c: c.execute(schema_version.insert().values(name="m0009_future")))
    with pytest.raises(Fault, match="m0009_future") as caught:
        await ensure_current(db, package.name)
    assert caught.value.kind is Kind.CONFLICT
    assert "backup" in caught.value.hint
