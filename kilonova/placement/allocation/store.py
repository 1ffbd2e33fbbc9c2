"""All SQL about allocations. A claim is one unit: lock consumers and providers, check room, write, count.

The books are exact because `inventory.used` changes only here, in the unit that changes the allocations it sums,
while the rows of all providers concerned are locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.db.database import says
from kilonova.placement.provider import store as providers
from kilonova.placement.resource_class import store as classes
from kilonova.placement.schema import allocation, consumer, inventory, provider
from kilonova.placement.words import CONCURRENT_UPDATE, UNKNOWN_CONSUMER_TYPE, met_another

Amounts = dict[tuple[str, str], int]  # (provider id, resource class) → amount
Rows = dict[tuple[str, str, str], int]  # (consumer id, provider id, resource class) → amount


class Consumer(msgspec.Struct, frozen=True):
    """A row."""

    id: str
    generation: int
    project_id: str
    user_id: str
    type: str
    updated_at: datetime


class Claim(msgspec.Struct, frozen=True):
    """What a consumer is to hold, all of it. `generation` is what the client saw; None: new; UNSET: not checked."""

    consumer_id: str
    project_id: str
    user_id: str
    allocations: dict[str, dict[str, int]]  # provider id → class → amount
    type: str = ""  # "": leave as it is
    generation: int | msgspec.UnsetType | None = msgspec.UNSET

    def amounts(self) -> Amounts:
        """The allocations, flat."""
        return {(p, c): used for p, amounts in self.allocations.items() for c, used in amounts.items()}


class Held(msgspec.Struct, frozen=True):
    """One allocation, with the generation of the other side."""

    consumer_id: str
    provider_id: str
    resource_class: str
    used: int
    generation: int


_CONSUMER = tuple(consumer.c[name] for name in Consumer.__struct_fields__)
_HELD = (allocation.c.consumer_id, allocation.c.provider_id, allocation.c.resource_class, allocation.c.used)


def of_consumer(connection: Connection, consumer_id: str) -> tuple[Consumer | None, list[Held]]:
    """The consumer and what it holds, with the providers' generations; (None, []) when it holds nothing."""
    owner = _consumers(connection, [consumer_id]).get(consumer_id)
    source = allocation.join(provider, provider.c.id == allocation.c.provider_id)
    query = sa.select(*_HELD, provider.c.generation).select_from(source)
    query = query.where(allocation.c.consumer_id == consumer_id)
    return owner, [Held(*row) for row in connection.execute(query.order_by(allocation.c.provider_id))]


def of_provider(connection: Connection, provider_id: str) -> tuple[providers.Provider, list[Held]]:
    """The provider and what is held of it, with the consumers' generations; 404 when there is no such provider."""
    found = providers.show(connection, provider_id)
    source = allocation.join(consumer, consumer.c.id == allocation.c.consumer_id)
    query = sa.select(*_HELD, consumer.c.generation).select_from(source)
    query = query.where(allocation.c.provider_id == provider_id)
    return found, [Held(*row) for row in connection.execute(query.order_by(allocation.c.consumer_id))]


@says(lambda claims, now: f"claim for {', '.join(claim.consumer_id for claim in claims)}")
def replace(connection: Connection, claims: Sequence[Claim], now: datetime) -> None:
    """Each consumer holds exactly what its claim says, or nothing changes for any of them.

    409 when a generation is not what the client saw or there is no room; 400 for unknown providers and classes.
    """
    owners = _consumers(connection, [claim.consumer_id for claim in claims], lock=True)
    for claim in claims:
        _check_generation(claim, owners.get(claim.consumer_id))
    before = {(consumer_id, *key): used for consumer_id, key, used in _held(connection, owners)}
    after = {(claim.consumer_id, *key): used for claim in claims for key, used in claim.amounts().items()}
    wanted = {key[1] for key in after}
    locked = providers.locked(connection, wanted | {key[1] for key in before})
    if strange := sorted(wanted - locked.keys()):
        raise invalid(f"Allocation for resource provider {strange[0]!r} that does not exist.")
    classes.refuse_unknown(connection, {key[2] for key in after}, "Unable to allocate inventory")
    _move(connection, before, after)
    _write(connection, before, after)
    if locked:
        providers.bump(connection, locked, now)
    for claim in claims:
        _write_consumer(connection, claim, owners.get(claim.consumer_id), now)


@says(lambda consumer_id, now: f"release what {consumer_id} holds")
def release(connection: Connection, consumer_id: str, now: datetime) -> None:
    """The consumer holds nothing; 404 when it held nothing."""
    owner = _consumers(connection, [consumer_id], lock=True).get(consumer_id)
    if owner is None:
        raise not_found("Allocations for consumer", consumer_id[:64])
    replace(connection, [Claim(consumer_id, owner.project_id, owner.user_id, {})], now)


def _consumers(connection: Connection, ids: Iterable[str], *, lock: bool = False) -> dict[str, Consumer]:
    query = sa.select(*_CONSUMER).where(consumer.c.id.in_(sorted(ids))).order_by(consumer.c.id)
    rows = connection.execute(query.with_for_update() if lock else query)
    return {row[0]: Consumer(*row) for row in rows}


def _check_generation(claim: Claim, owner: Consumer | None) -> None:
    if claim.generation is msgspec.UNSET:
        return
    have = None if owner is None else owner.generation
    if claim.generation != have:
        raise conflict(
            f"consumer generation conflict - expected {'null' if have is None else have} but got "
            f"{'null' if claim.generation is None else claim.generation}",
            code=CONCURRENT_UPDATE,
        )


def _held(connection: Connection, owners: Iterable[str]) -> list[tuple[str, tuple[str, str], int]]:
    query = sa.select(*_HELD).where(allocation.c.consumer_id.in_(sorted(owners)))
    return [(row[0], (row[1], row[2]), row[3]) for row in connection.execute(query)]


def _move(connection: Connection, before: Rows, after: Rows) -> None:
    """Check each wanted amount against its inventory and change what is counted as used."""
    change: Amounts = {}
    for sign, amounts in ((-1, before), (1, after)):
        for (_, provider_id, name), used in amounts.items():
            change[provider_id, name] = change.get((provider_id, name), 0) + sign * used
    books = _books(connection, {provider_id for provider_id, _ in change})
    for (_, provider_id, name), used in after.items():
        book = books.get((provider_id, name))
        if book is None:
            raise conflict(
                f"Unable to allocate inventory: Inventory for {name!r} on resource provider {provider_id!r} invalid."
            )
        if not book.min_unit <= used <= book.max_unit or used % book.step_size:
            raise conflict(_no(name, provider_id, "violate inventory constraints"))
    for (provider_id, name), more in sorted(change.items()):
        book = books[provider_id, name]
        if more > 0 and book.used + more > (book.total - book.reserved) * book.allocation_ratio:
            raise conflict(_no(name, provider_id, "exceed the capacity"))
        if more:
            row = sa.update(inventory).where(inventory.c.provider_id == provider_id, inventory.c.resource_class == name)
            connection.execute(row.values(used=inventory.c.used + more))


def _no(resource_class: str, provider_id: str, why: str) -> str:
    return (
        f"Unable to allocate inventory: Unable to create allocation for {resource_class!r} on resource provider "
        f"{provider_id!r}. The requested amount would {why}."
    )


class _Book(msgspec.Struct, frozen=True):
    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    used: int


def _books(connection: Connection, provider_ids: Iterable[str]) -> dict[tuple[str, str], _Book]:
    columns = [inventory.c[name] for name in _Book.__struct_fields__]
    query = sa.select(inventory.c.provider_id, inventory.c.resource_class, *columns)
    rows = connection.execute(query.where(inventory.c.provider_id.in_(sorted(provider_ids))))
    return {(row[0], row[1]): _Book(*row[2:]) for row in rows}


def _write(connection: Connection, before: Rows, after: Rows) -> None:
    columns = (allocation.c.consumer_id, allocation.c.provider_id, allocation.c.resource_class)
    for key in sorted(key for key, used in before.items() if after.get(key) != used):
        connection.execute(
            sa.delete(allocation).where(*(column == part for column, part in zip(columns, key, strict=True)))
        )
    new = [
        {"consumer_id": key[0], "provider_id": key[1], "resource_class": key[2], "used": used}
        for key, used in after.items()
        if before.get(key) != used
    ]
    if new:
        connection.execute(sa.insert(allocation), new)


def _write_consumer(connection: Connection, claim: Claim, owner: Consumer | None, now: datetime) -> None:
    if not claim.allocations:
        connection.execute(sa.delete(consumer).where(consumer.c.id == claim.consumer_id))
        return
    type_ = claim.type or (owner.type if owner else UNKNOWN_CONSUMER_TYPE)
    values = {"project_id": claim.project_id, "user_id": claim.user_id, "type": type_, "updated_at": now}
    if owner is None:
        with met_another("consumer generation conflict - another request made the consumer at the same time"):
            connection.execute(sa.insert(consumer).values(id=claim.consumer_id, generation=1, **values))
        return
    row = sa.update(consumer).where(consumer.c.id == claim.consumer_id)
    connection.execute(row.values(generation=consumer.c.generation + 1, **values))
