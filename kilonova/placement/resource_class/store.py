"""All SQL about resource classes. The well-known ones are no rows: every cloud has them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict, exists, invalid, not_found
from kilonova.placement.change import store as changes
from kilonova.placement.schema import allocation, inventory, resource_class
from kilonova.placement.words import STANDARD_CLASSES, met_another


def names(connection: Connection) -> list[str]:
    """All classes: the well-known, then the custom by name."""
    custom = connection.scalars(sa.select(resource_class.c.name).order_by(resource_class.c.name))
    return [*STANDARD_CLASSES, *custom]


def known(connection: Connection, name: str) -> bool:
    """Whether the class exists."""
    return not unknown(connection, [name])


def unknown(connection: Connection, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that do not exist, sorted."""
    custom = set(wanted) - set(STANDARD_CLASSES)
    if not custom:
        return []
    query = sa.select(resource_class.c.name).where(resource_class.c.name.in_(sorted(custom)))
    return sorted(custom - set(connection.scalars(query)))


def refuse_unknown(connection: Connection, wanted: Iterable[str], saying: str) -> None:
    """400, beginning with `saying`, when one of `wanted` does not exist."""
    if strange := unknown(connection, wanted):
        raise invalid(f"{saying}: No such resource class {', '.join(strange)}.")


def ensure(connection: Connection, name: str) -> bool:
    """Whether the custom class had to be made."""
    if known(connection, name):
        return False
    with met_another(f"The resource class {name} was made by another request at the same time."):
        connection.execute(sa.insert(resource_class).values(name=name))
    return True


def insert(connection: Connection, name: str) -> None:
    """A new custom class; 409 when it is there."""
    if not ensure(connection, name):
        raise exists(f"Conflicting resource class already exists: {name}.")


def rename(connection: Connection, name: str, new: str) -> None:
    """The custom class is called `new`, in inventories and allocations too; 409 when there is one of that name."""
    if name in STANDARD_CLASSES:
        raise invalid(f"Cannot update standard resource class {name}.")
    show(connection, name)
    if new == name:
        return
    if known(connection, new):
        raise exists(f"Resource class already exists: {new}.")
    connection.execute(sa.update(resource_class).where(resource_class.c.name == name).values(name=new))
    holders = list(connection.scalars(sa.select(inventory.c.provider_id).where(inventory.c.resource_class == name)))
    for table in (inventory, allocation):
        connection.execute(sa.update(table).where(table.c.resource_class == name).values(resource_class=new))
    changes.record(connection, holders)


def show(connection: Connection, name: str) -> None:
    """404 unless the class exists."""
    if not known(connection, name):
        raise not_found("Resource class", name[:255])


def delete(connection: Connection, name: str) -> None:
    """The custom class is gone; 400 for a well-known one, 409 while inventories use it."""
    if name in STANDARD_CLASSES:
        raise invalid(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    show(connection, name)
    if connection.scalar(sa.select(inventory.c.provider_id).where(inventory.c.resource_class == name).limit(1)):
        raise conflict(f"Error in delete resource class: Resource class {name} is in use in inventory.")
    connection.execute(sa.delete(resource_class).where(resource_class.c.name == name))
