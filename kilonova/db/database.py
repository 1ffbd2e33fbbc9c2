"""Database: one per service. A unit of work is a sync function over a Connection; one hop, one transaction.

`await db.write(insert_server, server)` runs `insert_server(connection, server)`, commits, and only then returns:
whatever the caller does next (answer, cast) happens after the commit. Units hold no await and call no other service.
They may run more than once (a deadlock on PostgreSQL or MariaDB), so they touch nothing but the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, text

from kilonova.base.faults import Fault
from kilonova.trace import metrics, spans

P = ParamSpec("P")
T = TypeVar("T")
Unit = Callable[Concatenate[Connection, P], T]


class DatabaseAway(Fault):
    """Our own database cannot do the unit now (away, full, too busy): nothing is wrong with what was asked.

    A type and not a code: it does not cross to other services, for whom it is an ordinary UNAVAILABLE or BUSY.
    """

    @classmethod
    def of(cls, fault: Fault) -> DatabaseAway:
        """`fault`, said by the database."""
        return cls(fault.kind, fault.message, hint=fault.hint, inside=fault.inside, code=fault.code, data=fault.data)


class Database(Protocol):
    """What every adapter does: db/sqlite.py (embedded), db/server.py (PostgreSQL, MariaDB), sim (in memory, inline)."""

    name: str
    dialect: str  # sqlite | postgresql | mysql

    async def read(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `unit` returns over a snapshot; it must not write."""
        ...

    async def write(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `unit` returns, once committed. If it raises, nothing of it is written."""
        ...

    def now(self, connection: Connection) -> datetime:
        """The database's clock, which all processes that share it agree on: for leases. Aware, UTC."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of connections and threads."""
        ...


def label(unit: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """How a unit shows in traces: its `says` when it has one (a template over its arguments), else its name."""
    says = getattr(unit, "says", None)
    if says is None:
        return unit.__name__.lstrip("_").replace("_", " ")
    return says(*args) if callable(says) else str(says)


def ended(
    database: str,
    access: Literal["read", "write"],
    unit: Callable[..., Any],
    args: tuple[Any, ...],
    began: float,
    error: BaseException | None = None,
) -> None:
    """Metrics and the running trace are told of a unit that began at `began` (perf_counter) and has ended."""
    seconds = time.perf_counter() - began
    metrics.db_unit((database, access), seconds)
    if spans.current() is not None:
        attributes = {"read": "true"} if access == "read" else {}
        spans.arrow("database", label(unit, args), seconds, error, **attributes)


def bulky(unit: Callable[P, T]) -> Callable[P, T]:
    """Mark a unit that may read thousands of rows: it must not hold up the event loop where others run on it."""
    return _marked(unit, "bulky")


def lone(unit: Callable[P, T]) -> Callable[P, T]:
    """Mark a unit that reads by one statement only, which is a snapshot by itself: it is run without a transaction
    around it, which would be two more ways to a database server and back."""
    return _marked(unit, "lone")


def unhurried(unit: Callable[P, T]) -> Callable[P, T]:
    """Mark a unit for whose end nobody waits: a file that one process has for itself takes it along with its next
    commit, or after a moment."""
    return _marked(unit, "unhurried")


def redone(unit: Callable[P, T]) -> Callable[P, T]:
    """Mark a unit that is done again when a power cut takes it away, and of which nobody outside was told that it
    stands: a file that one process has for itself commits it without waiting for the disk (decision 37)."""
    return _marked(unit, "redone")


Mark = Literal["bulky", "lone", "unhurried", "redone"]
_NO_MARKS: Final[frozenset[Mark]] = frozenset()


def _marked(unit: Callable[P, T], mark: Mark) -> Callable[P, T]:
    unit.marks = marks(unit) | {mark}  # type: ignore[attr-defined]
    return unit


def marks(unit: Callable[..., Any]) -> frozenset[Mark]:
    """What the unit was marked as."""
    return getattr(unit, "marks", _NO_MARKS)


def says(text: str | Callable[..., str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give a unit the words that traces show on its arrow (`UPDATE servers SET task_state = spawning`).

    A callable gets the unit's positional arguments without the connection.
    """

    def mark(unit: Callable[P, T]) -> Callable[P, T]:
        unit.says = text  # type: ignore[attr-defined]
        return unit

    return mark


def probe(connection: Connection) -> None:
    """Nothing, when the database answers."""
    connection.execute(text("SELECT 1")).scalar_one()
