"""A database in memory that runs units at once on the event loop: for simulation and fast tests, never for service."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.pool import StaticPool

from kilonova.base.clock import Clock
from kilonova.db.database import Unit, label, marks
from kilonova.db.sqlite import sqlite_engine
from kilonova.db.statements import sqlite_of
from kilonova.trace.spans import current, span

P = ParamSpec("P")
T = TypeVar("T")


async def _no_seam() -> None:
    """Outside simulation nothing happens between a unit and its caller."""


class Disk:
    """What of a database would be there after a power cut, if it were a file: all but the last commits that did not
    wait for the disk, once it is `watched`. `committed` is called after each commit; the units of these names do not
    wait, marked or not."""

    def __init__(self, committed: Callable[[], None], hasty: Collection[str] = ()) -> None:
        self.committed = committed
        self.watched = False
        self.images: list[bytes] = []  # before each commit that is not on the disk yet
        self._hasty = hasty

    def begins(self, raw: Any, unit: Callable[..., Any]) -> bool:
        """A transaction begins; whether its commit waits for the disk."""
        waits = "redone" not in marks(unit) and getattr(unit, "__name__", "") not in self._hasty
        if self.watched and not waits:
            self.images.append(bytes(raw.serialize()))
        return waits

    def ended(self, waits: bool) -> None:
        """It is committed."""
        if waits:
            self.images.clear()
        self.committed()


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
        disk: Disk | None = None,
    ) -> None:
        self.name = name
        self.disk = disk
        self._clock = clock
        self._before = before
        self._after = after
        self.engine: sa.Engine = sqlite_engine(":memory:", poolclass=StaticPool)
        self._connection = self.engine.connect()
        self._raw = sqlite_of(self._connection)
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

    def power_cut(self, chance: random.Random) -> None:
        """It is as a disk has it after a power cut: some of the last commits that did not wait for it may be gone."""
        if self.disk is not None and self.disk.images:
            kept = chance.randrange(len(self.disk.images) + 1)
            if kept < len(self.disk.images):
                self._raw.deserialize(self.disk.images[kept])
            self.disk.images.clear()

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
            waits = self.disk is None or self.disk.begins(self._raw, unit)
            self._raw.execute("BEGIN IMMEDIATE")
            try:
                result = unit(self._connection, *args, **named)
            except BaseException:
                self._raw.execute("ROLLBACK")
                raise
            self._raw.execute("COMMIT")
            if self.disk is not None:
                self.disk.ended(waits)
        await self._after()
        return result

    async def close(self) -> None:
        """Nothing to let go of: the data dies with the process."""
