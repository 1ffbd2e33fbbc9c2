"""Flavors in compute's database. Servers keep a copy of theirs, so a flavor that is deleted is gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, exists
from kilonova.compute import contract
from kilonova.compute.schema import metadata
from kilonova.db.database import says
from kilonova.db.listing import Page, paged
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Text, Timestamp


class Flavor(msgspec.Struct, frozen=True):
    """A flavor with what only its API shows; `size()` is what servers copy."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap_mb: int
    rxtx_factor: float
    is_public: bool
    description: str | None
    extra_specs: dict[str, str]
    created_at: datetime

    def size(self) -> contract.Flavor:
        """The flavor as a server keeps it."""
        return contract.Flavor(
            self.id,
            self.name,
            self.vcpus,
            self.memory_mb,
            self.root_gb,
            self.ephemeral_gb,
            self.swap_mb,
            self.rxtx_factor,
            self.extra_specs,
        )


class Filters(msgspec.Struct, frozen=True):
    """Which flavors: `is_public` None is all; True adds the private ones that `project_id` may use."""

    is_public: bool | None = True
    project_id: str = ""
    min_disk_gb: int = 0
    min_memory_mb: int = 0


flavors = sa.Table(
    "flavor",
    metadata,
    sa.Column("id", Name(), primary_key=True),
    sa.Column("name", Name(), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("root_gb", sa.Integer, nullable=False),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False),
    sa.Column("swap_mb", sa.Integer, nullable=False),
    sa.Column("rxtx_factor", sa.Double, nullable=False),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("description", Text()),
    sa.Column("extra_specs", sa.JSON, nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
)
flavor_access = sa.Table(
    "flavor_access",
    metadata,
    sa.Column("flavor_id", Name(), primary_key=True),
    sa.Column("project_id", Id(), primary_key=True, index=True),
)

COLUMNS: Mapping[str, sa.ColumnElement[Any]] = {
    "id": flavors.c.id,
    "flavorid": flavors.c.id,
    "name": flavors.c.name,
    "vcpus": flavors.c.vcpus,
    "memory_mb": flavors.c.memory_mb,
    "root_gb": flavors.c.root_gb,
    "ephemeral_gb": flavors.c.ephemeral_gb,
    "swap": flavors.c.swap_mb,
    "rxtx_factor": flavors.c.rxtx_factor,
    "is_public": flavors.c.is_public,
    "description": sa.func.coalesce(flavors.c.description, ""),
    "created_at": flavors.c.created_at,
}


def no_such(flavor_id: str) -> Fault:
    """What anybody hears of a flavor that is not there, or not for them."""
    return Fault(Kind.NOT_FOUND, f"Flavor {flavor_id[:255]} could not be found.", code="FlavorNotFound")


def usable_by(project_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Public flavors, and the private ones that the project was given."""
    given = sa.select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == project_id)
    return sa.or_(flavors.c.is_public.is_(True), flavors.c.id.in_(given))


_BY_ID = sa.select(flavors).where(flavors.c.id == sa.bindparam("id"))
_ANY = Statement(_BY_ID)
_MINE = Statement(_BY_ID.where(usable_by(sa.bindparam("project"))))


def get(connection: Connection, flavor_id: str, project_id: str, *, admin: bool) -> Flavor:
    """The flavor, when the project may use it or an admin asks; else NOT_FOUND."""
    row = _ANY.first(connection, id=flavor_id) if admin else _MINE.first(connection, id=flavor_id, project=project_id)
    if row is None:
        raise no_such(flavor_id)
    return Flavor(*row)


def get_flavor(connection: Connection, flavor_id: str, project_id: str, admin: bool) -> contract.Flavor:
    """What a new server copies of its flavor. NOT_FOUND when there is none that the project may use."""
    return get(connection, flavor_id, project_id, admin=admin).size()


def usable(connection: Connection, project_id: str) -> list[contract.Flavor]:
    """Every flavor that a project may use, as servers copy it."""
    found = sa.select(flavors).where(usable_by(project_id)).limit(1000)
    return [Flavor(*row).size() for row in connection.execute(found)]


def listed(connection: Connection, filters: Filters, page: Page) -> list[Flavor]:
    """One page of the flavors that pass."""
    visible: sa.ColumnElement[bool] = sa.true()
    if filters.is_public:
        visible = usable_by(filters.project_id)
    elif filters.is_public is False:
        visible = flavors.c.is_public.is_(False)
    statement = sa.select(flavors).where(
        visible, flavors.c.root_gb >= filters.min_disk_gb, flavors.c.memory_mb >= filters.min_memory_mb
    )
    found = paged(connection, statement, COLUMNS, page, marker_filter=visible)
    return [Flavor(*row) for row in connection.execute(found)]


@says(lambda flavor: f"flavor {flavor.name} recorded")
def insert(connection: Connection, flavor: Flavor) -> None:
    """A new flavor. EXISTS when its name or id is taken."""
    taken = sa.select(flavors.c.id, flavors.c.name).where(
        sa.or_(flavors.c.id == flavor.id, flavors.c.name == flavor.name)
    )
    if (row := connection.execute(taken).first()) is not None:
        what = f"name {flavor.name}" if row.name == flavor.name else f"ID {flavor.id}"
        raise exists(f"Flavor with {what} already exists.", hint="Choose another.", code="FlavorExists")
    connection.execute(flavors.insert().values(**msgspec.structs.asdict(flavor)))


def describe(connection: Connection, flavor_id: str, description: str | None) -> Flavor:
    """The flavor with another description."""
    connection.execute(flavors.update().where(flavors.c.id == flavor_id).values(description=description))
    return get(connection, flavor_id, "", admin=True)


def delete(connection: Connection, flavor_id: str) -> None:
    """The flavor is gone, and who might use it."""
    if not connection.execute(flavors.delete().where(flavors.c.id == flavor_id)).rowcount:
        raise no_such(flavor_id)
    connection.execute(flavor_access.delete().where(flavor_access.c.flavor_id == flavor_id))


def set_extra_specs(connection: Connection, flavor_id: str, changed: Mapping[str, str]) -> None:
    """These extra specs are set; others stay."""
    row = connection.execute(sa.select(flavors).where(flavors.c.id == flavor_id).with_for_update()).first()
    if row is None:
        raise no_such(flavor_id)
    together = {**row.extra_specs, **changed}
    connection.execute(flavors.update().where(flavors.c.id == flavor_id).values(extra_specs=together))


def drop_extra_spec(connection: Connection, flavor_id: str, key: str) -> None:
    """The extra spec is gone; NOT_FOUND when it never was."""
    row = connection.execute(sa.select(flavors).where(flavors.c.id == flavor_id).with_for_update()).first()
    if row is None:
        raise no_such(flavor_id)
    if key not in row.extra_specs:
        raise no_extra_spec(flavor_id, key)
    rest = {name: value for name, value in row.extra_specs.items() if name != key}
    connection.execute(flavors.update().where(flavors.c.id == flavor_id).values(extra_specs=rest))


def no_extra_spec(flavor_id: str, key: str) -> Fault:
    """There is no such key in the flavor's extra specs."""
    message = f"Flavor {flavor_id} has no extra specs with key {key[:255]}."
    return Fault(Kind.NOT_FOUND, message, code="FlavorExtraSpecsNotFound")


def projects_of(connection: Connection, flavor_id: str) -> list[str]:
    """The projects that may use a private flavor."""
    found = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == flavor_id)
    return list(connection.scalars(found.order_by(flavor_access.c.project_id)))


def give(connection: Connection, flavor_id: str, project_id: str) -> list[str]:
    """The project may use the flavor; all that may. EXISTS when it already did."""
    have = projects_of(connection, flavor_id)
    if project_id in have:
        raise exists(f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination.")
    connection.execute(flavor_access.insert().values(flavor_id=flavor_id, project_id=project_id))
    return sorted([*have, project_id])


def take_away(connection: Connection, flavor_id: str, project_id: str) -> list[str]:
    """The project may not use the flavor any more; those that still may. NOT_FOUND when it never did."""
    at = (flavor_access.c.flavor_id == flavor_id, flavor_access.c.project_id == project_id)
    if not connection.execute(flavor_access.delete().where(*at)).rowcount:
        message = f"Flavor access not found for {flavor_id} / {project_id[:64]} combination."
        raise Fault(Kind.NOT_FOUND, message, code="FlavorAccessNotFound")
    return projects_of(connection, flavor_id)
