"""The one unit of a reshape: new inventories come, allocations move over, old inventories go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.db.database import says
from kilonova.placement.allocation import store as allocations
from kilonova.placement.contract import Inventory
from kilonova.placement.inventory import store as inventories
from kilonova.placement.provider import store as providers
from kilonova.placement.resource_class import store as classes
from kilonova.placement.words import PROVIDER_NOT_FOUND, generation_conflict


class Shape(msgspec.Struct, frozen=True):
    """All inventories that a provider is to have, and the generation at which the client saw it."""

    generation: int
    inventories: dict[str, Inventory]


@says(lambda shapes, claims, now: f"reshape {', '.join(shapes)}")
def reshape(
    connection: Connection, shapes: Mapping[str, Shape], claims: Sequence[allocations.Claim], now: datetime
) -> None:
    """All of it or nothing; 409 when a provider or consumer changed, an inventory is in use, or room is missing."""
    held = {id_ for claim in claims for id_ in claim.allocations}
    locked = providers.locked(connection, {*shapes, *held})
    if strange := sorted((shapes.keys() | held) - locked.keys()):
        raise invalid(f"Resource provider {strange[0]} of a reshape could not be found.", code=PROVIDER_NOT_FOUND)
    for id_, shape in shapes.items():
        if shape.generation != locked[id_].generation:
            raise generation_conflict()
    classes.refuse_unknown(
        connection, {name for shape in shapes.values() for name in shape.inventories}, "Unknown resource class"
    )
    for id_, shape in shapes.items():
        inventories.widen(connection, id_, shape.inventories)
    providers.raise_generation(connection, sorted(shapes), now)
    allocations.replace(connection, claims, now)
    for id_, shape in shapes.items():
        inventories.narrow(connection, id_, shape.inventories)
    providers.bump(connection, shapes, now)
