"""All SQL about traits. The well-known ones are no rows: every cloud has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.db.statements import Statement
from kilonova.placement.provider import store as providers
from kilonova.placement.schema import provider_trait, trait
from kilonova.placement.words import STANDARD_TRAITS, met_another

_HELD = Statement(sa.select(provider_trait.c.trait).where(provider_trait.c.provider_id == sa.bindparam("id")))


def names(connection: Connection, among: frozenset[str] | None, prefix: str, associated: bool | None) -> list[str]:
    """Traits by name; `among` and `prefix` narrow them, `associated` to those that providers have or have not."""
    found = STANDARD_TRAITS.union(connection.scalars(sa.select(trait.c.name)))
    if among is not None:
        found &= among
    if associated is not None:
        held = set(connection.scalars(sa.select(provider_trait.c.trait).distinct()))
        found = found & held if associated else found - held
    return sorted(name for name in found if name.startswith(prefix))


def unknown(connection: Connection, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that do not exist, sorted."""
    custom = set(wanted) - STANDARD_TRAITS
    if not custom:
        return []
    return sorted(custom - set(connection.scalars(sa.select(trait.c.name).where(trait.c.name.in_(sorted(custom))))))


def refuse_unknown(connection: Connection, wanted: Iterable[str]) -> None:
    """400 when one of `wanted` does not exist."""
    if strange := unknown(connection, wanted):
        raise invalid(f"No such trait(s): {', '.join(strange)}.", hint="Custom traits are made with PUT /traits/NAME.")


def show(connection: Connection, name: str) -> None:
    """404 unless the trait exists."""
    if unknown(connection, [name]):
        raise not_found("Trait", name[:255])


def ensure(connection: Connection, name: str) -> bool:
    """Whether the custom trait had to be made."""
    if not unknown(connection, [name]):
        return False
    with met_another(f"The trait {name} was made by another request at the same time."):
        connection.execute(sa.insert(trait).values(name=name))
    return True


def delete(connection: Connection, name: str) -> None:
    """The custom trait is gone; 400 for a well-known one, 409 while a provider has it."""
    if name in STANDARD_TRAITS:
        raise invalid(f"Cannot delete standard trait {name}.")
    show(connection, name)
    if connection.scalar(sa.select(provider_trait.c.provider_id).where(provider_trait.c.trait == name).limit(1)):
        raise conflict(f"The trait {name} is in use by a resource provider.")
    connection.execute(sa.delete(trait).where(trait.c.name == name))


def of_provider(connection: Connection, provider_id: str) -> tuple[providers.Provider, list[str]]:
    """The provider and its traits by name; 404 when there is no such provider."""
    found = providers.show(connection, provider_id)
    return found, held(connection, provider_id)


def held(connection: Connection, provider_id: str) -> list[str]:
    """The traits of a provider by name."""
    return sorted(_HELD.scalars(connection, id=provider_id))


def replace(
    connection: Connection, provider_id: str, wanted: frozenset[str], generation: int | None, now: datetime
) -> tuple[providers.Provider, list[str]]:
    """The provider has exactly `wanted`; 409 when it is not at `generation`, 400 for traits that do not exist."""
    providers.lock(connection, provider_id, generation)
    refuse_unknown(connection, wanted)
    _, held = of_provider(connection, provider_id)
    if gone := set(held) - wanted:
        connection.execute(
            sa.delete(provider_trait).where(
                provider_trait.c.provider_id == provider_id, provider_trait.c.trait.in_(sorted(gone))
            )
        )
    if new := sorted(wanted - set(held)):
        connection.execute(sa.insert(provider_trait), [{"provider_id": provider_id, "trait": name} for name in new])
    if gone or new:
        providers.bump(connection, [provider_id], now)
    return of_provider(connection, provider_id)
