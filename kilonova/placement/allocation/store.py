"""All SQL about allocations. A claim is one unit: lock consumers and providers, check room, write, count.

The books are exact because `inventory.used` changes only in the unit that changes the allocations it sums, while the
rows of all providers concerned are locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.db.database import says
from kilonova.db.statements import delete
from kilonova.placement.allocation import rows_store as rows
from kilonova.placement.allocation.rows_store import Amounts, Consumer, Key, Rows
from kilonova.placement.provider import store as providers
from kilonova.placement.resource_class import store as classes
from kilonova.placement.schema import allocation, consumer, provider
from kilonova.placement.words import CONCURRENT_UPDATE, UNKNOWN_CONSUMER_TYPE


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


_HELD = (allocation.c.consumer_id, allocation.c.provider_id, allocation.c.resource_class, allocation.c.used)


def of_consumer(connection: Connection, consumer_id: str) -> tuple[Consumer | None, list[Held]]:
    """The consumer and what it holds, with the providers' generations; (None, []) when it holds nothing."""
    owner = rows.consumers(connection, [consumer_id]).get(consumer_id)
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
    owners = rows.consumers(connection, [claim.consumer_id for claim in claims], lock=True)
    for claim in claims:
        check_generation(claim, owners.get(claim.consumer_id))
    before = rows.held(connection, owners)
    after = {(claim.consumer_id, *key): used for claim in claims for key, used in claim.amounts().items()}
    wanted = {key[1] for key in after}
    locked = providers.locked(connection, wanted | {key[1] for key in before})
    if strange := sorted(wanted - locked.keys()):
        raise invalid(f"Allocation for resource provider {strange[0]!r} that does not exist.")
    classes.refuse_unknown(connection, {key[2] for key in after}, "Unable to allocate inventory")
    used = _counted(connection, before, after)
    rows.write(connection, before, after)
    rows.use(connection, used, locked, wanted, now)
    write_owners(connection, claims, owners, now)


@says(lambda consumer_id, now: f"release what {consumer_id} holds")
def release(connection: Connection, consumer_id: str, now: datetime) -> None:
    """The consumer holds nothing; 404 when it held nothing."""
    if not delete(connection, consumer, id=consumer_id):
        raise not_found("Allocations for consumer", consumer_id[:64])
    before = rows.held(connection, [consumer_id])
    locked = providers.locked(connection, {key[1] for key in before})
    used = _counted(connection, before, {})
    delete(connection, allocation, consumer_id=consumer_id)
    rows.use(connection, used, locked, (), now)


def check_generation(claim: Claim, owner: Consumer | None) -> None:
    """409 when the consumer is not as the client saw it."""
    if claim.generation is msgspec.UNSET:
        return
    have = None if owner is None else owner.generation
    if claim.generation != have:
        raise conflict(
            f"consumer generation conflict - expected {'null' if have is None else have} but got "
            f"{'null' if claim.generation is None else claim.generation}",
            code=CONCURRENT_UPDATE,
        )


def write_owners(connection: Connection, claims: Sequence[Claim], owners: dict[str, Consumer], now: datetime) -> None:
    """The consumers of claims that stand: made, changed, or gone when they hold nothing."""
    new, known, gone = [], [], []
    for claim in claims:
        owner = owners.get(claim.consumer_id)
        type_ = claim.type or (owner.type if owner else UNKNOWN_CONSUMER_TYPE)
        if not claim.allocations:
            gone.append(claim.consumer_id)
        elif owner is None:
            new.append(Consumer(claim.consumer_id, 1, claim.project_id, claim.user_id, type_, now))
        else:
            generation = owner.generation + 1
            known.append(Consumer(claim.consumer_id, generation, claim.project_id, claim.user_id, type_, now))
    rows.write_consumers(connection, new, known, [id_ for id_ in gone if id_ in owners])


def _counted(connection: Connection, before: Rows, after: Rows) -> dict[Key, int]:
    """Check each wanted amount against its inventory; what is used afterwards, where it changes."""
    change: Amounts = {}
    for sign, amounts in ((-1, before), (1, after)):
        for (_, provider_id, name), used in amounts.items():
            change[provider_id, name] = change.get((provider_id, name), 0) + sign * used
    books = rows.books(connection, {provider_id for provider_id, _ in change})
    for (_, provider_id, name), used in after.items():
        book = books.get((provider_id, name))
        if book is None:
            raise conflict(
                f"Unable to allocate inventory: Inventory for {name!r} on resource provider {provider_id!r} invalid."
            )
        if not book.allows(used):
            raise conflict(_no(name, provider_id, "violate inventory constraints"))
    for (provider_id, name), more in sorted(change.items()):
        book = books[provider_id, name]
        if more > 0 and book.used + more > book.capacity:
            raise conflict(_no(name, provider_id, "exceed the capacity"))
    return {key: books[key].used + more for key, more in change.items() if more}


def _no(resource_class: str, provider_id: str, why: str) -> str:
    return (
        f"Unable to allocate inventory: Unable to create allocation for {resource_class!r} on resource provider "
        f"{provider_id!r}. The requested amount would {why}."
    )
