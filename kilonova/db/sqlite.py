"""SQLite: the embedded default. Reads in a few threads, one writer thread with group commit, full durability.

The writer takes every unit that waits, runs each in a savepoint, and commits them all with one fsync. A unit that
raises is rolled back alone; a commit that fails fails every unit in it.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from kilonova.base.clock import Clock
from kilonova.base.faults import Fault, unavailable
from kilonova.db.database import DatabaseAway, Unit, label
from kilonova.trace.spans import current, span

P = ParamSpec("P")
T = TypeVar("T")
BATCH_MAXIMUM = 128

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


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
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA cache_size=-2000")

    return engine


class SqliteDatabase:
    """One SQLite file. Must be opened and used from one running event loop."""

    dialect = "sqlite"

    def __init__(self, name: str, path: Path, clock: Clock, *, readers: int = 2) -> None:
        self.name = name
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sqlite_engine(str(path), pool_size=readers + 2, connect_args={"check_same_thread": False})
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix=f"{name}-read")
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_forever, name=f"{name}-write", daemon=True)
        self._local = threading.local()
        self._closed = False
        self._writer.start()

    def now(self, connection: Connection) -> datetime:
        return self._clock.now()

    async def read(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        if current() is None:
            return await self._loop.run_in_executor(self._readers, self._read, unit, args, named)
        with span("database", label(unit, args), read="true"):
            return await self._loop.run_in_executor(self._readers, self._read, unit, args, named)

    def _read(self, unit: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._engine.connect()
        raw = connection.connection.driver_connection
        raw.execute("BEGIN")  # type: ignore[union-attr]
        try:
            return unit(connection, *args, **named)
        except OperationalError as error:
            raise _operational(error, self.path) from error
        finally:
            raw.execute("ROLLBACK")  # type: ignore[union-attr]

    async def write(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        with span("database", label(unit, args)):
            if self._closed:
                raise unavailable("The database is closed.", inside=str(self.path))
            done: asyncio.Future[T] = self._loop.create_future()
            context = contextvars.copy_context()
            self._queue.put((lambda: context.run(unit, self._connection, *args, **named), done))
            return await done

    def _write_forever(self) -> None:
        self._connection = self._engine.connect()
        while True:
            first = self._queue.get()
            if first is None:
                self._connection.close()
                return
            batch = [first]
            while len(batch) < BATCH_MAXIMUM:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                batch.append(more)
            outcomes = self._commit(batch)
            try:
                self._loop.call_soon_threadsafe(_settle, outcomes)
            except RuntimeError:  # the loop is gone: nobody waits any more
                return

    def _commit(self, batch: list[_Work]) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        raw: Any = self._connection.connection.driver_connection
        outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            raw.execute("BEGIN IMMEDIATE")
            for work, done in batch:
                raw.execute("SAVEPOINT unit")
                try:
                    outcomes.append((done, work(), None))
                    raw.execute("RELEASE unit")
                except BaseException as error:
                    raw.execute("ROLLBACK TO unit")
                    raw.execute("RELEASE unit")
                    outcomes.append((done, None, _operational(error, self.path)))
            raw.execute("COMMIT")
        except BaseException as error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            failed = _operational(error, self.path)
            return [(done, None, failed) for _, done in batch]
        return outcomes

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._readers.shutdown(wait=True)
        self._engine.dispose()


def _settle(outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for done, result, error in outcomes:
        if done.cancelled():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


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
