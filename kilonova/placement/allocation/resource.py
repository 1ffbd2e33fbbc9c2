"""Allocations over REST: what one consumer holds, several consumers at once, and what is held of a provider."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert, decode_json, since
from kilonova.placement.allocation import store
from kilonova.placement.allocation.store import Claim
from kilonova.placement.core import PlacementService
from kilonova.placement.words import Amount, ClassName, dated, rule, uuid_of

NOBODY = "00000000-0000-0000-0000-000000000000"  # holds what was claimed before projects were told (1.8)
Owner = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Mappings = Annotated[dict[str, Annotated[list[str], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]
Resources = Annotated[dict[ClassName, Amount], msgspec.Meta(min_length=1)]


class ProviderReference(msgspec.Struct, forbid_unknown_fields=True):
    """A provider in the older form."""

    uuid: str


class ListedAllocation(msgspec.Struct, forbid_unknown_fields=True):
    """One provider's part in the older form."""

    resource_provider: ProviderReference
    resources: Resources


class ListedBody(msgspec.Struct, forbid_unknown_fields=True):
    """PUT /allocations/{consumer} up to 1.11."""

    allocations: Annotated[list[ListedAllocation], msgspec.Meta(min_length=1)]
    project_id: Annotated[Owner, since("1.8")] = ""
    user_id: Annotated[Owner, since("1.8")] = ""


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """One provider's part. A generation may be sent along; it is not checked: room is."""

    resources: Resources
    generation: int | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """One consumer's allocations, from 1.12 on."""

    allocations: dict[str, Part]
    project_id: Owner
    user_id: Owner
    consumer_generation: Annotated[int | msgspec.UnsetType | None, since("1.28")] = msgspec.UNSET
    mappings: Annotated[Mappings | msgspec.UnsetType, since("1.34")] = msgspec.UNSET  # taken, and ignored
    consumer_type: Annotated[ClassName | None, since("1.38")] = None


def claim_from(request: Request[Any], consumer_id: str, body: Body, *, may_be_empty: bool) -> Claim:
    """The claim that a body stands for, with what its version requires."""
    if request.version >= (1, 28) and body.consumer_generation is msgspec.UNSET:
        raise invalid("JSON does not validate: 'consumer_generation' is a required property.")
    if request.version >= (1, 38) and body.consumer_type is None:
        raise invalid("JSON does not validate: 'consumer_type' is a required property.")
    if not body.allocations and not may_be_empty:
        raise invalid("JSON does not validate: allocations is empty.", hint="Delete them instead.")
    parts = {uuid_of(id_, "allocations"): part.resources for id_, part in body.allocations.items()}
    consumer_id = uuid_of(consumer_id, "consumer_uuid")
    type_ = body.consumer_type or ""
    return Claim(consumer_id, body.project_id, body.user_id, parts, type_, body.consumer_generation)


async def show(service: PlacementService, request: Request[Any]) -> Answer:
    """What a consumer holds; an unknown one holds nothing."""
    request.enforce()
    owner, held = await service.db.read(store.of_consumer, request.path["consumer_uuid"])
    parts: dict[str, dict[str, Any]] = {}
    for one in held:
        part = parts.setdefault(one.provider_id, {"generation": one.generation, "resources": {}})
        part["resources"][one.resource_class] = one.used
    body: dict[str, Any] = {"allocations": parts}
    if owner is not None and request.version >= (1, 12):
        body |= {"project_id": owner.project_id, "user_id": owner.user_id}
        if request.version >= (1, 28):
            body["consumer_generation"] = owner.generation
        if request.version >= (1, 38):
            body["consumer_type"] = owner.type
    return dated(request, body, owner.updated_at if owner else service.now())


async def update(service: PlacementService, request: Request[Body]) -> None:
    """The consumer holds exactly this."""
    request.enforce()
    may_be_empty = request.version >= (1, 28)
    claim = claim_from(request, request.path["consumer_uuid"], request.body, may_be_empty=may_be_empty)
    await service.db.write(store.replace, [claim], service.now())


async def update_listed(service: PlacementService, request: Request[ListedBody]) -> None:
    """The consumer holds exactly this, in the older form."""
    request.enforce()
    body = request.body
    if request.version >= (1, 8) and not (body.project_id and body.user_id):
        raise invalid("JSON does not validate: 'project_id' and 'user_id' are required properties.")
    parts = {uuid_of(p.resource_provider.uuid, "resource_provider"): p.resources for p in body.allocations}
    consumer_id = uuid_of(request.path["consumer_uuid"], "consumer_uuid")
    claim = Claim(consumer_id, body.project_id or NOBODY, body.user_id or NOBODY, parts)
    await service.db.write(store.replace, [claim], service.now())


async def manage(service: PlacementService, request: Request[Any]) -> None:
    """Several consumers hold exactly this, all or none: a move hands over what it held."""
    request.enforce()
    sent = decode_json(await request.read())
    if not isinstance(sent, dict) or not sent:
        raise invalid("The request body must be a JSON object of consumers.")
    claims = [
        claim_from(request, id_, convert(body, Body, request.version, id_[:64]), may_be_empty=True)
        for id_, body in sent.items()
    ]
    await service.db.write(store.replace, claims, service.now())


async def delete(service: PlacementService, request: Request[Any]) -> None:
    """The consumer holds nothing."""
    request.enforce()
    await service.db.write(store.release, request.path["consumer_uuid"], service.now())


async def list_for_provider(service: PlacementService, request: Request[Any]) -> Answer:
    """What is held of a provider, by consumer."""
    request.enforce()
    provider, held = await service.db.read(store.of_provider, request.path["uuid"])
    parts: dict[str, dict[str, Any]] = {}
    for one in held:
        part = parts.setdefault(one.consumer_id, {"resources": {}})
        part["resources"][one.resource_class] = one.used
        if request.version >= (1, 28):
            part["consumer_generation"] = one.generation
    body = {"allocations": parts, "resource_provider_generation": provider.generation}
    return dated(request, body, provider.updated_at)


_ALL, _ONE, _HELD = "/allocations", "/allocations/{consumer_uuid}", "/resource_providers/{uuid}/allocations"
_P = "placement:allocations:"
_LIST = "placement:resource_providers:allocations:list"
_U = _P + "update"
ROUTES = (
    Route(method="POST", path=_ALL, handler=manage, policy=_P + "manage", raw=True, since="1.13", success=204),
    Route(method="GET", path=_ONE, handler=show, policy=_P + "list", summary="Show what a consumer holds"),
    Route(method="PUT", path=_ONE, handler=update_listed, policy=_U, body=ListedBody, success=204, until="1.11"),
    Route(method="PUT", path=_ONE, handler=update, policy=_U, body=Body, since="1.12", success=204),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P + "delete", success=204, summary="Release"),
    Route(method="GET", path=_HELD, handler=list_for_provider, policy=_LIST, summary="Show what is held of a provider"),
)
RULES = (
    rule("allocations:manage", "POST", _ALL),
    rule("allocations:list", "GET", _ONE),
    rule("allocations:update", "PUT", _ONE),
    rule("allocations:delete", "DELETE", _ONE),
    rule("resource_providers:allocations:list", "GET", _HELD),
)
