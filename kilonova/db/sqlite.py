"""SQLite: the embedded default. Units run on the event loop, commits in a thread, shared by many; full durability.

A unit takes less than handing it to a thread and back would; what waits for the disk is the commit. So the loop runs
every unit that waits, each in a savepoint, and the committer thread commits them with one fsync while the loop goes on.
A unit that raises is rolled back alone; a commit that fails fails every unit in it. Units that are marked `redone` are
committed on the loop, without a wait for the disk: the next commit that waits takes them there, or a flush soon after.
Reads that are marked `bulky` run in a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from kilonova.base.clock import Clock
from kilonova.base.faults import Fault, unavailable
from kilonova.db.database import DatabaseAway, Unit, ended, marks
from kilonova.db.statements import keep_sqlite, sqlite_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
BATCH_MAXIMUM = 64
CHECKPOINT_ROWS = 1500  # changed since the log was last copied into the file: some 4000 pages of it
FLUSH_SECONDS = 0.5  # how long a commit that did not wait for the disk may be missing there
# A batch stays in memory until it is committed, and most pages of the log are written anew before they are copied
# out of it: a batch of claims among 100,000 costs a tenth less than with SQLite's 2 MB and 1000 pages.
# What copies the pages waits for the disk, on whatever thread commits: it is ordered of the committer.
# What a savepoint must keep (more than 16 pages in a create) would else go to a file that is made and deleted for it.
WRITER_PRAGMAS = ("cache_size=-8000", "busy_timeout=0", "wal_autocheckpoint=0", "temp_store=MEMORY")
UNHURRIED_SECONDS = 0.25  # how long an unhurried unit waits for another to share its commit
LOCK_PATIENCE_MILLISECONDS = 10_000  # for the lock of another process (a backup, a migration) on the same file

# what to run over the writer's connection, with what, in whose context; who is told; whether that waits for the disk
_Work = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], contextvars.Context, "asyncio.Future[Any]", bool]
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]
_Order = tuple[Callable[[], None], Callable[[BaseException | None], None]]


def sqlite_engine(path: str, **options: Any) -> sa.Engine:
    """An engine whose connections are in WAL mode with foreign keys, full durability and no implicit BEGIN."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        isolation_level="AUTOCOMMIT",
        **options,
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA cache_size=-2000")

    @sa.event.listens_for(engine, "engine_connect")
    def _keep(connection: Connection) -> None:
        keep_sqlite(connection, connection.connection.driver_connection)

    return engine


class SqliteDatabase:
    """One SQLite file. Must be opened and used from one running event loop.

    Without `survives_power_cut` a commit does not wait for the disk: it outlives this process however that ends, but
    the last ones may be gone after a power cut. For what then has nothing to say any more, as a host's ledger.
    """

    dialect = "sqlite"

    def __init__(self, name: str, path: Path, clock: Clock, *, survives_power_cut: bool = True) -> None:
        self.name = name
        self._waits_for_disk = survives_power_cut
        self._waits = True  # the commits of the writer's connection, as it stands
        self._commits = 0
        self._rows_copied = 0  # of all that the writer changed, those that were in the log when it was last copied
        self._flush: asyncio.TimerHandle | None = None  # at which what was not waited for is brought to the disk
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sqlite_engine(str(path), pool_size=3, connect_args={"check_same_thread": False})
        self._loop = asyncio.get_running_loop()
        self._reader: Connection | None = None
        self._aside: ThreadPoolExecutor | None = None  # for bulky reads, with a connection of its own
        self._aside_reader: Connection | None = None
        self._writer: Connection | None = None
        self._raw: Any = None  # the driver's connection under the writer
        self._waiting: deque[_Work] = deque()
        self._batch: list[_Work] = []  # taken from `_waiting`; until it is committed or has failed, nothing else begins
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._committer = threading.Thread(target=self._commit_forever, name=f"{name}-commit", daemon=True)
        self._busy = False  # a transaction is open or about to be
        self._rest: asyncio.Future[None] | None = None  # told when no more is
        self._moment: asyncio.TimerHandle | None = None  # at which the unhurried have waited long enough
        self._closed = False
        self._committer.start()

    def now(self, connection: Connection) -> datetime:
        return self._clock.now()

    # ── reads

    async def read(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        began = time.perf_counter()
        marked = marks(unit)
        try:
            if "bulky" not in marked:
                result = self._read(self._connection_for_reads(), unit, args, named, "lone" in marked)
            else:
                if self._aside is None:
                    self._aside = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-read")
                result = await self._loop.run_in_executor(self._aside, self._read_aside, unit, args, named)
        except BaseException as error:
            ended(self.name, "read", unit, args, began, error)
            raise
        ended(self.name, "read", unit, args, began)
        return result

    def _connection_for_reads(self) -> Connection:
        """The writer's while nothing is written: it knows the pages that it wrote, which another must read anew."""
        if not self._busy and self._writer is not None:
            return self._writer
        if self._reader is None:
            self._reader = self._engine.connect()
        return self._reader

    def _read_aside(self, unit: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
        if self._aside_reader is None:
            self._aside_reader = self._engine.connect()
        return self._read(self._aside_reader, unit, args, named, False)

    def _read(
        self, connection: Connection, unit: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any], lone: bool
    ) -> T:
        raw = None if lone else sqlite_of(connection)
        if raw is not None:
            raw.execute("BEGIN")
        try:
            return unit(connection, *args, **named)
        except OperationalError as error:
            raise _operational(error, self.path) from error
        finally:
            if raw is not None:
                raw.execute("ROLLBACK")

    # ── writes: _begin → _run_batch → _committed, on the loop; what waits for the disk or a lock is in the thread

    async def write(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        if self._closed:
            raise unavailable("The database is closed.", inside=str(self.path))
        began = time.perf_counter()
        done: asyncio.Future[T] = self._loop.create_future()
        marked = marks(unit)
        waits = self._waits_for_disk and "redone" not in marked
        self._waiting.append((unit, args, named, contextvars.copy_context(), done, waits))
        if not self._busy:
            if "unhurried" in marked:
                self._moment = self._moment or self._loop.call_later(UNHURRIED_SECONDS, self._begin_if_any)
            elif waits:
                self._busy = True
                self._loop.call_soon(self._begin)  # with what comes meanwhile
            else:
                self._begin_if_any()
        try:
            result = await done
        except BaseException as error:
            ended(self.name, "write", unit, args, began, error)
            raise
        ended(self.name, "write", unit, args, began)
        return result

    def _begin_if_any(self) -> None:
        """Nothing came along that the unhurried could share a commit with; or it did."""
        if self._waiting and not self._busy:
            self._busy = True
            self._begin()

    def _begin(self) -> None:
        """Take what waits and open a transaction for it, at once or, when another process holds the lock, later."""
        if self._moment is not None:
            self._moment.cancel()
            self._moment = None
        if self._writer is None:
            self._writer = self._engine.connect()
            self._raw = sqlite_of(self._writer)
            for pragma in WRITER_PRAGMAS:
                self._raw.execute(f"PRAGMA {pragma}").close()
        self._batch = []
        while self._waiting and len(self._batch) < BATCH_MAXIMUM:
            self._batch.append(self._waiting.popleft())
        waits = False
        for work in self._batch:
            waits |= work[-1]
        if waits is not self._waits:
            self._waits = waits
            self._raw.execute(f"PRAGMA synchronous={'FULL' if waits else 'NORMAL'}")
        try:
            self._raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            self._orders.put((self._begin_patiently, self._run_batch))
        else:
            self._run_batch(None)

    def _begin_patiently(self) -> None:
        raw = self._raw
        raw.execute(f"PRAGMA busy_timeout={LOCK_PATIENCE_MILLISECONDS}")
        try:
            raw.execute("BEGIN IMMEDIATE")
        finally:
            raw.execute("PRAGMA busy_timeout=0")

    def _run_batch(self, refused: BaseException | None) -> None:
        """Run the batch's units in the open transaction and have it committed."""
        if refused is not None:
            told = _operational(refused, self.path)
            self._settle([(done, None, told) for *_, done, _ in self._batch])
            return
        raw = self._raw
        alone = len(self._batch) == 1  # what fails alone takes the transaction with it: it needs no savepoint
        outcomes: list[_Outcome] = []
        for unit, args, named, context, done, _ in self._batch:
            try:
                if not alone:
                    raw.execute("SAVEPOINT unit")
                outcomes.append((done, context.run(unit, self._writer, *args, **named), None))
                if not alone:
                    raw.execute("RELEASE unit")
            except BaseException as error:
                told = _operational(error, self.path)
                if alone and raw.in_transaction:
                    raw.execute("ROLLBACK")
                if not raw.in_transaction:  # SQLite itself rolls back when the disk is full: nothing is kept
                    self._settle([(one, None, told) for *_, one, _ in self._batch])
                    return
                outcomes.append((done, None, told))
                raw.execute("ROLLBACK TO unit")
                raw.execute("RELEASE unit")
        self._commits += 1
        if self._waits or self._log_is_long():
            self._orders.put((self._commit_aside, partial(self._committed, outcomes)))
        else:
            self._committed(outcomes, _failure_of(self._commit))

    def _commit(self) -> None:
        raw = self._raw
        try:
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise

    def _commit_aside(self) -> None:
        """In the committer's thread, which also copies the log into the file when that is due."""
        self._commit()
        if self._log_is_long():
            self._rows_copied = self._raw.total_changes
            try:
                self._raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:  # what is committed stands; the log is copied another time
                log.warning("the log of %s was not copied into the file: %r", self.path, error)

    def _log_is_long(self) -> bool:
        return bool(self._raw.total_changes - self._rows_copied >= CHECKPOINT_ROWS)

    def _committed(self, outcomes: list[_Outcome], failed: BaseException | None) -> None:
        if failed is None and self._waits_for_disk:
            self._flush_later()
        if failed is not None:
            told = _operational(failed, self.path)
            outcomes = [(done, None, told) for done, _, _ in outcomes]
        self._settle(outcomes)

    # ── what was committed without a wait for the disk comes there all the same

    def _flush_later(self) -> None:
        """Unless the commit that has just been made waited for the disk: then all before it is there."""
        if self._waits:
            if self._flush is not None:
                self._flush.cancel()
                self._flush = None
        elif self._flush is None:
            self._flush = self._loop.call_later(FLUSH_SECONDS, self._order_flush)

    def _order_flush(self) -> None:
        self._flush = None
        self._orders.put((self._flush_log, self._flushed))

    def _flush_log(self) -> None:
        """Bring the log to the disk. SQLite locks another file of the three, so that this descriptor takes no lock
        away when it is closed."""
        log_file = os.open(f"{self.path}-wal", os.O_RDONLY)
        try:
            os.fdatasync(log_file)
        finally:
            os.close(log_file)

    def _flushed(self, failed: BaseException | None) -> None:
        if failed is not None:
            log.error("the log of %s did not come to the disk; a power cut now may lose it: %r", self.path, failed)

    def _settle(self, outcomes: list[_Outcome]) -> None:
        """Tell the waiting callers, then go on with what came meanwhile."""
        for done, result, error in outcomes:
            if done.cancelled():
                continue
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
        if self._waiting:
            self._loop.call_soon(self._begin)  # after those just told: what they write next shares the commit
        else:
            self._busy = False
            if self._rest is not None:
                self._rest.set_result(None)

    def _commit_forever(self) -> None:
        while (order := self._orders.get()) is not None:
            act, then = order
            failed = _failure_of(act)
            try:
                self._loop.call_soon_threadsafe(then, failed)
            except RuntimeError:  # the loop is gone: nobody waits any more
                return

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._flush is not None:
            self._flush.cancel()
        self._begin_if_any()
        if self._busy:
            self._rest = self._loop.create_future()
            await self._rest
        self._orders.put(None)
        await self._loop.run_in_executor(None, self._committer.join)
        if self._aside is not None:
            self._aside.shutdown(wait=True)
        for connection in (self._reader, self._aside_reader, self._writer):
            if connection is not None:
                connection.close()
        self._engine.dispose()


def _failure_of(act: Callable[[], None]) -> BaseException | None:
    """What doing it raised: it is told to every caller of the batch."""
    try:
        act()
    except BaseException as error:
        return error
    return None


def _operational(error: BaseException, path: Path) -> BaseException:
    """SQLite's own troubles as Faults an operator can act on; anything else unchanged."""
    text = str(error)
    if isinstance(error, Fault):
        return error
    if "disk is full" in text or "disk I/O error" in text:
        full = unavailable(
            "The cloud's database has no room to write.",
            hint="The operator must free disk space; nothing of this request was kept.",
            inside=f"{path}: {text}",
        )
        return DatabaseAway.of(full)
    if "database is locked" in text:
        locked = unavailable("The database is busy.", hint="Try again in a moment.", inside=f"{path}: {text}")
        return DatabaseAway.of(locked)
    return error
