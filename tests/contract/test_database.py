"""What every database promises to a unit of work, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.db import statements
from kilonova.db.database import Database, lone
from kilonova.db.migrations import ensure_current
from kilonova.db.server import ALONE_AFTER, ServerDatabase, server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.db.types import Id, Name, Text, Timestamp
from kilonova.trace import metrics, spans
from tests.services import MariaDB, PostgreSQL

metadata = sa.MetaData()
servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", Name(), unique=True),
    sa.Column("state", Name(), nullable=False, default="active"),
    sa.Column("counter", sa.Integer, nullable=False, default=0),
    sa.Column("notes", Text()),
    sa.Column("properties", sa.JSON),
    sa.Column("created_at", Timestamp()),
)
SERVERS = [pytest.param(name, marks=pytest.mark.cluster) for name in ("postgresql", "mariadb")]


@pytest.fixture(params=["sqlite", *SERVERS])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    with ExitStack() as stack:
        world = LiveWorld("test")
        if request.param == "sqlite":
            database: Database = SqliteDatabase("compute", tmp_path / "compute.db", SystemClock())
        else:
            url = stack.enter_context(request.getfixturevalue(request.param).database())
            database = await server_database("compute", url, world)
        await database.write(metadata.create_all)
        yield database
        await database.close()
        await world.close()


def insert(connection: Connection, id_: str, **values: Any) -> str:
    connection.execute(sa.insert(servers).values(id=id_, name=values.pop("name", id_), **values))
    return id_


def show(connection: Connection, id_: str) -> Any:
    return connection.execute(sa.select(servers).where(servers.c.id == id_)).mappings().first()


def count(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(servers)).scalar_one()


async def test_what_was_written_is_read_back_as_it_was(db: Database) -> None:
    moment = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
    values = {
        "notes": "ünïcödé 🚀 'quoted' %s " + "x" * 100_000,
        "properties": {"a": [1, None, {"b": "é"}]},
        "created_at": moment,
    }
    assert await db.write(insert, "s1", **values) == "s1"
    row = await db.read(show, "s1")
    assert {name: row[name] for name in values} == values
    assert row["created_at"].tzinfo is not None


_COUNT = statements.Statement(sa.select(sa.func.count()).select_from(servers))
_NOTED = statements.Statement(
    sa.select(servers.c.properties, servers.c.created_at, servers.c.counter).where(
        servers.c.name.in_(sa.bindparam("names", expanding=True)), servers.c.created_at <= sa.bindparam("until")
    )
)


def put(connection: Connection, id_: str, **values: Any) -> None:
    statements.insert(connection, servers, {"id": id_, "name": id_, "state": "active", "counter": 0, **values})


def counted(connection: Connection) -> Any:
    return _COUNT.scalar(connection)


async def test_statements_written_once_give_back_what_was_written(db: Database) -> None:
    moment = datetime(2026, 11, 28, 12, 0, 0, 250_001, tzinfo=UTC)
    notes = {"größe": [1, None, {"a%b": "$1 :x ?"}]}
    await db.write(put, "50% off", properties=notes, created_at=moment, counter=7)
    await db.write(put, "later", properties=notes, created_at=moment + timedelta(seconds=1))
    wanted = {"names": ["50% off", "later", "none"], "until": moment}
    assert await db.read(lambda c: _NOTED.all(c, **wanted)) == [(notes, moment, 7)]
    (row,), convert = await db.read(lambda c: _NOTED.as_came(c, **wanted))
    assert statements.converted(row, convert) == (notes, moment, 7) and hash(row)
    assert await db.read(lambda c: _NOTED.all(c, names=[], until=moment)) == []
    assert (
        await db.write(lambda c: statements.update(c, servers, {"id": "later"}, {"counter": statements.ONE_MORE})) == 1
    )
    assert await db.write(lambda c: statements.delete(c, servers, id="none")) == 0
    with pytest.raises(IntegrityError):
        await db.write(put, "later")
    assert await db.read(counted) == 2


@pytest.mark.cluster
async def test_a_statement_that_is_cancelled_takes_its_connection_with_it(postgresql: PostgreSQL) -> None:
    world = LiveWorld("test")
    slow = statements.Statement(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float))))
    with postgresql.database() as url:
        db = ServerDatabase("compute", url, world, pool_size=1, wait_seconds=5)
        await db.write(metadata.create_all)
        asked = asyncio.create_task(db.read(lambda c: slow.all(c, seconds=60.0)))
        await asyncio.sleep(0.3)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        for _ in range(3):
            assert await asyncio.wait_for(db.read(counted), 20) == 0
        await db.close()
    await world.close()


async def test_a_unit_that_raises_leaves_nothing(db: Database) -> None:
    def half(connection: Connection) -> None:
        insert(connection, "s1")
        raise Fault(Kind.CONFLICT, "changed my mind")

    with pytest.raises(Fault, match="changed my mind"):
        await db.write(half)
    assert await db.read(count) == 0


async def test_a_broken_rule_of_the_schema_is_told_as_such(db: Database) -> None:
    await db.write(insert, "s1", name="web")
    with pytest.raises(IntegrityError):
        await db.write(insert, "s2", name="web")
    await db.write(insert, "s3", name="Web")  # names differ by case, on every server


async def test_a_compare_and_set_says_whether_it_matched_even_when_nothing_changed(db: Database) -> None:
    def to_active(connection: Connection, id_: str) -> int:
        changed = connection.execute(
            sa.update(servers).where(servers.c.id == id_, servers.c.state == "active").values(state="active")
        )
        return changed.rowcount

    await db.write(insert, "s1")
    assert await db.write(to_active, "s1") == 1
    assert await db.write(to_active, "s2") == 0


async def test_racing_requests_never_pass_a_limit(db: Database) -> None:
    def insert_below(connection: Connection, id_: str, limit: int) -> bool:
        if count(connection) >= limit:
            return False
        insert(connection, id_)
        return True

    got = await asyncio.gather(*(db.write(insert_below, f"s{n}", 5) for n in range(24)))
    assert sum(got) == 5
    assert await db.read(count) == 5


async def test_no_update_is_lost_between_a_read_and_a_write_of_one_unit(db: Database) -> None:
    def add_one(connection: Connection) -> None:
        counter = show(connection, "s1")["counter"]
        connection.execute(sa.update(servers).where(servers.c.id == "s1").values(counter=counter + 1))

    await db.write(insert, "s1")
    await asyncio.gather(*(db.write(add_one) for _ in range(30)))
    assert (await db.read(show, "s1"))["counter"] == 30


async def test_units_that_lock_two_rows_in_opposite_order_both_get_through(db: Database) -> None:
    def both(connection: Connection, first: str, second: str) -> None:
        for id_ in (first, second):
            connection.execute(sa.update(servers).where(servers.c.id == id_).values(counter=servers.c.counter + 1))

    for id_ in ("s1", "s2"):
        await db.write(insert, id_)
    await asyncio.gather(*(db.write(both, *(("s1", "s2") if n % 2 else ("s2", "s1"))) for n in range(20)))
    assert [(await db.read(show, id_))["counter"] for id_ in ("s1", "s2")] == [20, 20]


@pytest.mark.cluster
async def test_a_slow_unit_among_many_quick_ones_gets_through(postgresql: PostgreSQL) -> None:
    """What it read is changed by other processes before it writes, each time it is tried."""

    def add_one(connection: Connection, slowly: bool = False) -> int:
        counter: int = show(connection, "s1")["counter"]
        if slowly:
            connection.execute(sa.text("SELECT pg_sleep(0.1)"))
        connection.execute(sa.update(servers).where(servers.c.id == "s1").values(counter=counter + 1))
        return counter

    async def quickly(db: Database) -> int:
        added = 0
        while not slow.done():
            await db.write(add_one)
            added += 1
        return added

    world = LiveWorld("test")
    with postgresql.database() as url:
        slower, *quick = [await server_database("compute", url, world) for _ in range(4)]
        await slower.write(metadata.create_all)
        await slower.write(insert, "s1")
        slow = asyncio.ensure_future(slower.write(add_one, slowly=True))
        added = await asyncio.gather(*map(quickly, quick))
        assert await slow < (await slower.read(show, "s1"))["counter"] == sum(added) + 1
        for db in (slower, *quick):
            await db.close()
    await world.close()


async def test_a_read_sees_one_moment(db: Database) -> None:
    def twice(connection: Connection) -> tuple[int, int]:
        return count(connection), count(connection)

    async def keep_writing() -> None:
        for n in range(50):
            await db.write(insert, f"s{n}")

    writing = asyncio.create_task(keep_writing())
    for _ in range(20):
        first, second = await db.read(twice)
        assert first == second
    await writing


@lone
def counted_alone(connection: Connection) -> Any:
    return _COUNT.scalar(connection)


@lone
def asks_for_what_is_not_there(connection: Connection) -> None:
    connection.execute(sa.text("SELECT nothing FROM nowhere"))


async def test_a_lone_statement_reads_what_is_committed_and_leaves_its_connection_as_it_was(db: Database) -> None:
    await db.write(insert, "a")
    assert await db.read(counted_alone) == 1
    with pytest.raises(Exception, match="nowhere"):
        await db.read(asks_for_what_is_not_there)
    await db.write(insert, "b")
    assert await asyncio.gather(*(db.read(counted_alone) for _ in range(20))) == [2] * 20
    if db.dialect == "postgresql":  # those that read twice still see one moment
        level = sa.text("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
        for _ in range(9):
            row = await db.read(lambda c: c.execute(level).one())
            assert tuple(row) == ("repeatable read", "on")


async def test_the_clock_of_the_database_is_near_ours(db: Database) -> None:
    assert abs(await db.read(db.now) - datetime.now(UTC)) < timedelta(seconds=5)


async def test_units_are_counted_and_timed(db: Database) -> None:
    def counted(access: str) -> float:
        labels = {"database": "compute", "access": access}
        return metrics.REGISTRY.get_sample_value("kilonova_db_unit_seconds_count", labels) or 0.0

    before = counted("read"), counted("write")
    await db.write(insert, "s1")
    await db.read(count)
    assert (counted("read"), counted("write")) == (before[0] + 1, before[1] + 1)


async def test_units_show_in_the_trace(db: Database) -> None:
    with spans.within(spans.begin("nova_api", request_id="req-db")):
        context = spans.current()
        await db.write(insert, "s1")
        await db.read(show, "s1")
    assert context is not None
    arrows = [(s.source, s.target, s.name) for s in spans.RING.spans if s.trace_id == context.trace_id]
    assert arrows == [("nova_api", "database", "insert"), ("nova_api", "database", "show")]


async def test_migrations_are_applied_once(db: Database, tmp_path: Path) -> None:
    package = tmp_path / f"migrations_{db.dialect}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "m0001_ports.py").write_text(
        "import sqlalchemy as sa\n"
        "def upgrade(op):\n"
        "    op.create_table('ports', sa.Column('id', sa.String(64), primary_key=True))\n"
        "    op.create_index('ports_by_id', 'ports', ['id'])\n"
    )
    (package / "m0002_port_name.py").write_text(
        "import sqlalchemy as sa\ndef upgrade(op):\n    op.add_column('ports', sa.Column('name', sa.String(255)))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        assert await ensure_current(db, package.name) == ["m0001_ports", "m0002_port_name"]
        assert await ensure_current(db, package.name) == []
    finally:
        sys.path.remove(str(tmp_path))
    await db.write(lambda c: c.execute(sa.text("INSERT INTO ports (id, name) VALUES ('p1', 'eth0')")) and None)
    assert await db.read(lambda c: c.execute(sa.text("SELECT name FROM ports")).scalar_one()) == "eth0"


async def test_a_closed_database_says_so(db: Database) -> None:
    await db.close()
    with pytest.raises(Fault) as told:
        await db.write(insert, "s1")
    assert told.value.kind is Kind.UNAVAILABLE


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_server_that_dies_and_returns(kind: str, request: pytest.FixtureRequest) -> None:
    service: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    world = LiveWorld("test")
    with service.database() as url:
        db = await server_database("compute", url, world)
        await db.write(metadata.create_all)
        await db.write(insert, "before")
        await asyncio.gather(*(db.read(count) for _ in range(8)))  # leaves stale connections in the pool
        await asyncio.to_thread(service.kill)
        for unit in (count, lambda c: insert(c, "during"), counted, lambda c: put(c, "during")):
            with pytest.raises(Fault, match="does not answer") as told:
                await db.write(unit)
            assert told.value.kind is Kind.UNAVAILABLE
            assert "127.0.0.1" in told.value.inside
            assert "127.0.0.1" not in told.value.told
        await asyncio.to_thread(service.start)
        await db.write(insert, "after")
        assert await db.read(count) == 2
        await asyncio.gather(*(db.read(count) for _ in range(8)))
        await asyncio.to_thread(service.restart)  # unnoticed: nobody asked while it was away
        assert await db.read(counted) == 2
        await db.write(put, "later")
        await db.close()
    await world.close()


@pytest.mark.cluster
async def test_a_read_that_loses_many_connections_in_a_row_comes_through_and_locks_nobody_out(
    postgresql: PostgreSQL,
) -> None:
    losses = iter(range(ALONE_AFTER + 1))
    locks = sa.text("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'ShareRowExclusiveLock'")

    def lose_then_count(connection: Connection) -> int:
        if next(losses, None) is not None:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return int(connection.execute(locks).scalar_one())

    world = LiveWorld("test")
    with postgresql.database() as url:
        db = await server_database("compute", url, world)
        await db.write(metadata.create_all)
        assert await db.read(lose_then_count) == 0
        assert next(losses, None) is None
        await db.close()
    await world.close()


@pytest.mark.cluster
async def test_more_units_than_connections_wait_their_turn_and_then_fail_as_busy(postgresql: PostgreSQL) -> None:
    world = LiveWorld("test")
    with postgresql.database() as url:
        db = ServerDatabase("compute", url, world, pool_size=1, wait_seconds=0.3)
        slow = asyncio.create_task(db.read(lambda c: c.execute(sa.text("SELECT pg_sleep(1)")) and None))
        await asyncio.sleep(0.2)
        with pytest.raises(Fault) as told:
            await db.read(lambda c: c.execute(sa.text("SELECT 1")).scalar_one())
        assert told.value.kind is Kind.BUSY
        await slow
        await db.close()
    await world.close()


async def test_an_unknown_kind_of_server_is_refused() -> None:
    world = LiveWorld("test")
    with pytest.raises(Fault, match="sqlite is not a database server"):
        ServerDatabase("compute", "sqlite:///x", world)
    await world.close()
