"""Lists in SQL: filters, sort keys and keyset paging, so that page 1000 costs what page 1 costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import invalid

Direction = Literal["asc", "desc"]


class Page(msgspec.Struct, frozen=True):
    """Which part of a list, in which order. `limit` None is all; sorts end with a unique key."""

    limit: int | None = None
    marker: str | None = None
    sorts: tuple[tuple[str, Direction], ...] = (("id", "asc"),)
    reverse: bool = False  # the page before the marker, as network's page_reverse asks


def paged(
    connection: Connection,
    statement: sa.Select[Any],
    columns: Mapping[str, sa.ColumnElement[Any]],
    page: Page,
    *,
    marker_filter: sa.ColumnElement[bool] | None = None,
) -> sa.Select[Any]:
    """`statement` with ORDER BY, the keyset condition after the marker, and LIMIT.

    `columns` maps sort keys to NOT NULL expressions (coalesce nullable ones) and must hold `id`. The marker's row is
    looked up among what `marker_filter` (visibility) lets the caller see; a marker that is gone is INVALID (400).
    """
    sorts = list(page.sorts)
    if "id" not in [key for key, _ in sorts]:
        sorts.append(("id", sorts[-1][1] if sorts else "asc"))
    if page.reverse:
        sorts = [(key, "asc" if way == "desc" else "desc") for key, way in sorts]
    keys = [(columns[key], way) for key, way in sorts]
    if page.marker is not None:
        values = _marker_values(connection, columns["id"], [key for key, _ in keys], page.marker, marker_filter)
        statement = statement.where(_after(keys, values))
    statement = statement.order_by(*(key.asc() if way == "asc" else key.desc() for key, way in keys))
    return statement if page.limit is None else statement.limit(page.limit)


def _marker_values(
    connection: Connection,
    id_column: sa.ColumnElement[Any],
    keys: Sequence[sa.ColumnElement[Any]],
    marker: str,
    visible: sa.ColumnElement[bool] | None,
) -> Sequence[Any]:
    found = sa.select(*keys).where(id_column == marker)
    if visible is not None:
        found = found.where(visible)
    row = connection.execute(found).first()
    if row is None:
        raise invalid(f"marker [{marker}] not found", hint="Start again without a marker.")
    return tuple(row)


def _after(keys: Sequence[tuple[sa.ColumnElement[Any], Direction]], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """(a, b, c) after (x, y, z), column by column: a > x, or a = x and b > y, or …; each in its own direction."""
    cases = []
    for index, (key, way) in enumerate(keys):
        equal = [earlier == value for (earlier, _), value in zip(keys[:index], values[:index], strict=True)]
        beyond = key > values[index] if way == "asc" else key < values[index]
        cases.append(sa.and_(*equal, beyond))
    return sa.or_(*cases)
