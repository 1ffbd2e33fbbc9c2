"""What identity's stores share: rows to structs, unique names, lists with the filters of the Identity API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.faults import exists
from kilonova.db.database import lone
from kilonova.db.statements import Statement
from kilonova.identity.names import name_key
from kilonova.identity.schema import token_version

S = TypeVar("S", bound=msgspec.Struct)
Filter = tuple[str, str, Any]  # column, how (equals | contains | startswith | endswith | i…), value


def columns(table: sa.FromClause, struct: type[msgspec.Struct]) -> list[Any]:
    """The table's columns that the struct has fields for."""
    return [table.c[field] for field in struct.__struct_fields__ if field in table.c]


def structs(connection: Connection, statement: sa.Select[Any], struct: type[S]) -> list[S]:
    """The rows of a statement whose columns are named as the struct's fields."""
    return [struct(**row._mapping) for row in connection.execute(statement)]


@cache
def _by_id(table: sa.Table, struct: type[msgspec.Struct]) -> tuple[tuple[str, ...], Statement]:
    """(names of what is read, how)."""
    read = columns(table, struct)
    statement = Statement(sa.select(*read).where(table.c.id == sa.bindparam("id")))
    return tuple(column.key for column in read), statement


@lone
def get(connection: Connection, table: sa.Table, struct: type[S], id_: str) -> S | None:
    """The row of that id, or None."""
    names, by_id = _by_id(table, struct)
    row = by_id.first(connection, id=id_)
    return struct(**dict(zip(names, row, strict=True))) if row else None


def listed(
    connection: Connection, table: sa.Table, struct: type[S], filters: Sequence[Filter] = (), ids: Any = None
) -> list[S]:
    """Rows that pass the filters, by id; `ids` limits them further."""
    statement = sa.select(*columns(table, struct)).where(*(_condition(table, f) for f in filters))
    if ids is not None:
        statement = statement.where(table.c.id.in_(ids))
    return structs(connection, statement.order_by(table.c.id), struct)


def _condition(table: sa.Table, wanted: Filter) -> sa.ColumnElement[bool]:
    name, how, value = wanted
    column: sa.ColumnElement[Any] = table.c[name]
    if how == "equals":
        if name == "name" and "name_key" in table.c:
            column, value = table.c.name_key, name_key(value)
        matching: sa.ColumnElement[bool] = column == value
        return matching
    if how.startswith("i"):
        column, value, how = sa.func.lower(column), value.lower(), how[1:]
    return getattr(column, how)(value, autoescape=True)  # type: ignore[no-any-return]


def insert(connection: Connection, table: sa.Table, row: msgspec.Struct, taken: str) -> None:
    """Write a new row; a name or key that is taken is EXISTS with the sentence `taken`."""
    values = {key: value for key, value in msgspec.structs.asdict(row).items() if key in table.c}
    if "name_key" in table.c:
        values["name_key"] = name_key(values["name"])
    try:
        connection.execute(table.insert().values(**values))
    except IntegrityError:
        raise exists(taken) from None


def change(connection: Connection, table: sa.Table, id_: str, values: Mapping[str, Any], taken: str = "") -> None:
    """Write some columns of the row of that id."""
    if not values:
        return
    written = dict(values)
    if "name" in written and "name_key" in table.c:
        written["name_key"] = name_key(written["name"])
    try:
        connection.execute(table.update().where(table.c.id == id_).values(**written))
    except IntegrityError:
        raise exists(taken) from None


def remove(connection: Connection, table: sa.Table, id_: str) -> int:
    """Delete the row of that id; how many went."""
    return connection.execute(table.delete().where(table.c.id == id_)).rowcount


def bump_version(connection: Connection) -> None:
    """Tell every copy of identity, and every validator, that what they remember of tokens may be wrong."""
    connection.execute(token_version.update().values(value=token_version.c.value + 1))


_VERSION = Statement(sa.select(token_version.c.value))


@lone
def read_version(connection: Connection) -> int:
    """Goes up with every change that may concern a token."""
    return int(_VERSION.scalar(connection) or 0)
