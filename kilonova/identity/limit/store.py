"""SQL about registered limits, and the limits of projects and domains."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind
from kilonova.identity import store
from kilonova.identity.limit.model import Model, check_domain, check_project
from kilonova.identity.schema import limits, projects, registered_limits


class RegisteredLimit(msgspec.Struct):
    """How much of a resource everyone may have whom no limit says otherwise. `region_id` "": in all regions."""

    id: str
    service_id: str
    region_id: str
    resource_name: str
    default_limit: int
    description: str | None = None


class Limit(msgspec.Struct):
    """How much of a resource one project, or one domain, may have."""

    id: str
    registered_limit_id: str
    project_id: str
    domain_id: str
    resource_limit: int
    description: str | None
    service_id: str
    region_id: str
    resource_name: str
    project_domain_id: str = ""  # of the project, for rules


class Wanted(msgspec.Struct):
    """The columns that lists of limits may be filtered by, and by whom they may be seen; "" is anything."""

    service_id: str = ""
    region_id: str = ""
    resource_name: str = ""
    project_id: str = ""
    domain_id: str = ""
    id: str = ""


_WHOLE = (
    sa.select(
        limits.c.id,
        limits.c.registered_limit_id,
        limits.c.project_id,
        limits.c.domain_id,
        limits.c.resource_limit,
        limits.c.description,
        registered_limits.c.service_id,
        registered_limits.c.region_id,
        registered_limits.c.resource_name,
        sa.func.coalesce(projects.c.domain_id, "").label("project_domain_id"),
    )
    .join(registered_limits, registered_limits.c.id == limits.c.registered_limit_id)
    .outerjoin(projects, projects.c.id == limits.c.project_id)
)


def listed(connection: Connection, wanted: Wanted) -> list[Limit]:
    """Limits that have what is wanted."""
    found = _WHOLE.order_by(limits.c.id)
    for name, value in msgspec.structs.asdict(wanted).items():
        table = registered_limits if name in ("service_id", "region_id", "resource_name") else limits
        if value:
            found = found.where(table.c[name] == value)
    return store.structs(connection, found, Limit)


def get(connection: Connection, id_: str) -> Limit | None:
    """The limit of that id."""
    found = listed(connection, Wanted(id=id_))
    return found[0] if found else None


def find_registered(connection: Connection, service_id: str, region_id: str, name: str) -> RegisteredLimit | None:
    """The registered limit of that resource."""
    wanted = (("service_id", service_id), ("region_id", region_id), ("resource_name", name))
    found = store.listed(connection, registered_limits, RegisteredLimit, [(key, "equals", v) for key, v in wanted])
    return found[0] if found else None


def is_used(connection: Connection, registered_limit_id: str) -> bool:
    """Whether projects or domains have limits of their own for it."""
    found = sa.select(limits.c.id).where(limits.c.registered_limit_id == registered_limit_id)
    return connection.execute(found.limit(1)).first() is not None


def insert_registered(connection: Connection, new: Sequence[RegisteredLimit]) -> None:
    """All of them, or none when one is there already."""
    for one in new:
        taken = (
            "Conflict occurred attempting to store registered_limit - Duplicate entry found for "
            f"{one.resource_name} of service {one.service_id}."
        )
        store.insert(connection, registered_limits, one, taken)


def insert(connection: Connection, new: Sequence[Limit], model: Model) -> None:
    """All of them, or none when one has no registered limit, is there already, or the model refuses it."""
    for one in new:
        registered = find_registered(connection, one.service_id, one.region_id, one.resource_name)
        if registered is None:
            raise Fault(
                Kind.FORBIDDEN,
                f"Unable to create a limit that has no corresponding registered limit: {one.resource_name}.",
                hint="Register the limit first.",
            )
        one.registered_limit_id = registered.id
        check(connection, one, model, registered.default_limit)
        store.insert(
            connection,
            limits,
            one,
            "Conflict occurred attempting to store limit - Duplicate entry found for "
            f"{one.resource_name} of {one.project_id or one.domain_id}.",
        )


def check(connection: Connection, one: Limit, model: Model, default: int) -> None:
    """FORBIDDEN when the model does not allow it beside the others of its domain."""
    if one.project_id:
        check_project(model, one.resource_limit, _of_domain(connection, one), default)
        return
    inside = (
        sa.select(limits.c.resource_limit)
        .join(projects, projects.c.id == limits.c.project_id)
        .where(limits.c.registered_limit_id == one.registered_limit_id, projects.c.domain_id == one.domain_id)
    )
    check_domain(model, one.resource_limit, connection.scalars(inside))


def _of_domain(connection: Connection, one: Limit) -> int | None:
    domain_id = sa.select(projects.c.domain_id).where(projects.c.id == one.project_id).scalar_subquery()
    found = sa.select(limits.c.resource_limit).where(
        limits.c.registered_limit_id == one.registered_limit_id, limits.c.domain_id == domain_id
    )
    return connection.scalar(found)


def change(connection: Connection, one: Limit, model: Model) -> None:
    """Write the limit's amount and description, when the model allows."""
    registered = store.get(connection, registered_limits, RegisteredLimit, one.registered_limit_id)
    check(connection, one, model, registered.default_limit if registered else 0)
    values = {"resource_limit": one.resource_limit, "description": one.description}
    store.change(connection, limits, one.id, values)
