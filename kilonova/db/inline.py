"""A database in memory that runs units at once on the event loop: for simulation and fast tests, never for service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.pool import StaticPool

from kilonova.base.clock import Clock
from kilonova.db.database import Unit, label
from kilonova.db.sqlite import sqlite_engine
from kilonova.trace.spans import current, span

P = ParamSpec("P")
T = TypeVar("T")


async def _no_seam() -> None:
    """Outside simulation nothing happens between a unit and its caller."""


class InlineDatabase:
    """SQLite in memory. `before` and `after` are awaited around each unit: simulation shuffles and crashes there."""

    dialect = "sqlite"

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        image: bytes = b"",
        before: Callable[[], Awaitable[None]] = _no_seam,
        after: Callable[[], Awaitable[None]] = _no_seam,
    ) -> None:
        self.name = name
        self._clock = clock
        self._before = before
        self._after = after
        self.engine: sa.Engine = sqlite_engine(":memory:", poolclass=StaticPool)
        self._connection = self.engine.connect()
        raw: Any = self._connection.connection.driver_connection
        self._raw = raw
        if image:
            self._raw.deserialize(image)

    def seen_by(self, before: Callable[[], Awaitable[None]], after: Callable[[], Awaitable[None]]) -> InlineDatabase:
        """The same data as another process sees it, with that process's seams."""
        other = InlineDatabase.__new__(InlineDatabase)
        other.__dict__ = self.__dict__ | {"_before": before, "_after": after}
        return other

    def image(self) -> bytes:
        """The whole database as bytes, for templates."""
        return bytes(self._raw.serialize())

    def now(self, connection: Connection) -> datetime:
        return self._clock.now()

    async def read(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        await self._before()
        if current() is None:
            return unit(self._connection, *args, **named)
        with span("database", label(unit, args), read="true"):
            return unit(self._connection, *args, **named)

    async def write(self, unit: Unit[P, T], *args: P.args, **named: P.kwargs) -> T:
        await self._before()
        with span("database", label(unit, args)):
            self._raw.execute("BEGIN IMMEDIATE")
            try:
                result = unit(self._connection, *args, **named)
            except BaseException:
                self._raw.execute("ROLLBACK")
                raise
            self._raw.execute("COMMIT")
        await self._after()
        return result

    async def close(self) -> None:
        """Nothing to let go of: the data dies with the process."""
