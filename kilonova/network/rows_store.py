"""Rows of any noun: one, many by filter, insert, change. What is special to a noun stands in its own store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.db import statements
from kilonova.db.listing import Page, paged
from kilonova.db.statements import Statement
from kilonova.db.types import Timestamp
from kilonova.network import schema
from kilonova.network.work import Work


class Standard(msgspec.Struct, kw_only=True):
    """What every noun has. `revision` counts its changes."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    revision: int = 0
    created_at: datetime
    updated_at: datetime
    tags: list[str] = []


R = TypeVar("R", bound=msgspec.Struct)
S = TypeVar("S", bound=Standard)
Condition = sa.ColumnElement[bool]


class Wanted(msgspec.Struct, frozen=True):
    """Which rows: (API's filter name, values) pairs, a page, and for whom (None: all projects')."""

    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    page: Page = Page()
    project_id: str | None = None


@dataclass(frozen=True)
class Listing(Generic[R]):
    """How a noun is listed: API names → columns, filters that need more than a column, what a project may see."""

    table: sa.Table
    row: type[R]
    columns: Mapping[str, sa.ColumnElement[Any]]
    visible: Callable[[str], Condition]
    special: Mapping[str, Callable[[Sequence[str]], Condition]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()  # real columns that are no part of the struct


_TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")


def listed(connection: Connection, listing: Listing[R], wanted: Wanted) -> list[R]:
    """The rows that `wanted` asks for, with their tags."""
    if _is_plain(listing, wanted):
        rows = _plainly_listed(connection, listing, wanted)
    else:
        rows = _listed(connection, listing, wanted)
    if wanted.page.reverse:
        rows.reverse()
    if issubclass(listing.row, Standard):
        tagged(connection, rows)  # type: ignore[type-var]
    return rows


def _listed(connection: Connection, listing: Listing[R], wanted: Wanted) -> list[R]:
    table = listing.table
    conditions = [_condition(listing, name, values) for name, values in wanted.filters]
    seen = None
    if wanted.project_id is not None:
        seen = listing.visible(wanted.project_id)
        conditions.append(seen)
    sortable = {name: sa.func.coalesce(c, "") if c.nullable else c for name, c in _plain(listing).items()}
    statement = paged(connection, sa.select(table).where(*conditions), sortable, wanted.page, marker_filter=seen)
    return made(listing.row, connection.execute(statement))


_known: dict[tuple[Any, ...], Statement] = {}
_KNOWN_MOST = 500


def _is_plain(listing: Listing[Any], wanted: Wanted) -> bool:
    """Whether it is asked for by columns alone, from the first page."""
    plain = _plain(listing)
    return wanted.page.marker is None and all(name in plain for name, _ in wanted.filters)


def _plainly_listed(connection: Connection, listing: Listing[R], wanted: Wanted) -> list[R]:
    """As `_listed`, by a statement that is made once for each set of filters and order."""
    page, names = wanted.page, [name for name, _ in wanted.filters]
    shape = (listing.table.name, *names, wanted.project_id is None, page.limit is None, page.sorts, page.reverse)
    if (statement := _known.get(shape)) is None:
        if len(_known) >= _KNOWN_MOST:  # names and orders come from clients
            _known.clear()
        statement = _known[shape] = _plain_statement(connection, listing, wanted)
    values: dict[str, Any] = {"project": wanted.project_id, "most": page.limit}
    for number, (name, given) in enumerate(wanted.filters):
        column = listing.columns[name]
        values[f"filter_{number}"] = [_typed(column, name, one) for one in given]
    return of_rows(listing.table, listing.row, statement.all(connection, **values))


def _plain_statement(connection: Connection, listing: Listing[Any], wanted: Wanted) -> Statement:
    conditions: list[Condition] = []
    for number, (name, _) in enumerate(wanted.filters):
        conditions.append(listing.columns[name].in_(sa.bindparam(f"filter_{number}", expanding=True)))
    if wanted.project_id is not None:
        project: Any = sa.bindparam("project")
        conditions.append(listing.visible(project))
    sortable = {name: sa.func.coalesce(c, "") if c.nullable else c for name, c in _plain(listing).items()}
    whole = msgspec.structs.replace(wanted.page, limit=None)
    core = paged(connection, sa.select(listing.table).where(*conditions), sortable, whole)
    return Statement(core if wanted.page.limit is None else core.limit(sa.bindparam("most")))


def of_rows(table: sa.Table, row: type[R], found: Iterable[tuple[Any, ...]]) -> list[R]:
    """Structs from whole rows of a table."""
    names = _columns(table)[0]
    return [row(**dict(zip(names, values, strict=True))) for values in found]


@cache
def _columns(table: sa.Table) -> tuple[tuple[str, ...], tuple[sa.Column[Any], ...]]:
    """A table's columns: their names, and themselves."""
    return tuple(table.columns.keys()), tuple(table.columns.values())


def read_rows(
    connection: Connection,
    table: sa.Table,
    row: type[R],
    where: Mapping[str, Any],
    *,
    order: Sequence[sa.Column[Any]] = (),
    lock: bool = False,
) -> list[R]:
    """Structs of the rows whose columns equal these values, or are among them."""
    return of_rows(table, row, statements.read(connection, _columns(table)[1], where, order=order, lock=lock))


def made(row: type[R], result: sa.Result[Any]) -> list[R]:
    """Structs from rows whose columns are the struct's fields."""
    keys = list(result.keys())
    return [row(**dict(zip(keys, values, strict=True))) for values in result]


_TAGS = (schema.tags.c.resource_id, schema.tags.c.tag)


def tagged(connection: Connection, rows: list[S]) -> list[S]:
    """The same rows with their tags filled in, by one query."""
    if rows:
        by_id = {row.id: row for row in rows}
        for resource_id, tag in statements.read(connection, _TAGS, {"resource_id": list(by_id)}, order=_TAGS[1:]):
            by_id[resource_id].tags = [*by_id[resource_id].tags, tag]
    return rows


def _plain(listing: Listing[Any]) -> dict[str, Any]:
    return {name: column for name, column in listing.columns.items() if isinstance(column, sa.Column)}


def _condition(listing: Listing[Any], name: str, values: Sequence[str]) -> Condition:
    if name in listing.special:
        return listing.special[name](values)
    if name in _TAG_FILTERS:
        return _tag_condition(listing.table.c.id, name, values)
    column = listing.columns[name]
    return column.in_([_typed(column, name, value) for value in values])


def _typed(column: sa.ColumnElement[Any], name: str, value: str) -> Any:
    if isinstance(column.type, sa.Boolean):
        return truth(name, value)
    if isinstance(column.type, sa.Integer):
        most = 1 << 63 if isinstance(column.type, sa.BigInteger) else 1 << 31
        if not value.isascii() or not value.removeprefix("-").isdigit() or len(value) > 20 or abs(int(value)) >= most:
            raise invalid(f"Invalid input for {name}: {value[:40]!r} is not an integer.", code="InvalidInput")
        return int(value)
    if isinstance(column.type, Timestamp):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise invalid(f"Invalid input for {name}: {value[:40]!r} is not a time.", code="InvalidInput") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


def truth(name: str, value: str) -> bool:
    """A boolean as filters write it."""
    lowered = value.lower()
    if lowered in ("true", "1", "t", "yes", "y", "on"):
        return True
    if lowered in ("false", "0", "f", "no", "n", "off"):
        return False
    raise invalid(f"Invalid input for {name}: {value[:40]!r} is not a boolean.", code="InvalidInput")


def _tag_condition(id_: sa.ColumnElement[Any], name: str, values: Sequence[str]) -> Condition:
    """tags: all of them; tags-any: one of them; not-…: the opposite."""
    wanted = sorted({tag for value in values for tag in value.split(",") if tag})
    having = sa.select(schema.tags.c.resource_id).where(schema.tags.c.tag.in_(wanted))
    if name in ("tags", "not-tags"):
        having = having.group_by(schema.tags.c.resource_id).having(sa.func.count() == len(wanted))
    return id_.not_in(having) if name.startswith("not-") else id_.in_(having)


def known_filters(listing: Listing[Any]) -> set[str]:
    """Names that a query may filter by."""
    return {*listing.columns, *listing.special, *_TAG_FILTERS}


def sortable(listing: Listing[Any]) -> list[str]:
    """Names that a query may sort by."""
    return sorted(_plain(listing))


def find(connection: Connection, table: sa.Table, row: type[R], id_: str, *, lock: bool = False) -> R | None:
    """The row with that id, locked against other writers when asked."""
    rows = read_rows(connection, table, row, {"id": id_}, lock=lock)
    return rows[0] if rows else None


def need(
    connection: Connection,
    table: sa.Table,
    row: type[R],
    id_: str,
    absent: Callable[[str], Fault],
    *,
    lock: bool = False,
) -> R:
    """The row with that id, or the fault that says it is not there."""
    found = find(connection, table, row, id_, lock=lock)
    if found is None:
        raise absent(id_)
    return found


def insert(work: Work, table: sa.Table, row: Standard) -> None:
    """Write a new row; its tags too."""
    statements.insert(work.connection, table, {name: getattr(row, name) for name in _columns(table)[0]})
    add_tags(work.connection, row.id, row.tags)


def change(work: Work, table: sa.Table, row: Standard, values: Mapping[str, Any]) -> None:
    """Write `values`, count the revision, stamp the time; `row` then shows what was written."""
    values = {**values, "revision": row.revision + 1, "updated_at": work.draw.now()}
    statements.update(work.connection, table, {"id": row.id}, values)
    for name, value in values.items():
        setattr(row, name, value)


def remove(work: Work, table: sa.Table, id_: str) -> bool:
    """Delete the row and its tags; whether it was there."""
    statements.delete(work.connection, schema.tags, resource_id=id_)
    return statements.delete(work.connection, table, id=id_) > 0


def add_tags(connection: Connection, resource_id: str, tags: Iterable[str]) -> None:
    """Put tags on a resource that does not have them yet."""
    new = [{"resource_id": resource_id, "tag": tag} for tag in dict.fromkeys(tags)]
    statements.insert_all(connection, schema.tags, new)


def tags_of(connection: Connection, resource_id: str) -> list[str]:
    """A resource's tags, sorted."""
    found = sa.select(schema.tags.c.tag).where(schema.tags.c.resource_id == resource_id)
    return list(connection.scalars(found.order_by(schema.tags.c.tag)))


def drop_tags(connection: Connection, resource_id: str, tag: str | None = None) -> int:
    """Take one tag, or all, from a resource; how many there were."""
    statement = schema.tags.delete().where(schema.tags.c.resource_id == resource_id)
    if tag is not None:
        statement = statement.where(schema.tags.c.tag == tag)
    return connection.execute(statement).rowcount
