"""All SQL about resource providers. A provider's row is locked before anything that hangs on it changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, invalid, not_found
from kilonova.db.statements import Statement
from kilonova.placement.candidate.wanted import Wanted
from kilonova.placement.change import store as changes
from kilonova.placement.provider.matching_store import matches
from kilonova.placement.schema import allocation, inventory, provider, provider_aggregate, provider_trait
from kilonova.placement.words import (
    CANNOT_DELETE_PARENT,
    DUPLICATE_NAME,
    PROVIDER_IN_USE,
    generation_conflict,
    met_another,
)


class Provider(msgspec.Struct, frozen=True):
    """A row."""

    id: str
    name: str
    generation: int
    parent_id: str | None
    root_id: str
    updated_at: datetime


_AT_ONCE = 500  # ids of one statement
_COLUMNS = (
    provider.c.id,
    provider.c.name,
    provider.c.generation,
    provider.c.parent_id,
    provider.c.root_id,
    provider.c.updated_at,
)


_THESE = provider.c.id.in_(sa.bindparam("ids", expanding=True))
_ONE = Statement(sa.select(*_COLUMNS).where(provider.c.id == sa.bindparam("id")))
_LOCKED = Statement(sa.select(*_COLUMNS).where(_THESE).order_by(provider.c.id).with_for_update())
_RAISE = Statement(
    sa.update(provider)
    .where(_THESE)
    .values(generation=provider.c.generation + 1, updated_at=sa.bindparam("now", type_=provider.c.updated_at.type))
)


def missing(provider_id: str) -> Fault:
    """404 for a provider."""
    return not_found("Resource provider", provider_id[:64])


def find(connection: Connection, provider_id: str) -> Provider | None:
    """The provider, or None."""
    row = _ONE.first(connection, id=provider_id)
    return None if row is None else Provider(*row)


def show(connection: Connection, provider_id: str) -> Provider:
    """The provider, or 404."""
    found = find(connection, provider_id)
    if found is None:
        raise missing(provider_id)
    return found


def locked(connection: Connection, provider_ids: Iterable[str]) -> dict[str, Provider]:
    """Those that exist, by id, locked in one order so that two units cannot wait for each other."""
    ids = sorted(provider_ids)
    found: dict[str, Provider] = {}
    for start in range(0, len(ids), _AT_ONCE):
        rows = _LOCKED.all(connection, ids=ids[start : start + _AT_ONCE])
        found |= {row[0]: Provider(*row) for row in rows}
    return found


def lock(connection: Connection, provider_id: str, generation: int | None = None) -> Provider:
    """The provider, locked; 404 when unknown, 409 when it is not at `generation`."""
    found = locked(connection, [provider_id]).get(provider_id)
    if found is None:
        raise missing(provider_id)
    if generation is not None and generation != found.generation:
        raise generation_conflict()
    return found


def bump(connection: Connection, provider_ids: Iterable[str], now: datetime) -> None:
    """Raise the generation of providers that this unit has locked and changed, and tell mirrors to read them."""
    ids = sorted(provider_ids)
    raise_generation(connection, ids, now)
    changes.record(connection, ids)


def raise_generation(connection: Connection, provider_ids: list[str], now: datetime) -> None:
    """The next generation of providers that this unit has locked; mirrors are told by the caller."""
    for start in range(0, len(provider_ids), _AT_ONCE):
        _RAISE.change(connection, ids=provider_ids[start : start + _AT_ONCE], now=now)


def matching(connection: Connection, wanted: Wanted, name: str | None, provider_id: str | None) -> list[Provider]:
    """Providers that have room and traits as wanted, ordered by id."""
    query = matches(sa.select(*_COLUMNS).select_from(provider), wanted)
    if name is not None:
        query = query.where(provider.c.name == name)
    if provider_id is not None:
        query = query.where(provider.c.id == provider_id)
    return [Provider(*row) for row in connection.execute(query.order_by(provider.c.id))]


def insert(connection: Connection, provider_id: str, name: str, parent_id: str | None, now: datetime) -> Provider:
    """A new provider at generation 0; 409 when name or id is taken, 400 when the parent is unknown."""
    _refuse_taken(connection, name, provider_id, creating=True)
    root_id = provider_id if parent_id is None else _parent(connection, parent_id).root_id
    made = Provider(provider_id, name, 0, parent_id, root_id, now)
    with met_another(f"Conflicting resource provider {name}: {provider_id} already exists.", DUPLICATE_NAME):
        connection.execute(sa.insert(provider).values(msgspec.structs.asdict(made)))
    changes.record(connection, [provider_id])
    return made


def update(
    connection: Connection, provider_id: str, name: str, parent_id: str | None, moves: bool, now: datetime
) -> Provider:
    """Rename and, with `moves`, put under another parent; before 1.37 only a root may be put under one."""
    old = lock(connection, provider_id)
    _refuse_taken(connection, name, provider_id, creating=False)
    values: dict[str, Any] = {"name": name, "parent_id": parent_id, "updated_at": now}
    moved = {provider_id}
    if parent_id != old.parent_id:
        if not moves and (old.parent_id is not None or parent_id is None):
            raise invalid(
                f"Unable to save resource provider {provider_id}: re-parenting a provider is not allowed.",
                hint="It is from microversion 1.37 on.",
            )
        moved = _move(connection, old, parent_id)
    with met_another(f"Conflicting resource provider name: {name} already exists.", DUPLICATE_NAME):
        connection.execute(sa.update(provider).where(provider.c.id == provider_id).values(values))
    changes.record(connection, moved)
    return show(connection, provider_id)


def delete(connection: Connection, provider_id: str) -> None:
    """The provider, its inventories and traits are gone; 409 when it has children or allocations."""
    lock(connection, provider_id)
    if connection.scalar(sa.select(provider.c.id).where(provider.c.parent_id == provider_id).limit(1)):
        raise conflict(
            f"Unable to delete parent resource provider {provider_id}: It has child resource providers.",
            code=CANNOT_DELETE_PARENT,
        )
    if connection.scalar(sa.select(allocation.c.consumer_id).where(allocation.c.provider_id == provider_id).limit(1)):
        raise conflict(
            f"Unable to delete resource provider {provider_id}: Resource provider has allocations.",
            code=PROVIDER_IN_USE,
        )
    for table in (inventory, provider_trait, provider_aggregate):
        connection.execute(sa.delete(table).where(table.c.provider_id == provider_id))
    connection.execute(sa.delete(provider).where(provider.c.id == provider_id))
    changes.record(connection, [provider_id])


def _refuse_taken(connection: Connection, name: str, provider_id: str, *, creating: bool) -> None:
    if creating and find(connection, provider_id):
        raise conflict(f"Conflicting resource provider uuid: {provider_id} already exists.", code=DUPLICATE_NAME)
    other = sa.select(provider.c.id).where(provider.c.name == name, provider.c.id != provider_id)
    if connection.scalar(other):
        raise conflict(f"Conflicting resource provider name: {name} already exists.", code=DUPLICATE_NAME)


def _parent(connection: Connection, parent_id: str) -> Provider:
    found = locked(connection, [parent_id]).get(parent_id)
    if found is None:
        raise invalid(f"Parent resource provider {parent_id} does not exist.", hint="Create the parent first.")
    return found


def _move(connection: Connection, moved: Provider, parent_id: str | None) -> set[str]:
    """Give `moved` and all below it the root of their new place, and say which; 400 when it would make a circle."""
    family = connection.execute(
        sa.select(provider.c.id, provider.c.parent_id).where(provider.c.root_id == moved.root_id)
    ).all()
    below = {moved.id}
    while more := {row.id for row in family if row.parent_id in below and row.id not in below}:
        below |= more
    if parent_id in below:
        raise invalid(f"Unable to save resource provider {moved.id}: creating a loop in the tree is not allowed.")
    root_id = moved.id if parent_id is None else _parent(connection, parent_id).root_id
    connection.execute(sa.update(provider).where(provider.c.id.in_(sorted(below))).values(root_id=root_id))
    return below
