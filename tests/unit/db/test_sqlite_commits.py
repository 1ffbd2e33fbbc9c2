"""Group commit: who shares a commit shares nothing else, and nobody is told of success before it is kept."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault, Kind, conflict
from kilonova.db.database import DatabaseAway, redone, unhurried
from kilonova.db.sqlite import CHECKPOINT_ROWS, FLUSH_SECONDS, SqliteDatabase

metadata = sa.MetaData()
parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
child = sa.Table(
    "child",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.ForeignKey("parent.id", deferrable=True, initially="DEFERRED"), nullable=False),
)


@pytest.fixture(params=[True, False], ids=["survives a power cut", "does not"])
async def db(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SqliteDatabase]:
    made = SqliteDatabase("test", tmp_path / "test.sqlite", SystemClock(), survives_power_cut=request.param)
    await made.write(metadata.create_all)
    yield made
    await made.close()


def add(connection: Connection, number: int) -> int:
    connection.execute(parent.insert().values(id=number))
    return number


def add_and_fail(connection: Connection, number: int) -> int:
    add(connection, number)
    raise conflict(f"{number} may not be")


def orphan(connection: Connection) -> None:
    """Breaks a rule that is checked at the commit only."""
    connection.execute(child.insert().values(id=1, parent_id=404))


def everything(connection: Connection) -> list[int]:
    return list(connection.scalars(sa.select(parent.c.id).order_by(parent.c.id)))


async def test_a_unit_that_fails_is_rolled_back_alone(db: SqliteDatabase) -> None:
    units = [db.write(add_and_fail if number % 3 == 0 else add, number) for number in range(1, 31)]
    outcomes = await asyncio.gather(*units, return_exceptions=True)
    kept = [number for number in range(1, 31) if number % 3]
    assert [one for one in outcomes if not isinstance(one, Fault)] == kept
    assert await db.read(everything) == kept


async def test_a_unit_that_fails_with_nobody_beside_it_leaves_nothing_and_the_next_is_kept(db: SqliteDatabase) -> None:
    for number in range(1, 5):
        if number % 2:
            with pytest.raises(Fault, match="may not be"):
                await db.write(add_and_fail, number)
        else:
            await db.write(add, number)
    assert await db.read(everything) == [2, 4]


def add_ten(connection: Connection, first: int) -> None:
    connection.execute(parent.insert(), [{"id": number} for number in range(first, first + 10)])


@redone
def add_ten_again(connection: Connection, first: int) -> None:
    add_ten(connection, first)


@pytest.mark.parametrize("unit", [add_ten, add_ten_again])
async def test_the_log_does_not_grow_for_ever(db: SqliteDatabase, unit: Callable[[Connection, int], None]) -> None:
    """Whether its commits wait for the disk or not: what is in it is copied into the file now and then."""
    log = db.path.with_name("test.sqlite-wal")
    for first in range(0, CHECKPOINT_ROWS, 10):
        await db.write(unit, first)
    once, file = log.stat().st_size, db.path.stat().st_size
    for first in range(CHECKPOINT_ROWS, 4 * CHECKPOINT_ROWS, 10):
        await db.write(unit, first)
    assert log.stat().st_size < 2 * once
    assert db.path.stat().st_size > file


_WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from kilonova.base.clock import SystemClock
from kilonova.db.sqlite import SqliteDatabase

async def main():
    db = SqliteDatabase("test", Path(sys.argv[1]), SystemClock(), survives_power_cut=False)
    await db.write(lambda connection: connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
    for number in range(5):
        await db.write(lambda connection: connection.exec_driver_sql(f"INSERT INTO parent VALUES ({number})"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_committed_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "killed.sqlite"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _WRITER, str(path))
    assert await process.wait() == -signal.SIGKILL
    left = SqliteDatabase("test", path, SystemClock())
    assert await left.read(everything) == [0, 1, 2, 3, 4]
    await left.close()


async def test_a_commit_that_fails_fails_every_unit_in_it(db: SqliteDatabase) -> None:
    """Units that wait together commit together; none of them may hear of success."""
    hold = sqlite3.connect(db.path, isolation_level=None)
    hold.execute("BEGIN IMMEDIATE")
    first = asyncio.ensure_future(db.write(add, 1))
    await asyncio.sleep(0.05)  # the writer waits for the lock with the first; the others queue up behind it
    together = [asyncio.ensure_future(work) for work in (db.write(add, 2), db.write(orphan), db.write(add, 3))]
    await asyncio.sleep(0.05)
    hold.execute("ROLLBACK")
    hold.close()
    outcomes = await asyncio.gather(first, *together, return_exceptions=True)
    assert outcomes[0] == 1
    assert all(isinstance(one, sqlite3.IntegrityError) for one in outcomes[1:]), outcomes
    assert await db.read(everything) == [1]
    assert await db.write(add, 4) == 4


async def test_what_is_not_committed_yet_is_not_read(tmp_path: Path) -> None:
    """Reads share the writer's connection only while nothing is written."""
    db = SqliteDatabase("test", tmp_path / "test.sqlite", SystemClock())
    await db.write(metadata.create_all)
    await db.write(add, 1)
    assert await db.read(everything) == [1]
    disk = threading.Event()

    def slow() -> None:
        disk.wait(20)

    db._orders.put((slow, lambda _: None))  # what is ordered of the committer next waits for this
    writing = asyncio.ensure_future(db.write(add, 2))
    await asyncio.sleep(0.05)
    assert await db.read(everything) == [1]
    assert not writing.done()
    disk.set()
    assert await writing == 2
    assert await db.read(everything) == [1, 2]
    await db.close()


@unhurried
def add_some_time(connection: Connection, number: int) -> int:
    return add(connection, number)


async def test_what_nobody_waits_for_shares_the_next_commit(db: SqliteDatabase) -> None:
    before = db._commits
    some_time = asyncio.ensure_future(db.write(add_some_time, 1))
    await asyncio.sleep(0.01)
    assert await db.read(everything) == []
    assert (await db.write(add, 2), await some_time) == (2, 1)
    assert db._commits == before + 1
    assert await db.read(everything) == [1, 2]


async def test_what_nobody_waits_for_is_kept_all_the_same(tmp_path: Path) -> None:
    """After a moment in which nothing came; at once when the database closes; whatever becomes of those beside it."""
    db = SqliteDatabase("test", tmp_path / "test.sqlite", SystemClock())
    await db.write(metadata.create_all)
    assert await asyncio.wait_for(db.write(add_some_time, 1), 20) == 1
    outcomes = asyncio.gather(db.write(add_some_time, 2), db.write(add_and_fail, 3), return_exceptions=True)
    assert [type(one) for one in await outcomes] == [int, Fault]
    last = asyncio.ensure_future(db.write(add_some_time, 4))
    await asyncio.sleep(0)
    await db.close()
    assert await last == 4
    again = SqliteDatabase("test", tmp_path / "test.sqlite", SystemClock())
    assert await again.read(everything) == [1, 2, 4]
    await again.close()


@redone
def add_again(connection: Connection, number: int) -> int:
    return add(connection, number)


async def test_what_is_done_again_after_a_power_cut_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """It is committed while the disk is busy; beside what waits, it waits with it."""
    db = SqliteDatabase("test", tmp_path / "test.sqlite", SystemClock())
    await db.write(metadata.create_all)
    disk = threading.Event()
    db._orders.put((lambda: disk.wait(20) and None, lambda _: None))
    assert await db.write(add_again, 1) == 1
    both = asyncio.gather(db.write(add, 2), db.write(add_again, 3))
    await asyncio.sleep(0.05)
    assert await db.read(everything) == [1]
    assert not both.done()
    disk.set()
    assert await both == [2, 3]
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(redone(orphan_again))
    assert await db.write(add_again, 4) == 4
    await db.close()


def orphan_again(connection: Connection) -> None:
    orphan(connection)


class Flushed(SqliteDatabase):
    """Counts how often its log is brought to the disk by itself."""

    flushes = 0

    def _flush_log(self) -> None:
        super()._flush_log()
        self.flushes += 1


async def test_what_did_not_wait_comes_to_the_disk_soon(tmp_path: Path) -> None:
    """By itself, or with a commit that waits: then not once more."""
    db = Flushed("test", tmp_path / "test.sqlite", SystemClock())
    await db.write(metadata.create_all)
    await db.write(add_again, 1)
    await db.write(add, 2)
    await asyncio.sleep(FLUSH_SECONDS * 1.5)
    assert db.flushes == 0
    for number in range(3, 6):
        await db.write(add_again, number)
    for _ in range(100):
        await asyncio.sleep(FLUSH_SECONDS / 5)
        if db.flushes:
            break
    await asyncio.sleep(FLUSH_SECONDS * 1.5)
    assert db.flushes == 1
    await db.close()


async def test_what_a_reader_writes_is_thrown_away(db: SqliteDatabase) -> None:
    await db.read(add, 9)
    assert await db.read(everything) == []


async def test_a_full_disk_is_told_and_kept_apart_from_wrong_requests(db: SqliteDatabase) -> None:
    def limit(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE blob AS SELECT randomblob(1000000) AS b")

    await db.write(limit)
    with pytest.raises(DatabaseAway, match="no room") as caught:
        await db.write(fill)
    assert caught.value.kind is Kind.UNAVAILABLE


async def test_closed_says_so(db: SqliteDatabase) -> None:
    await db.close()
    with pytest.raises(Fault, match="closed"):
        await db.write(add, 1)
