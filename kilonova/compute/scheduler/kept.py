"""Kept decisions: why each server went where it did, or nowhere; for a number of days, and no more than so many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection

from kilonova.compute.contract import Rejection
from kilonova.compute.scheduler import kept_store
from kilonova.db.database import Database, redone, says, unhurried


class Kept(msgspec.Struct):
    """One decision. `host` is "" when there was none, and `message` then what the tenant was told."""

    id: str
    server_id: str
    request_id: str
    project_id: str
    created_at: datetime
    host: str
    snapshot: int
    message: str
    wanted: dict[str, Any]
    counts: list[tuple[str, int]]
    best: list[tuple[str, float]]
    rejections: list[Rejection]


class Recorder(Protocol):
    """Where decisions are kept."""

    async def keep(self, decisions: Sequence[Kept], *, unhurried: bool = False) -> None:
        """They can be explained from now on; `unhurried`: nobody waits for that."""
        ...


class DatabaseRecorder:
    """Keeps them in compute's database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def keep(self, decisions: Sequence[Kept], *, unhurried: bool = False) -> None:
        """They can be explained from now on."""
        await self._db.write(_insert_unhurried if unhurried else _insert, decisions)


@says(lambda decisions: f"scheduler_decision: {len(decisions)} kept")
def _insert(connection: Connection, decisions: Sequence[Kept]) -> None:
    rows = []
    for one in decisions:
        told = {"wanted": one.wanted, "counts": one.counts, "best": one.best, "rejections": one.rejections}
        rows.append(
            {
                "id": one.id,
                "server_id": one.server_id,
                "request_id": one.request_id,
                "project_id": one.project_id,
                "created_at": one.created_at,
                "host": one.host,
                "snapshot": one.snapshot,
                "message": one.message,
                "told": msgspec.json.encode(told).decode(),
            }
        )
    kept_store.insert(connection, rows)


@unhurried
@redone  # the operation that it was made for goes on
@says(lambda decisions: f"scheduler_decision: {len(decisions)} kept")
def _insert_unhurried(connection: Connection, decisions: Sequence[Kept]) -> None:
    _insert(connection, decisions)


def found(connection: Connection, about: str, project_id: str = "", limit: int = 100) -> list[Kept]:
    """Decisions about a server, a request or the decision's own id ("" for all), newest first."""
    return [_of(row) for row in kept_store.rows(connection, about, project_id, limit)]


def forget(connection: Connection, now: datetime, days: int, most: int) -> int:
    """Drop what is older than `days`, and the oldest above `most`; how many went."""
    return kept_store.forget(connection, now - timedelta(days=days), most)


class _Told(msgspec.Struct):
    wanted: dict[str, Any]
    counts: list[tuple[str, int]]
    best: list[tuple[str, float]]
    rejections: list[Rejection]


def _of(row: Sequence[Any]) -> Kept:
    told = msgspec.json.decode(row[9], type=_Told)
    first = (row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8])
    return Kept(*first, told.wanted, told.counts, told.best, told.rejections)
