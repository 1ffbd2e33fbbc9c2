"""Pages put together are the whole list, whatever the sort, however many rows are equal."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.base.faults import Fault, Kind
from kilonova.db.listing import Direction, Page, paged
from kilonova.db.sqlite import sqlite_engine

metadata = sa.MetaData()
servers = sa.Table(
    "server",
    metadata,
    sa.Column("id", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(8)),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("project", sa.String(8), nullable=False),
)
COLUMNS: dict[str, Any] = {
    "id": servers.c.id,
    "name": sa.func.coalesce(servers.c.name, ""),
    "size": servers.c.size,
}
ways: st.SearchStrategy[Direction] = st.sampled_from(["asc", "desc"])
sorts = st.lists(st.tuples(st.sampled_from(sorted(COLUMNS)), ways), max_size=3, unique_by=lambda one: one[0])
rows = st.lists(
    st.tuples(st.integers(0, 99), st.sampled_from([None, "", "a", "b"]), st.integers(0, 2)),
    max_size=12,
    unique_by=lambda row: row[0],
)


def database(values: list[tuple[int, str | None, int]], project: str = "p") -> sa.Connection:
    connection = sqlite_engine(":memory:").connect()
    metadata.create_all(connection)
    for number, name, size in values:
        connection.execute(servers.insert().values(id=f"s{number:02}", name=name, size=size, project=project))
    return connection


def ids(connection: sa.Connection, page: Page, **named: Any) -> list[str]:
    return [row.id for row in connection.execute(paged(connection, sa.select(servers), COLUMNS, page, **named))]


@settings(max_examples=60, deadline=None)
@given(rows, sorts, st.integers(1, 4))
def test_pages_concatenate_to_the_whole_list(
    values: list[tuple[int, str | None, int]], by: list[tuple[str, Direction]], limit: int
) -> None:
    with database(values) as connection:
        whole = ids(connection, Page(sorts=tuple(by)))
        assert sorted(whole) == sorted(f"s{number:02}" for number, _, _ in values)
        pages: list[str] = []
        marker: str | None = None
        while part := ids(connection, Page(limit, marker, tuple(by))):
            assert len(part) <= limit
            pages += part
            marker = part[-1]
        assert pages == whole


@settings(max_examples=30, deadline=None)
@given(rows, sorts, st.integers(1, 4))
def test_pages_backwards_are_the_list_backwards(
    values: list[tuple[int, str | None, int]], by: list[tuple[str, Direction]], limit: int
) -> None:
    with database(values) as connection:
        whole = ids(connection, Page(sorts=tuple(by)))
        if not whole:
            return
        back = [whole[-1]]
        while part := ids(connection, Page(limit, back[-1], tuple(by), reverse=True)):
            back += part
        assert back == whole[::-1]


@settings(max_examples=40, deadline=None)
@given(rows, st.sampled_from(["name", "size"]), ways)
def test_the_order_is_the_one_asked_for(values: list[tuple[int, str | None, int]], key: str, way: Direction) -> None:
    with database(values) as connection:
        shown = ids(connection, Page(sorts=((key, way),)))
        stored = {f"s{number:02}": {"name": name or "", "size": size} for number, name, size in values}
        found: list[Any] = [stored[one][key] for one in shown]
        assert found == sorted(found, reverse=way == "desc")


def test_a_marker_that_is_gone_is_told() -> None:
    with database([(1, "a", 1)]) as connection, pytest.raises(Fault, match="s99") as caught:
        ids(connection, Page(2, "s99"))
    assert caught.value.kind is Kind.INVALID


def test_a_marker_that_the_caller_may_not_see_is_as_good_as_gone() -> None:
    mine = servers.c.project == "q"
    with database([(1, "a", 1)]) as connection, pytest.raises(Fault, match="s01"):
        ids(connection, Page(2, "s01"), marker_filter=mine)
