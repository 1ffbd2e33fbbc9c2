"""Regions, services and endpoints over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.catalog.document import checked_url
from kilonova.identity.catalog.store import Endpoint, Region, Service, ensure_region, is_region_used
from kilonova.identity.noun import Noun
from kilonova.identity.rules import ANYWHERE, SYSTEM_OR_PROJECT
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


def _show_endpoint(request: Request[Any], endpoint: Endpoint) -> dict[str, Any]:
    return msgspec.structs.asdict(endpoint) | {"region": endpoint.region_id}


REGIONS = Noun("region", regions, Region, filters=("parent_region_id",))
SERVICES = Noun("service", services, Service, filters=("name", "type"))
ENDPOINTS = Noun(
    "endpoint",
    endpoints,
    Endpoint,
    filters=("interface", "service_id", "region_id"),
    flags=("enabled",),
    shown=_show_endpoint,
)


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
    return REGIONS.body(request, region)


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
    region = await REGIONS.load(service, request)
    changes = given(request.body)
    if changes.get("description", "") is None:
        changes["description"] = ""
    changed = msgspec.structs.replace(region, **changes)
    await _check_parent(service, changed)
    await service.db.write(store.change, regions, region.id, changes)
    return REGIONS.body(request, changed)


async def delete_region(service: IdentityService, request: Request[None]) -> None:
    """The region, when nothing is in it."""
    region = await REGIONS.load(service, request)
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
    return SERVICES.body(request, made)


async def update_service(service: IdentityService, request: Request[UpdateService]) -> dict[str, Any]:
    """Change some of a service."""
    found = await SERVICES.load(service, request)
    changes = given(request.body)
    if changes.get("description", "") is None:
        changes["description"] = ""
    await service.change(store.change, services, found.id, changes)
    return SERVICES.body(request, msgspec.structs.replace(found, **changes))


async def create_endpoint(service: IdentityService, request: Request[CreateEndpoint]) -> dict[str, Any]:
    """A new endpoint; its region is made when there is none of that name."""
    request.enforce({})
    body = request.body
    checked_url(body.url)
    await SERVICES.named(service, body.service_id, "endpoint.service_id")
    region_id = body.region_id or body.region
    if region_id:
        await service.db.write(ensure_region, region_id)
    made = Endpoint(
        service.world.ids.hex32(), body.service_id, region_id, body.interface, body.url, body.name, body.enabled
    )
    await service.change(store.insert, endpoints, made, f"Endpoint {made.id} exists already.")
    return ENDPOINTS.body(request, made)


async def update_endpoint(service: IdentityService, request: Request[UpdateEndpoint]) -> dict[str, Any]:
    """Change some of an endpoint."""
    found = await ENDPOINTS.load(service, request)
    changes = given(request.body)
    older = changes.pop("region", UNSET)
    if older is not UNSET:
        changes.setdefault("region_id", older)
    if "url" in changes:
        checked_url(changes["url"])
    if "service_id" in changes:
        await SERVICES.named(service, changes["service_id"], "endpoint.service_id")
    if changes.get("region_id"):
        await service.db.write(ensure_region, changes["region_id"])
    await service.change(store.change, endpoints, found.id, changes)
    return ENDPOINTS.body(request, msgspec.structs.replace(found, **changes))


async def put_region(service: IdentityService, request: Request[CreateRegion]) -> dict[str, Any]:
    """A new region whose id the path gives."""
    id_ = request.path["region_id"]
    if request.body.id not in (None, id_):
        raise invalid("Invalid input for field region.id: it differs from the id in the path.")
    request.body.id = id_
    return await create_region(service, request)


ROUTES: tuple[Route, ...] = (
    *REGIONS.routes(create_region, update_region, (CreateRegion, UpdateRegion), delete=delete_region),
    Route(
        method="PUT",
        path=REGIONS.one,
        handler=put_region,
        policy="identity:create_region",
        body=CreateRegion,
        envelope="region",
        success=201,
    ),
    *SERVICES.routes(create_service, update_service, (CreateService, UpdateService)),
    *ENDPOINTS.routes(create_endpoint, update_endpoint, (CreateEndpoint, UpdateEndpoint)),
)
RULES = (
    *REGIONS.rules(read="", scopes=ANYWHERE, writers=SYSTEM_OR_PROJECT),
    *SERVICES.rules(),
    *ENDPOINTS.rules(),
)
