"""Statements that are written once, in SQLAlchemy Core, and run many times.

Core takes several times longer to put a statement together and look it up than SQLite takes to run it. What runs often
is therefore made once, with `sa.bindparam` where values go:

    _BY_HOST = Statement(sa.select(servers.c.id).where(servers.c.host == sa.bindparam("host")))
    ids = _BY_HOST.scalars(connection, host="node1")

The compiled text goes straight to the driver, with the column types' own conversions.
`read`, `insert`, `update` and `delete` make theirs from the names of the columns, once for each combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

Core = sa.Select[Any] | sa.CompoundSelect[Any] | sa.Insert | sa.Update | sa.Delete
Convert = Callable[[Any], Any]
Conversions = tuple[tuple[int, Convert], ...]
Row = tuple[Any, ...]


class _OneMore:
    """What `ONE_MORE` is."""


ONE_MORE: Final = _OneMore()  # as a value of `update`: what the column holds, and one


class Statement:
    """A statement whose values come later, by the names of its `sa.bindparam`s; an `expanding` one takes a list."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sqlite: _Text | None = None  # SQLite's text, when there is one only
        self._texts: dict[tuple[str | int, ...], _Text] = {}

    @cached_property
    def _expanding(self) -> tuple[str, ...]:
        """Found at the first use: a process begins with hundreds of statements, and runs some of them."""
        return tuple(name for name, bound in self._core.compile().binds.items() if bound.expanding and bound.required)

    def all(self, connection: Connection, /, **values: Any) -> list[Row]:
        """Every row, its columns in the statement's order."""
        return self.all_by(connection, values)

    def all_by(self, connection: Connection, values: Mapping[str, Any]) -> list[Row]:
        """`all` with the values in a mapping."""
        text, cursor = self._run(connection, values)
        return cursor.fetchall() if text.reads_as_it_is else text.rows(cursor)

    def as_came(self, connection: Connection, /, **values: Any) -> tuple[list[Row], Conversions]:
        """(every row as the driver gave it, of plain values that can be looked up by; what converts its columns)."""
        text, cursor = self._run(connection, values)
        return _plain(*text.as_came(cursor), text.types, connection.dialect)

    def first(self, connection: Connection, /, **values: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        found = self.all_by(connection, values)
        return found[0] if found else None

    def scalars(self, connection: Connection, /, **values: Any) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.all_by(connection, values)]

    def scalar(self, connection: Connection, /, **values: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.all_by(connection, values)
        return found[0][0] if found else None

    def change(self, connection: Connection, /, **values: Any) -> int:
        """How many rows an update or delete found, or an insert made."""
        return self.change_by(connection, values)

    def change_by(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """`change` with the values in a mapping."""
        return int(self._run(connection, values)[1].rowcount)

    def change_each(self, connection: Connection, several: Sequence[Mapping[str, Any]]) -> None:
        """`change_by` for each mapping."""
        sqlite = sqlite_of(connection)
        if sqlite is None:
            connection.execute(self._core, [dict(values) for values in several])
        elif self._expanding or len(several) == 1:
            for values in several:
                self._run(connection, values)
        elif several:
            text = self._text(connection.dialect, several[0])
            each = [text.arguments(values) for values in several]
            try:
                sqlite.executemany(text.sql, each)
            except connection.dialect.loaded_dbapi.Error as error:
                raise _as_core(connection, text.sql, each, error) from error

    def inserted(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """The number that the database gave the row that this inserts."""
        if sqlite_of(connection) is None:
            key = connection.execute(self._core, dict(values)).inserted_primary_key
            return int(key[0]) if key else 0
        return int(self._run(connection, values)[1].lastrowid or 0)

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> tuple[_Text, Any]:
        """(the text, the driver's cursor after it ran it); errors as Core's."""
        sqlite = getattr(connection, _SQLITE, None)
        text = self._sqlite
        if text is None or sqlite is None:
            text = self._text(connection.dialect, values)
        arguments = list(map(values.__getitem__, text.names)) if text.binds_as_it_is else text.arguments(values)
        if sqlite is None:
            return text, _run_on_server(connection, text.sql, arguments)
        try:
            return text, sqlite.execute(text.sql, arguments)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_core(connection, text.sql, arguments, error) from error

    def _text(self, dialect: Dialect, values: Mapping[str, Any]) -> _Text:
        """The SQL for these values: each length of an expanded list has a text of its own."""
        shape: tuple[str | int, ...] = (dialect.name,)
        for name in self._expanding:
            shape += (len(values[name]),)
        text = self._texts.get(shape)
        if text is None:
            text = self._texts[shape] = _Text(self._core, dialect, {name: values[name] for name in self._expanding})
            if len(self._texts) > _SHAPES_KEPT:
                del self._texts[next(iter(self._texts))]
            if shape == ("sqlite",):
                self._sqlite = text
        return text


_SHAPES_KEPT = 64


class _Text:
    """A statement as the driver takes it: text, how the arguments are made of the values, how rows are read."""

    def __init__(self, core: Core, dialect: Dialect, lists: Mapping[str, Sequence[Any]]) -> None:
        compiled: Any = core.compile(dialect=dialect)
        needed = {name: None for name, bound in compiled.binds.items() if bound.required}
        state = compiled.construct_expanded_state({**needed, **lists})
        self.sql = str(state.statement)
        self.names: tuple[str, ...] = tuple(state.positiontup or ())  # of what the driver binds, in order
        self._lists = {name: parts for name, parts in state.parameter_expansion.items() if name in needed}
        self._fixed: dict[str, Any] = {}  # what the statement binds itself
        self._converts: list[tuple[int, Convert, bool]] = []  # place, how, whether None is converted too
        whole = {part: name for name, parts in state.parameter_expansion.items() for part in parts}
        for place, name in enumerate(self.names):
            bound = compiled.binds[whole.get(name, name)]
            convert = _to_driver(bound.type, dialect)
            if not bound.required:
                self._fixed[name] = convert(state.parameters[name]) if convert else state.parameters[name]
            elif convert:
                self._converts.append((place, convert, isinstance(bound.type, sa.JSON)))
        self.binds_as_it_is = not (self._lists or self._fixed or self._converts)
        self._columns, self._dialect = tuple(compiled._result_columns), dialect
        self.types = tuple(one.type for one in self._columns)
        self._conversions: Conversions | None = None
        self._gives_tuples = dialect.name == "sqlite"
        self.reads_as_it_is = False

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """What the driver binds, in order."""
        if self._lists or self._fixed:
            values = {**values, **self._fixed}
            for name, parts in self._lists.items():
                values.update(zip(parts, values[name], strict=True))
        made = list(map(values.__getitem__, self.names))
        for place, convert, is_json in self._converts:
            if (value := made[place]) is not None or is_json:
                made[place] = convert(value)
        return made

    def rows(self, cursor: Any) -> list[Row]:
        """The rows, converted as the columns' types say."""
        convert = self._conversions
        if convert is None:
            convert = self._conversions = conversions(self._columns, self._dialect, cursor.description)
            self.reads_as_it_is = self._gives_tuples and not convert
        found: list[Row] = cursor.fetchall()
        if not self._gives_tuples:
            found = [tuple(row) for row in found]
        if convert:
            for at, row in enumerate(found):
                cells = list(row)
                for place, to in convert:
                    if cells[place] is not None:
                        cells[place] = to(cells[place])
                found[at] = tuple(cells)
        return found

    def as_came(self, cursor: Any) -> tuple[list[Row], Conversions]:
        """The rows as the driver gave them, and what converts them."""
        if self._conversions is None:
            self._conversions = conversions(self._columns, self._dialect, cursor.description)
        return [tuple(row) for row in cursor.fetchall()], self._conversions


def as_came(connection: Connection, core: sa.Select[Any]) -> tuple[list[Row], Conversions]:
    """What `Statement.as_came` gives, for a statement that is put together anew each time."""
    cursor: Any = connection.execute(core).cursor
    columns = tuple(core.selected_columns)
    convert = conversions(columns, connection.dialect, cursor.description)
    types = tuple(one.type for one in columns)
    found = [tuple(row) for row in cursor.fetchall()]
    return _plain(found, convert, types, connection.dialect)


def _plain(
    rows: list[Row], convert: Conversions, types: tuple[Any, ...], dialect: Dialect
) -> tuple[list[Row], Conversions]:
    """Rows by which something can be looked up: PostgreSQL's driver hands JSON over as objects, which become text."""
    if dialect.name != "postgresql":
        return rows, convert
    json = tuple(at for at, one in enumerate(types) if isinstance(one, sa.JSON))
    made = []
    for row in rows:
        cells = [_to_json(cell) if isinstance(cell, (dict, list)) else cell for cell in row]
        for at in json:
            if cells[at] is row[at] and row[at] is not None:  # a text or a number as JSON
                cells[at] = _to_json(row[at])
        made.append(tuple(cells))
    return made, (*convert, *((at, orjson.loads) for at in json))


def converted(row: Row, convert: Conversions) -> Row:
    """The row with its columns as their types say."""
    cells = list(row)
    for place, to in convert:
        if cells[place] is not None:
            cells[place] = to(cells[place])
    return tuple(cells)


def conversions(columns: Sequence[Any], dialect: Dialect, described: Any = ()) -> Conversions:
    """(place, how the driver's value becomes ours) for the columns whose types convert anything.

    `described`: the columns as the driver's cursor describes them, for types that must know what came.
    """
    came = tuple(one[1] for one in described) or (None,) * len(columns)
    return _conversions(tuple(one.type for one in columns), dialect, came)


@lru_cache(1024)  # and the same object each time, so that what is remembered by it is found
def _conversions(types: tuple[Any, ...], dialect: Dialect, came: tuple[Any, ...]) -> Conversions:
    by_place = ((at, _from_driver(one, dialect, came[at])) for at, one in enumerate(types))
    return tuple((at, convert) for at, convert in by_place if convert is not None)


def _from_driver(type_: Any, dialect: Dialect, came: Any) -> Convert | None:
    if isinstance(type_, sa.JSON) and dialect.name == "sqlite":
        return orjson.loads  # Core's own asks three functions for each value
    return type_.dialect_impl(dialect).result_processor(dialect, came)  # type: ignore[no-any-return]


def _to_driver(type_: Any, dialect: Dialect) -> Convert | None:
    if isinstance(type_, sa.JSON) and dialect.name == "sqlite":
        return _to_json_or_null if type_.none_as_null else _to_json
    if isinstance(type_, sa.Boolean) and dialect.name == "sqlite":
        return None  # the driver takes it as it is
    return type_.dialect_impl(dialect).bind_processor(dialect)  # type: ignore[no-any-return]


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _to_json_or_null(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def keep_sqlite(connection: Connection, driver: Any) -> None:
    """`driver` runs the connection's statements: SQLAlchemy takes five calls to find it each time."""
    setattr(connection, _SQLITE, driver)


def sqlite_of(connection: Connection) -> Any:
    """SQLite's own connection; None with a database server."""
    return getattr(connection, _SQLITE, None)


_SQLITE: Final = "kilonova_sqlite"


def _run_on_server(connection: Connection, sql: str, arguments: Sequence[Any]) -> Any:
    """The driver's cursor after it ran the text."""
    driver: Any = connection.connection
    dialect = connection.dialect
    cursor = driver.cursor()
    try:
        cursor.execute(sql, arguments)
        return cursor
    except dialect.loaded_dbapi.Error as error:
        gone = dialect.is_disconnect(error, driver, cursor)
        if gone:
            connection.invalidate(error)
        raise _as_core(connection, sql, arguments, error, gone=gone) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # cancelled in the middle: nobody knows what the connection does now
            connection.invalidate(error)
        raise


def _as_core(
    connection: Connection, sql: str, arguments: Sequence[Any], error: BaseException, *, gone: bool = False
) -> BaseException:
    """The driver's error as Core raises it."""
    kind, dialect = connection.dialect.loaded_dbapi.Error, connection.dialect
    return DBAPIError.instance(sql, list(arguments), error, kind, connection_invalidated=gone, dialect=dialect)


# ── rows by the names of their columns


def read(
    connection: Connection,
    columns: Sequence[sa.Column[Any]],
    where: Mapping[str, Any],
    *,
    order: Sequence[sa.Column[Any]] = (),
    lock: bool = False,
) -> list[tuple[Any, ...]]:
    """`columns` of the rows of their table where each named column equals its value, or is in its list of values."""
    lists: tuple[str, ...] = ()
    if list in map(type, where.values()):
        lists = tuple([name for name, value in where.items() if isinstance(value, list)])
    return _read(tuple(columns), tuple(where), lists, tuple(order), lock).all_by(connection, where)


def insert(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Write a new row."""
    _insert(table, tuple(values)).change_by(connection, values)


def insert_all(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write new rows that name the same columns."""
    if rows:
        _insert(table, tuple(rows[0])).change_each(connection, rows)


def insert_numbered(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    """Write a new row of a table whose key the database counts up; the number it got."""
    return _insert(table, tuple(values)).inserted(connection, values)


def update(connection: Connection, table: sa.Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Write `values` (ONE_MORE counts up) to the rows whose columns equal `where`; how many there were.

    Compare-and-set is this.
    """
    counted: tuple[str, ...] = ()
    if _OneMore in map(type, values.values()):
        counted = tuple([name for name, value in values.items() if value is ONE_MORE])
    bound = dict(values)
    for name, value in where.items():
        bound[f"where_{name}"] = value
    return _update(table, tuple(where), tuple(values), counted).change_by(connection, bound)


def delete(connection: Connection, table: sa.Table, **where: Any) -> int:
    """Delete the rows whose columns equal `where`; how many there were."""
    return _delete(table, tuple(where)).change_by(connection, where)


@cache
def _read(
    columns: tuple[sa.Column[Any], ...],
    names: tuple[str, ...],
    lists: tuple[str, ...],
    order: tuple[sa.Column[Any], ...],
    lock: bool,
) -> Statement:
    table: Any = columns[0].table
    found = [
        table.c[name].in_(sa.bindparam(name, expanding=True)) if name in lists else table.c[name] == sa.bindparam(name)
        for name in names
    ]
    core = sa.select(*columns).where(*found).order_by(*order)
    return Statement(core.with_for_update() if lock else core)


@cache
def _insert(table: sa.Table, names: tuple[str, ...]) -> Statement:
    return Statement(table.insert().values({name: sa.bindparam(name, type_=table.c[name].type) for name in names}))


@cache
def _update(table: sa.Table, where: tuple[str, ...], names: tuple[str, ...], counted: tuple[str, ...]) -> Statement:
    values = {
        name: table.c[name] + 1 if name in counted else sa.bindparam(name, type_=table.c[name].type) for name in names
    }
    equal = [table.c[name] == sa.bindparam(f"where_{name}") for name in where]
    return Statement(table.update().where(*equal).values(values))


@cache
def _delete(table: sa.Table, names: tuple[str, ...]) -> Statement:
    return Statement(table.delete().where(*[table.c[name] == sa.bindparam(name) for name in names]))
