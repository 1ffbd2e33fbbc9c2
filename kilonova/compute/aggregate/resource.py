"""os-aggregates: operators put hosts together, name zones, and tag them for the scheduler."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.base.faults import invalid, not_found
from kilonova.compute.aggregate import store
from kilonova.compute.aggregate.store import ZONE, Aggregate
from kilonova.compute.core import Compute
from kilonova.compute.values import printable_name
from kilonova.http.fields import Field, View
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

Text = Annotated[str, msgspec.Meta(max_length=255)]


class Create(msgspec.Struct, forbid_unknown_fields=True):
    """{"aggregate": {…}} of a POST."""

    name: str
    availability_zone: str | None = None


class Update(msgspec.Struct, forbid_unknown_fields=True):
    """{"aggregate": {…}} of a PUT: at least one of both."""

    name: str | None = None
    availability_zone: str | msgspec.UnsetType | None = msgspec.UNSET


class HostName(msgspec.Struct, forbid_unknown_fields=True):
    """{"add_host": {…}} and {"remove_host": {…}}"""

    host: Text


class SetMetadata(msgspec.Struct, forbid_unknown_fields=True):
    """{"set_metadata": {"metadata": {…}}}: null takes a key away."""

    metadata: dict[Text, Text | None]


_NEW = (
    Field[Aggregate]("availability_zone", lambda a: a.metadata.get(ZONE)),
    Field[Aggregate]("created_at", lambda a: iso_micros(a.created_at)),
    Field[Aggregate]("deleted", lambda a: False),
    Field[Aggregate]("deleted_at", lambda a: None),
    Field[Aggregate]("id", lambda a: a.id),
    Field[Aggregate]("name", lambda a: a.name),
    Field[Aggregate]("updated_at", lambda a: iso_micros(a.updated_at) if a.updated_at else None),
    Field[Aggregate]("uuid", lambda a: a.uuid, since="2.41"),
)
_CREATED: View[Aggregate] = View(*_NEW)
_VIEW: View[Aggregate] = View(*_NEW, Field("hosts", lambda a: a.hosts), Field("metadata", lambda a: a.metadata))


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """GET /os-aggregates."""
    request.enforce()
    return {"aggregates": [_VIEW.show(request.version, one) for one in await compute.db.read(store.every)]}


async def create(compute: Compute, request: Request[Create]) -> dict[str, Any]:
    """POST /os-aggregates."""
    request.enforce()
    name, zone = printable_name(request.body.name, "name"), _zone(request.body.availability_zone)
    made = await compute.db.write(store.insert, compute.world.ids.uuid(), name, zone, compute.world.clock.now())
    return {"aggregate": _CREATED.show(request.version, made)}


def _zone(name: str | None) -> str | None:
    if name is None:
        return None
    if ":" in name:
        raise invalid("Invalid input for field availability_zone: a name has no colon.")
    return printable_name(name, "availability_zone")


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """GET /os-aggregates/{id}."""
    request.enforce()
    return {"aggregate": _VIEW.show(request.version, await compute.db.read(store.get, aggregate_id(request)))}


def aggregate_id(request: Request[Any]) -> int:
    """The id in the path; NOT_FOUND when it cannot be one."""
    text = request.path["aggregate_id"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise not_found("Aggregate", text[:40], code="AggregateNotFound")
    return int(text)


async def update(compute: Compute, request: Request[Update]) -> dict[str, Any]:
    """PUT /os-aggregates/{id}: another name, another zone."""
    request.enforce()
    body = request.body
    if body.name is None and body.availability_zone is msgspec.UNSET:
        raise invalid("Invalid input for field aggregate: name at least one thing to change.")
    name = None if body.name is None else printable_name(body.name, "name")
    zone = body.availability_zone
    wanted = {} if zone is msgspec.UNSET else {ZONE: _zone(zone)}

    def change(connection: Connection) -> Aggregate:
        store.get(connection, aggregate_id(request))
        if name is not None:
            store.rename(connection, aggregate_id(request), name, compute.world.clock.now())
        if wanted:
            store.set_metadata(connection, aggregate_id(request), wanted, compute.world.clock.now())
        return store.get(connection, aggregate_id(request))

    return {"aggregate": _VIEW.show(request.version, await compute.db.write(change))}


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """DELETE /os-aggregates/{id}."""
    request.enforce()
    await compute.db.write(store.delete, aggregate_id(request))
    return Answer(None)


async def add_host(compute: Compute, request: Request[HostName]) -> dict[str, Any]:
    """POST action {"add_host": {"host": …}}."""
    request.enforce()
    zone, now = compute.settings.default_zone, compute.world.clock.now()
    await compute.db.write(store.add_host, aggregate_id(request), request.body.host, zone, now)
    return await _shown(compute, request)


async def remove_host(compute: Compute, request: Request[HostName]) -> dict[str, Any]:
    """POST action {"remove_host": {"host": …}}."""
    request.enforce()
    zone, now = compute.settings.default_zone, compute.world.clock.now()
    await compute.db.write(store.remove_host, aggregate_id(request), request.body.host, zone, now)
    return await _shown(compute, request)


async def set_metadata(compute: Compute, request: Request[SetMetadata]) -> dict[str, Any]:
    """POST action {"set_metadata": {"metadata": {…}}}."""
    request.enforce()
    wanted = request.body.metadata
    if ZONE in wanted:
        wanted[ZONE] = _zone(wanted[ZONE])
    await compute.db.write(store.set_metadata, aggregate_id(request), wanted, compute.world.clock.now())
    return await _shown(compute, request)


async def _shown(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    return {"aggregate": _VIEW.show(request.version, await compute.db.read(store.get, aggregate_id(request)))}


_NAME = "os_compute_api:os-aggregates"
_PATH, _ONE = "/os-aggregates", "/os-aggregates/{aggregate_id}"
_ACTION = f"{_ONE}/action"


def _action(name: str, handler: Any, body: type[Any]) -> Route:
    return Route(method="POST", path=_ACTION, handler=handler, policy=f"{_NAME}:{name}", action=name, body=body)


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=index, policy=f"{_NAME}:index"),
    Route(method="POST", path=_PATH, handler=create, policy=f"{_NAME}:create", body=Create, envelope="aggregate"),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_NAME}:show"),
    Route(method="PUT", path=_ONE, handler=update, policy=f"{_NAME}:update", body=Update, envelope="aggregate"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_NAME}:delete"),
    _action("add_host", add_host, HostName),
    _action("remove_host", remove_host, HostName),
    _action("set_metadata", set_metadata, SetMetadata),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_NAME}:index", ADMIN, "List aggregates", (("GET", _PATH),)),
    Rule(f"{_NAME}:create", ADMIN, "Create an aggregate", (("POST", _PATH),)),
    Rule(f"{_NAME}:show", ADMIN, "Show an aggregate", (("GET", _ONE),)),
    Rule(f"{_NAME}:update", ADMIN, "Rename an aggregate, or change its zone", (("PUT", _ONE),)),
    Rule(f"{_NAME}:delete", ADMIN, "Delete an aggregate", (("DELETE", _ONE),)),
    Rule(f"{_NAME}:add_host", ADMIN, "Put a host into an aggregate", (("POST", f"{_ACTION} (add_host)"),)),
    Rule(f"{_NAME}:remove_host", ADMIN, "Take a host out of an aggregate", (("POST", f"{_ACTION} (remove_host)"),)),
    Rule(f"{_NAME}:set_metadata", ADMIN, "Set an aggregate's metadata", (("POST", f"{_ACTION} (set_metadata)"),)),
)
