"""Regions, services and endpoints over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import Fault, Kind, forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.catalog.document import checked_url
from kilonova.identity.catalog.store import Endpoint, Region, Service, ensure_region, is_region_used
from kilonova.identity.rules import ANYWHERE, admin_crud
from kilonova.identity.schema import endpoints, regions, services

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

Interface = Literal["public", "internal", "admin"]


class CreateRegion(msgspec.Struct):
    """The body's `region`."""

    id: str | None = None
    description: str | None = None
    parent_region_id: str | None = None


class UpdateRegion(msgspec.Struct):
    """The body's `region`: what is left out stays."""

    description: str | UnsetType | None = UNSET
    parent_region_id: str | UnsetType | None = UNSET


class CreateService(msgspec.Struct):
    """The body's `service`."""

    type: str
    name: str = ""
    description: str | None = None
    enabled: bool = True


class UpdateService(msgspec.Struct):
    """The body's `service`: what is left out stays."""

    type: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class CreateEndpoint(msgspec.Struct):
    """The body's `endpoint`; `region` is the older name of `region_id`."""

    service_id: str
    interface: Interface
    url: str
    region_id: str | None = None
    region: str | None = None
    name: str = ""
    enabled: bool = True


class UpdateEndpoint(msgspec.Struct):
    """The body's `endpoint`: what is left out stays."""

    service_id: str | UnsetType = UNSET
    interface: Interface | UnsetType = UNSET
    url: str | UnsetType = UNSET
    region_id: str | UnsetType | None = UNSET
    region: str | UnsetType | None = UNSET
    name: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


async def _load(service: IdentityService, request: Request[Any], noun: str) -> Any:
    table, struct = _NOUNS[noun]
    id_ = request.path[f"{noun}_id"]
    request.enforce({})
    found = await service.db.read(store.get, table, struct, id_)
    if found is None:
        raise answers.missing(noun, id_)
    return found


def _shown(request: Request[Any], noun: str, found: msgspec.Struct) -> dict[str, Any]:
    shown = msgspec.structs.asdict(found)
    if noun == "endpoint":
        shown["region"] = shown["region_id"]
    return answers.linked(request, f"{noun}s", shown)


def _show(noun: str) -> Any:
    async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
        return {noun: _shown(request, noun, await _load(service, request, noun))}

    return show


def _list(noun: str, *names: str, flags: tuple[str, ...] = ()) -> Any:
    async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
        request.enforce({})
        table, struct = _NOUNS[noun]
        found = await service.db.read(store.listed, table, struct, answers.filters(request, *names, flags=flags))
        return answers.collection(request, f"{noun}s", (_shown(request, noun, one) for one in found))

    return list_


async def create_region(service: IdentityService, request: Request[CreateRegion]) -> dict[str, Any]:
    """A new region; its id may be chosen."""
    request.enforce({})
    body = request.body
    region = Region(body.id or service.world.ids.hex32(), body.description or "", body.parent_region_id)
    if len(region.id) > 255:
        raise invalid("Invalid input for field region.id: it is longer than 255 characters.")
    await _check_parent(service, region)
    taken = f"Conflict occurred attempting to store region - Duplicate ID, {region.id}."
    await service.db.write(store.insert, regions, region, taken)
    return {"region": _shown(request, "region", region)}


async def _check_parent(service: IdentityService, region: Region) -> None:
    seen, above = {region.id}, region.parent_region_id
    while above:
        if above in seen:
            raise invalid("A region cannot be its own parent, nor in a circle of them.")
        seen.add(above)
        parent = await service.db.read(store.get, regions, Region, above)
        if parent is None:
            raise answers.missing("region", above)
        above = parent.parent_region_id


async def update_region(service: IdentityService, request: Request[UpdateRegion]) -> dict[str, Any]:
    """Change a region's description or parent."""
    region: Region = await _load(service, request, "region")
    changes = given(request.body)
    if changes.get("description", "") is None:
        changes["description"] = ""
    changed = msgspec.structs.replace(region, **changes)
    await _check_parent(service, changed)
    await service.db.write(store.change, regions, region.id, changes)
    return {"region": _shown(request, "region", changed)}


async def delete_region(service: IdentityService, request: Request[None]) -> None:
    """The region, when nothing is in it."""
    region: Region = await _load(service, request, "region")
    if await service.db.read(is_region_used, region.id):
        raise forbidden(f"Region {region.id} has endpoints or child regions.", hint="Delete them first.")
    await service.db.write(store.remove, regions, region.id)


async def create_service(service: IdentityService, request: Request[CreateService]) -> dict[str, Any]:
    """A new service of the catalog; it shows in tokens once it has endpoints."""
    request.enforce({})
    body = request.body
    if not 1 <= len(body.type) <= 255 or len(body.name) > 255:
        raise invalid("Invalid input for field service.type: 1 to 255 characters.")
    made = Service(service.world.ids.hex32(), body.type, body.name, body.description or "", body.enabled)
    await service.db.write(store.insert, services, made, f"Service {made.id} exists already.")
    return {"service": _shown(request, "service", made)}


async def update_service(service: IdentityService, request: Request[UpdateService]) -> dict[str, Any]:
    """Change some of a service."""
    found: Service = await _load(service, request, "service")
    changes = given(request.body)
    if changes.get("description", "") is None:
        changes["description"] = ""
    await service.change(store.change, services, found.id, changes)
    return {"service": _shown(request, "service", msgspec.structs.replace(found, **changes))}


async def delete_service(service: IdentityService, request: Request[None]) -> None:
    """The service and its endpoints."""
    found: Service = await _load(service, request, "service")
    await service.change(store.remove, services, found.id)


async def _check_service(service: IdentityService, service_id: str) -> None:
    if await service.db.read(store.get, services, Service, service_id) is None:
        raise Fault(Kind.INVALID, f"Could not find service: {service_id[:64]}.")


async def create_endpoint(service: IdentityService, request: Request[CreateEndpoint]) -> dict[str, Any]:
    """A new endpoint; its region is made when there is none of that name."""
    request.enforce({})
    body = request.body
    checked_url(body.url)
    await _check_service(service, body.service_id)
    region_id = body.region_id or body.region
    if region_id:
        await service.db.write(ensure_region, region_id)
    made = Endpoint(
        service.world.ids.hex32(), body.service_id, region_id, body.interface, body.url, body.name, body.enabled
    )
    await service.change(store.insert, endpoints, made, f"Endpoint {made.id} exists already.")
    return {"endpoint": _shown(request, "endpoint", made)}


async def update_endpoint(service: IdentityService, request: Request[UpdateEndpoint]) -> dict[str, Any]:
    """Change some of an endpoint."""
    found: Endpoint = await _load(service, request, "endpoint")
    changes = given(request.body)
    older = changes.pop("region", UNSET)
    if older is not UNSET:
        changes.setdefault("region_id", older)
    if "url" in changes:
        checked_url(changes["url"])
    if "service_id" in changes:
        await _check_service(service, changes["service_id"])
    if changes.get("region_id"):
        await service.db.write(ensure_region, changes["region_id"])
    await service.change(store.change, endpoints, found.id, changes)
    return {"endpoint": _shown(request, "endpoint", msgspec.structs.replace(found, **changes))}


async def delete_endpoint(service: IdentityService, request: Request[None]) -> None:
    """The endpoint."""
    found: Endpoint = await _load(service, request, "endpoint")
    await service.change(store.remove, endpoints, found.id)


_NOUNS: dict[str, tuple[Any, type[msgspec.Struct]]] = {
    "region": (regions, Region),
    "service": (services, Service),
    "endpoint": (endpoints, Endpoint),
}


def _routes(noun: str, create: Any, update: Any, delete: Any, bodies: tuple[Any, Any], list_: Any) -> list[Route]:
    many = f"/v3/{noun}s"
    one = f"{many}/{{{noun}_id}}"
    rule_name = f"identity:{{}}_{noun}".format
    new = {"body": bodies[0], "envelope": noun, "success": 201}
    return [
        Route(method="POST", path=many, handler=create, policy=rule_name("create"), **new),
        Route(method="GET", path=many, handler=list_, policy=f"identity:list_{noun}s"),
        Route(method="GET", path=one, handler=_show(noun), policy=rule_name("get")),
        Route(method="PATCH", path=one, handler=update, policy=rule_name("update"), body=bodies[1], envelope=noun),
        Route(method="DELETE", path=one, handler=delete, policy=rule_name("delete"), success=204),
    ]


ROUTES: tuple[Route, ...] = (
    *_routes(
        "region",
        create_region,
        update_region,
        delete_region,
        (CreateRegion, UpdateRegion),
        _list("region", "parent_region_id"),
    ),
    *_routes(
        "service",
        create_service,
        update_service,
        delete_service,
        (CreateService, UpdateService),
        _list("service", "name", "type"),
    ),
    *_routes(
        "endpoint",
        create_endpoint,
        update_endpoint,
        delete_endpoint,
        (CreateEndpoint, UpdateEndpoint),
        _list("endpoint", "interface", "service_id", "region_id", flags=("enabled",)),
    ),
)
RULES = (
    *admin_crud("region", "/v3/regions", "", ANYWHERE),
    *admin_crud("service", "/v3/services"),
    *admin_crud("endpoint", "/v3/endpoints"),
)
