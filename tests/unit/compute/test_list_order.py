"""A page of a project's servers is read in its order: to sort whole rows was most of what a long list cost."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.clock import SystemClock
from kilonova.compute.server.listing_store import Filters, as_text, narrowed_page
from kilonova.db.inline import InlineDatabase
from kilonova.db.listing import Page
from kilonova.db.migrations import ensure_current

NEWEST_FIRST = Page(1000, None, (("created_at", "desc"), ("id", "desc")), False)


def plan(connection: Connection, filters: Filters) -> list[str]:
    page = narrowed_page(connection, sa.select(*as_text()), filters, NEWEST_FIRST)
    text = page.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


async def test_a_projects_servers_are_not_sorted() -> None:
    db = InlineDatabase("compute", SystemClock())
    await ensure_current(db, "kilonova.compute.migrations")
    steps = await db.read(plan, Filters(project_id="p"))
    assert steps == ["SEARCH server USING INDEX ix_server_project_created (project_id=?)"]
    everybodys = await db.read(plan, Filters())
    assert "ix_server_project_created" not in " ".join(everybodys), "the plan above is chosen, not the only one"
