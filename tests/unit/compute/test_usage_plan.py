"""A quota is counted from an index: with a thousand servers, reading their rows was a tenth of what a create cost."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.compute.server import store
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current


def plans(connection: Connection) -> list[str]:
    """How SQLite runs each statement of `usage`."""
    made: list[str] = []
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.set_trace_callback(made.append)
    store.usage(connection, "p")
    store.usage(connection, "p", "u")
    raw.set_trace_callback(None)
    counted = [sql for sql in made if sql.startswith("SELECT count")]
    return [row[3] for sql in counted for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {sql}"))]


async def test_counting_reads_no_rows() -> None:
    db = InlineDatabase("compute", SystemClock())
    await ensure_current(db, "kilonova.compute.migrations")
    steps = await db.read(plans)
    assert len(steps) == 2
    for step in steps:
        assert step.startswith("SEARCH server USING COVERING INDEX ix_server_usage (project_id=? AND deleted_at=?")
