"""The rows of the books: consumers, what they hold, and the inventories it comes from. Many at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement, insert_all
from kilonova.placement.change import store as changes
from kilonova.placement.provider import store as providers
from kilonova.placement.schema import allocation, consumer, inventory
from kilonova.placement.words import met_another

Key = tuple[str, str]  # (provider id, resource class)
Amounts = dict[Key, int]
Rows = dict[tuple[str, str, str], int]  # (consumer id, provider id, resource class) → amount
_AT_ONCE: Final = 500  # ids of one statement


class Consumer(msgspec.Struct, frozen=True):
    """A row."""

    id: str
    generation: int
    project_id: str
    user_id: str
    type: str
    updated_at: datetime


class Book(msgspec.Struct, frozen=True):
    """An inventory with what is used of it."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    used: int

    @property
    def capacity(self) -> int:
        """What may be used in all."""
        return int((self.total - self.reserved) * self.allocation_ratio)

    def allows(self, amount: int) -> bool:
        """Whether it gives `amount` in one piece at all."""
        return self.min_unit <= amount <= self.max_unit and amount % self.step_size == 0


_CONSUMER = tuple(consumer.c[name] for name in Consumer.__struct_fields__)
_BOOK = tuple(inventory.c[name] for name in Book.__struct_fields__)
_IDS: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_CONSUMERS = sa.select(*_CONSUMER).where(consumer.c.id.in_(_IDS)).order_by(consumer.c.id)
_FIND, _LOCK = Statement(_CONSUMERS), Statement(_CONSUMERS.with_for_update())
_HELD = Statement(
    sa.select(allocation.c.consumer_id, allocation.c.provider_id, allocation.c.resource_class, allocation.c.used).where(
        allocation.c.consumer_id.in_(_IDS)
    )
)
_BOOKS = Statement(
    sa.select(inventory.c.provider_id, inventory.c.resource_class, *_BOOK).where(inventory.c.provider_id.in_(_IDS))
)
_USE = Statement(
    sa.update(inventory)
    .where(inventory.c.provider_id == sa.bindparam("at"), inventory.c.resource_class == sa.bindparam("of"))
    .values(used=sa.bindparam("now_used", type_=inventory.c.used.type))
)
_LET_GO = Statement(
    sa.delete(allocation).where(
        allocation.c.consumer_id == sa.bindparam("by"),
        allocation.c.provider_id == sa.bindparam("at"),
        allocation.c.resource_class == sa.bindparam("of"),
    )
)
_UPDATE_CONSUMER = Statement(
    sa.update(consumer)
    .where(consumer.c.id == sa.bindparam("by"))
    .values(
        {
            name: sa.bindparam(f"new_{name}", type_=consumer.c[name].type)
            for name in Consumer.__struct_fields__
            if name != "id"
        }
    )
)
_FORGET = Statement(sa.delete(consumer).where(consumer.c.id.in_(_IDS)))


def consumers(connection: Connection, ids: Iterable[str], *, lock: bool = False) -> dict[str, Consumer]:
    """Those that exist, by id."""
    found: dict[str, Consumer] = {}
    for some in _parts(ids):
        rows = (_LOCK if lock else _FIND).all(connection, ids=some)
        found |= {row[0]: Consumer(*row) for row in rows}
    return found


def held(connection: Connection, owners: Iterable[str]) -> Rows:
    """What consumers hold."""
    found: Rows = {}
    for some in _parts(owners):
        found |= {(row[0], row[1], row[2]): row[3] for row in _HELD.all(connection, ids=some)}
    return found


def books(connection: Connection, provider_ids: Iterable[str]) -> dict[Key, Book]:
    """All inventories of providers."""
    found: dict[Key, Book] = {}
    for some in _parts(provider_ids):
        found |= {(row[0], row[1]): Book(*row[2:]) for row in _BOOKS.all(connection, ids=some)}
    return found


def write(connection: Connection, before: Rows, after: Rows) -> None:
    """`after` is held in place of `before`."""
    gone = sorted(key for key, used in before.items() if after.get(key) != used)
    if gone:
        _LET_GO.change_each(connection, [{"by": by, "at": at, "of": of} for by, at, of in gone])
    new = [(*key, used) for key, used in after.items() if before.get(key) != used]
    names = ("consumer_id", "provider_id", "resource_class", "used")
    insert_all(connection, allocation, [dict(zip(names, row, strict=True)) for row in new])


def write_consumers(connection: Connection, new: list[Consumer], known: list[Consumer], gone: list[str]) -> None:
    """Make new consumers, change known ones, forget those that hold nothing any more."""
    for some in _parts(gone):
        _FORGET.change(connection, ids=some)
    if new:
        with met_another("consumer generation conflict - another request made the consumer at the same time"):
            insert_all(connection, consumer, [msgspec.structs.asdict(one) for one in new])
    if known:
        _UPDATE_CONSUMER.change_each(connection, [_renamed(one) for one in known])


def use(
    connection: Connection,
    used: Mapping[Key, int],
    locked: Mapping[str, providers.Provider],
    taken_of: Collection[str],
    now: datetime,
) -> None:
    """`used` is what is used now of the `locked` providers; mirrors are told.

    The generation of those of which something was taken rises; what is free again is in nobody's way.
    """
    if used:
        rows = [{"at": at, "of": of, "now_used": amount} for (at, of), amount in sorted(used.items())]
        _USE.change_each(connection, rows)
    latest: dict[str, tuple[int, dict[str, int]]] = {
        id_: (one.generation + (id_ in taken_of), {}) for id_, one in locked.items()
    }
    for (at, of), amount in used.items():
        latest[at][1][of] = amount
    providers.raise_generation(connection, sorted(taken_of), now)
    changes.record(connection, used=latest)


def _renamed(one: Consumer) -> dict[str, Any]:
    values = {f"new_{name}": value for name, value in msgspec.structs.asdict(one).items() if name != "id"}
    return {"by": one.id, **values}


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]
