"""All SQL about inventories."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, exists, invalid, not_found
from kilonova.db.statements import Statement
from kilonova.placement.contract import Inventory
from kilonova.placement.provider import store as providers
from kilonova.placement.resource_class import store as classes
from kilonova.placement.schema import inventory
from kilonova.placement.words import INVENTORY_IN_USE

_FIELDS = tuple(inventory.c[name] for name in Inventory.__struct_fields__)
_OF_PROVIDER = Statement(
    sa.select(inventory.c.resource_class, *_FIELDS)
    .where(inventory.c.provider_id == sa.bindparam("id"))
    .order_by(inventory.c.resource_class)
)
Books = tuple[providers.Provider, dict[str, Inventory]]


def of_provider(connection: Connection, provider_id: str) -> Books:
    """The provider and its inventories by resource class; 404 when there is no such provider."""
    found = providers.show(connection, provider_id)
    return found, {row[0]: Inventory(*row[1:]) for row in _OF_PROVIDER.all(connection, id=provider_id)}


def one(connection: Connection, provider_id: str, resource_class: str) -> tuple[providers.Provider, Inventory]:
    """The provider and its inventory of one class; 404 when either is missing."""
    found, books = of_provider(connection, provider_id)
    if resource_class not in books:
        raise _missing(provider_id, resource_class)
    return found, books[resource_class]


def replace(
    connection: Connection, provider_id: str, wanted: Mapping[str, Inventory], generation: int | None, now: datetime
) -> Books:
    """The provider has exactly these inventories; 409 when a class that goes is in use."""
    _begin(connection, provider_id, generation)
    classes.refuse_unknown(
        connection, wanted, f"Unknown resource class in inventory for resource provider {provider_id}"
    )
    narrow(connection, provider_id, wanted)
    widen(connection, provider_id, wanted)
    providers.bump(connection, [provider_id], now)
    return of_provider(connection, provider_id)


def widen(connection: Connection, provider_id: str, wanted: Mapping[str, Inventory]) -> None:
    """The provider, which this unit has locked, has these inventories, and those that it had of other classes."""
    _, have = of_provider(connection, provider_id)
    for name, book in wanted.items():
        if name not in have:
            _insert(connection, provider_id, name, book)
        elif have[name] != book:
            _update(connection, provider_id, name, book)


def narrow(connection: Connection, provider_id: str, wanted: Mapping[str, Inventory]) -> None:
    """The provider, which this unit has locked, has no inventory of other classes; 409 when one is in use."""
    _, have = of_provider(connection, provider_id)
    for name in sorted(have.keys() - wanted.keys()):
        _drop(connection, provider_id, name)


def insert(
    connection: Connection,
    provider_id: str,
    resource_class: str,
    book: Inventory,
    generation: int | None,
    now: datetime,
) -> tuple[providers.Provider, Inventory]:
    """One more inventory; 409 when there is one of that class."""
    _, have = _begin(connection, provider_id, generation)
    classes.refuse_unknown(connection, [resource_class], f"Unable to create inventory for provider {provider_id}")
    if resource_class in have:
        raise exists(
            f"Update conflict: inventory of {resource_class} on resource provider {provider_id} already exists."
        )
    _insert(connection, provider_id, resource_class, book)
    providers.bump(connection, [provider_id], now)
    return one(connection, provider_id, resource_class)


def update(
    connection: Connection, provider_id: str, resource_class: str, book: Inventory, generation: int, now: datetime
) -> tuple[providers.Provider, Inventory]:
    """One inventory replaced; 400 when the provider has none of that class."""
    _, have = _begin(connection, provider_id, generation)
    if resource_class not in have:
        raise invalid(f"No inventory record with resource class {resource_class} on resource provider {provider_id}.")
    _update(connection, provider_id, resource_class, book)
    providers.bump(connection, [provider_id], now)
    return one(connection, provider_id, resource_class)


def delete(connection: Connection, provider_id: str, resource_class: str, now: datetime) -> None:
    """The inventory is gone; 404 when there is none, 409 while it is in use."""
    _, have = _begin(connection, provider_id, None)
    if resource_class not in have:
        raise _missing(provider_id, resource_class)
    _drop(connection, provider_id, resource_class)
    providers.bump(connection, [provider_id], now)


def _begin(connection: Connection, provider_id: str, generation: int | None) -> Books:
    providers.lock(connection, provider_id, generation)
    return of_provider(connection, provider_id)


def _missing(provider_id: str, resource_class: str) -> Fault:
    return not_found(f"Inventory of class {resource_class[:255]} for resource provider", provider_id)


def _insert(connection: Connection, provider_id: str, resource_class: str, book: Inventory) -> None:
    key = {"provider_id": provider_id, "resource_class": resource_class, "used": 0}
    connection.execute(sa.insert(inventory).values({**key, **msgspec.structs.asdict(book)}))


def _update(connection: Connection, provider_id: str, resource_class: str, book: Inventory) -> None:
    connection.execute(
        sa.update(inventory)
        .where(inventory.c.provider_id == provider_id, inventory.c.resource_class == resource_class)
        .values(msgspec.structs.asdict(book))
    )


def _drop(connection: Connection, provider_id: str, resource_class: str) -> None:
    key = (inventory.c.provider_id == provider_id, inventory.c.resource_class == resource_class)
    if not connection.execute(sa.delete(inventory).where(*key, inventory.c.used == 0)).rowcount:
        raise conflict(
            f"Inventory for {resource_class!r} on resource provider {provider_id!r} in use.", code=INVENTORY_IN_USE
        )
