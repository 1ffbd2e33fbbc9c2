"""Registered limits over HTTP: which resources are limited, and how much one has by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import Fault, Kind
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.catalog.resource import REGIONS, SERVICES
from kilonova.identity.limit import store as limit_store
from kilonova.identity.limit.store import RegisteredLimit
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun
from kilonova.identity.rules import ANYWHERE, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import registered_limits

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

Amount = Annotated[int, Meta(ge=-1, le=0x7FFFFFFF)]  # -1: without limit


class NewRegisteredLimit(msgspec.Struct, forbid_unknown_fields=True):
    """One of the body's `registered_limits`."""

    service_id: str
    resource_name: str
    default_limit: Amount
    region_id: str | None = None
    description: str | None = None


class CreateRegisteredLimits(msgspec.Struct):
    """Several at once."""

    registered_limits: Annotated[list[NewRegisteredLimit], Meta(min_length=1)]


class UpdateRegisteredLimit(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `registered_limit`: what is left out stays."""

    service_id: str | UnsetType = UNSET
    region_id: str | UnsetType | None = UNSET
    resource_name: str | UnsetType = UNSET
    default_limit: Amount | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


def _shown(request: Request[Any], one: RegisteredLimit) -> dict[str, Any]:
    return msgspec.structs.asdict(one) | {"region_id": one.region_id or None}


REGISTERED = Noun(
    "registered_limit",
    registered_limits,
    RegisteredLimit,
    called="registered limit",
    filters=("service_id", "region_id", "resource_name"),
    shown=_shown,
)


async def _check_places(service: IdentityService, service_id: str | None, region_id: str | None) -> None:
    if service_id:
        await SERVICES.named(service, service_id, "registered_limit.service_id")
    if region_id:
        await REGIONS.named(service, region_id, "registered_limit.region_id")


async def create(service: IdentityService, request: Request[CreateRegisteredLimits]) -> dict[str, Any]:
    """New registered limits, all or none."""
    request.enforce({})
    new = []
    for one in request.body.registered_limits:
        name = checked_name(one.resource_name, "registered_limit.resource_name")
        await _check_places(service, one.service_id, one.region_id)
        id_ = service.world.ids.hex32()
        new.append(RegisteredLimit(id_, one.service_id, one.region_id or "", name, one.default_limit, one.description))
    await service.db.write(limit_store.insert_registered, new)
    return answers.collection(request, REGISTERED.many, (REGISTERED.view(request, one) for one in new))


async def _unused(service: IdentityService, request: Request[Any]) -> RegisteredLimit:
    found = await REGISTERED.load(service, request)
    if await service.db.read(limit_store.is_used, found.id):
        raise Fault(
            Kind.FORBIDDEN,
            f"Unable to update or delete registered limit {found.id} because there are project limits associated "
            "with it.",
            hint="Delete them first.",
        )
    return found


async def update(service: IdentityService, request: Request[UpdateRegisteredLimit]) -> dict[str, Any]:
    """Change a registered limit that no project has a limit for."""
    found = await _unused(service, request)
    changes = given(request.body)
    await _check_places(service, changes.get("service_id"), changes.get("region_id"))
    if "region_id" in changes:
        changes["region_id"] = changes["region_id"] or ""
    taken = "Conflict occurred attempting to store registered_limit - Duplicate entry."
    await service.db.write(store.change, registered_limits, found.id, changes, taken)
    return REGISTERED.body(request, msgspec.structs.replace(found, **changes))


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The registered limit, when no project has a limit for it."""
    found = await _unused(service, request)
    await service.db.write(store.remove, registered_limits, found.id)


_one = REGISTERED.routes(create, update, (CreateRegisteredLimits, UpdateRegisteredLimit), delete=delete)
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=REGISTERED.path,
        handler=create,
        policy="identity:create_registered_limits",
        body=CreateRegisteredLimits,
        success=201,
    ),
    *_one[1:],
)
RULES = (
    *(one for one in REGISTERED.rules("", scopes=ANYWHERE, writers=SYSTEM_OR_PROJECT) if "create" not in one.name),
    rule("create_registered_limits", "rule:admin_required", SYSTEM_OR_PROJECT, ("POST", REGISTERED.path)),
)
