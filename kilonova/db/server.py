"""PostgreSQL (asyncpg) and MariaDB (asyncmy): the databases of a cluster, shared by every copy of a service.

Writes are SERIALIZABLE, so a unit that is right on SQLite, where writes run one after another, is right here. The
price is that the server may refuse one of two units that met: it is run again, whole, as units allow; one that keeps
meeting others gets PostgreSQL for itself. Reads see one snapshot. A unit never outlives its connection: when the server
goes away before the commit the unit is run again on a new connection; when it goes during the commit the caller is told
that nobody knows.

A whole unit, from checking a connection out to giving it back, runs in one greenlet, in which an asyncio driver's
waits switch back to the loop. SQLAlchemy's own wrapper (`sqlalchemy.ext.asyncio`) does that statement by statement,
and loads the ORM, which nothing here uses: 5 MB in each process.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.util import greenlet_spawn

from kilonova.base.faults import Fault, busy, invalid, unavailable
from kilonova.base.world import World
from kilonova.db.database import DatabaseAway, Unit, ended, marks, probe
from kilonova.trace import metrics

P = ParamSpec("P")
T = TypeVar("T")

DRIVERS: Final = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy", "mariadb": "mysql+asyncmy"}
TRIES: Final = 20
ALONE_AFTER: Final = 4  # tries
CONNECT_SECONDS: Final = 5
# SQLSTATE https://www.postgresql.org/docs/15/errcodes-appendix.html, numbers https://mariadb.com/kb/en/mariadb-error-codes/
MET_ANOTHER: Final = {"40001", "40P01", 1213, 1205, 1020}
GONE: Final = {"25P03", "57P01", "57P02", "57P03", "08000", "08003", "08006", 1053, 1152, 1927, 2006, 2013, 2014, 2055}
FULL: Final = {"53100", 1021, 1114}
READ_ONLY: Final = {"25006", 1290, 1836}


class ServerDatabase:
    """One database of a PostgreSQL or MariaDB server. `url`: `postgresql://user:password@host:port/name`, `mysql://…`.

    Two pools of `pool_size` connections each, for reads and for writes, opened when needed; a unit that gets none
    within `wait_seconds` fails as BUSY. Host names are checked when `tls` is given.

    A process that stops in the middle of a unit (paused, swapped out) holds its locks for `idle_seconds` at most: then
    the server rolls back, and when the process comes back the unit is run again.
    """

    def __init__(
        self,
        name: str,
        url: str,
        world: World,
        *,
        pool_size: int = 8,
        wait_seconds: float = 10.0,
        idle_seconds: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        parsed = sa.make_url(url)
        family = parsed.get_backend_name()
        if family not in DRIVERS:
            raise invalid(f"{family} is not a database server known here.", hint="Use postgresql:// or mysql://.")
        self.dialect = "postgresql" if family == "postgresql" else "mysql"
        self._where = f"{parsed.host}:{parsed.port or ''}/{parsed.database}"
        self._world = world
        self._url = parsed.set(drivername=DRIVERS[family])
        self._options: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": wait_seconds,
            "pool_recycle": 1800,
            "json_serializer": lambda value: orjson.dumps(value).decode(),
            "json_deserializer": orjson.loads,
            "connect_args": self._connect_args(idle_seconds, tls),
        }
        self._readers = self._engine("REPEATABLE READ", postgresql_readonly=True)
        self._writers = self._engine("SERIALIZABLE")
        for use, pool in (("read", self._readers.pool), ("write", self._writers.pool)):
            metrics.watch(f"connections to {use} {name}", pool.checkedout)  # type: ignore[attr-defined]
        self._lone = self._readers
        if self.dialect == "postgresql":  # MariaDB would have to be told, and told again afterwards
            self._lone = self._readers.execution_options(isolation_level="AUTOCOMMIT")
        self._one_again = asyncio.Lock()  # units that met another run again one at a time, so that all get through
        self._running = 0
        self._idle = asyncio.Event()
        self._closed = False

    def now(self, connection: Connection) -> datetime:
        if self.dialect == "postgresql":
            return connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)  # type: ignore[no-any-return]
        moment: datetime = connection.execute(sa.text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
        return moment.replace(tzinfo=UTC)

    async def read(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        engine = self._lone if "lone" in marks(unit) else self._readers
        return await self._run(engine, unit, args, named)

    async def write(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        return await self._run(self._writers, unit, args, named)

    async def close(self) -> None:
        self._closed = True
        if self._running:
            self._idle.clear()
            await self._idle.wait()
        await greenlet_spawn(self._readers.dispose)
        await greenlet_spawn(self._writers.dispose)

    def _connect_args(self, idle_seconds: float, tls: ssl.SSLContext | None) -> dict[str, Any]:
        secured = {"ssl": tls} if tls else {}
        if self.dialect == "postgresql":
            return {
                "timeout": CONNECT_SECONDS,
                "server_settings": {
                    "application_name": f"kilonova {self.name}",
                    "idle_in_transaction_session_timeout": f"{idle_seconds * 1000:.0f}",
                },
                **secured,
            }
        idle = f"SET SESSION idle_transaction_timeout = {max(round(idle_seconds), 1)}"
        return {"connect_timeout": CONNECT_SECONDS, "charset": "utf8mb4", "init_command": idle, **secured}

    def _engine(self, isolation: Any, **execution: Any) -> Engine:
        # SQLAlchemy's search for forgotten join conditions takes joins ON true for such on MariaDB
        options = self._options | {"enable_from_linting": self.dialect != "mysql"}
        engine = sa.create_engine(self._url, isolation_level=isolation, **options)
        return engine.execution_options(**execution) if self.dialect == "postgresql" and execution else engine

    async def _run(self, engine: Engine, unit: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
        if self._closed:
            raise unavailable("The database is closed.", inside=self._where)
        self._running += 1
        began = time.perf_counter()
        failed: BaseException | None = None
        try:
            return await self._try(engine, lambda connection: unit(connection, *args, **named))
        except (DBAPIError, PoolTimeout, OSError) as error:
            told = self._told(error)
            failed = DatabaseAway.of(told) if isinstance(told, Fault) else told
            raise failed from error
        except BaseException as error:
            failed = error
            raise
        finally:
            ended(self.name, "write" if engine is self._writers else "read", unit, args, began, failed)
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _try(self, engine: Engine, unit: Callable[[Connection], T]) -> T:
        try:
            return await self._once(engine, unit)
        except DBAPIError as error:
            if not _may_run_again(error):
                raise
        async with self._one_again:
            for attempt in range(1, TRIES):
                try:
                    writes = engine is self._writers  # a read that lost its connections holds up nobody for that
                    return await self._once(engine, unit, alone=writes and attempt >= ALONE_AFTER)
                except DBAPIError as error:
                    if not _may_run_again(error) or attempt == TRIES - 1:
                        raise
                # Those we meet are in other processes: step aside for a random while.
                await self._world.clock.sleep(self._world.random.random() * min(0.005 * 2**attempt, 0.2))
        raise AssertionError("the last try returns or raises")

    async def _once(self, engine: Engine, unit: Callable[[Connection], T], *, alone: bool = False) -> T:
        return await greenlet_spawn(self._whole, engine, unit, alone)

    def _whole(self, engine: Engine, unit: Callable[[Connection], T], alone: bool) -> T:
        """A connection, the unit, its commit: in a greenlet."""
        with engine.connect() as connection:
            tables = _tables(connection) if alone and self.dialect == "postgresql" else []
            connection.begin()
            try:
                if tables:
                    _wait_for_all(connection, tables)
                result = unit(connection)
            except BaseException:
                _quietly(connection)
                raise
            try:
                connection.commit()
            except DBAPIError as error:
                if _is_gone(error):
                    unknown = unavailable(
                        "The database went away while it saved; whether the change was kept is not known.",
                        hint="Look before you try again.",
                        inside=f"{self._where}: {error}",
                    )
                    raise DatabaseAway.of(unknown) from error
                raise
            return result

    def _told(self, error: Exception) -> Exception:
        """The server's own troubles as Faults an operator can act on; anything else (a broken rule) unchanged."""
        inside = f"{self._where}: {error}"
        number = _number(error) if isinstance(error, DBAPIError) else None
        if isinstance(error, PoolTimeout):
            return busy("The database has no free connection.", inside=inside)
        if number in MET_ANOTHER:
            return busy("Too many requests change the same thing at once.", inside=inside)
        if number in FULL:
            return unavailable(
                "The cloud's database has no room to write.",
                hint="The operator must free disk space; nothing of this request was kept.",
                inside=inside,
            )
        if number in READ_ONLY:
            return unavailable(
                "The cloud's database takes no changes now.", hint="Check which server is the primary.", inside=inside
            )
        if not isinstance(error, DBAPIError) or _is_gone(error):
            return unavailable(
                "The cloud's database does not answer.",
                hint="Check that the database server runs and can be reached, then try again.",
                inside=inside,
            )
        return error


def _quietly(connection: Connection) -> None:
    """Roll back; a connection that is gone has done so already."""
    try:
        connection.rollback()
    except (DBAPIError, OSError):
        connection.invalidate()


def _tables(connection: Connection) -> list[str]:
    with connection.begin():
        return sorted(sa.inspect(connection).get_table_names())


def _wait_for_all(connection: Connection, tables: list[str]) -> None:
    """Wait until nobody writes, in one line with others that wait so, and let nobody write until the unit's end.

    It comes before the unit's snapshot, as LOCK TABLE alone can: a lock on rows would be waited for with a snapshot of
    what was before, and be refused again when those who were faster commit. Whoever is slow would be so for ever.
    MariaDB has nothing of the kind (its LOCK TABLES would have to know every alias in the unit): there TRIES is all.
    """
    quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, tables))
    connection.execute(sa.text(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE"))


def _number(error: DBAPIError) -> str | int | None:
    """The server's code for what went wrong: an SQLSTATE (PostgreSQL) or a number (MariaDB)."""
    cause = error.orig
    if state := getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None):
        return str(state)
    first = cause.args[0] if cause is not None and cause.args else None
    return first if isinstance(first, int) else None


def _is_gone(error: DBAPIError) -> bool:
    number = _number(error)
    return error.connection_invalidated or number in GONE or (isinstance(number, int) and 2000 <= number < 2100)


def _may_run_again(error: DBAPIError) -> bool:
    """Whether the server surely kept nothing of the unit, and a new try may do better."""
    return _number(error) in {*MET_ANOTHER, "25P03"} or error.connection_invalidated


async def server_database(name: str, url: str, world: World, **options: Any) -> ServerDatabase:
    """A ServerDatabase that was reached once; UNAVAILABLE says which server did not answer."""
    database = ServerDatabase(name, url, world, **options)
    try:
        await database.read(probe)
    except Fault:
        await database.close()
        raise
    return database
