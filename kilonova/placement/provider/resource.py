"""Resource providers over REST: list, create, show, rename and move, delete."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.http.versions import Version, within
from kilonova.placement.candidate.query import wanted_from
from kilonova.placement.core import PlacementService
from kilonova.placement.provider import store
from kilonova.placement.provider.store import Provider
from kilonova.placement.resource_class.store import refuse_unknown as refuse_unknown_classes
from kilonova.placement.trait.store import refuse_unknown as refuse_unknown_traits
from kilonova.placement.words import dated, once, only, rule, uuid_of

_LINKS = (("aggregates", "1.1"), ("inventories", ""), ("usages", ""), ("traits", "1.6"), ("allocations", "1.11"))
_FILTERS = (
    ("name", ""),
    ("uuid", ""),
    ("member_of", "1.3"),
    ("resources", "1.4"),
    ("in_tree", "1.14"),
    ("required", "1.18"),
)
ProviderName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Parent = Annotated[str | msgspec.UnsetType | None, since("1.14")]


class Create(msgspec.Struct, forbid_unknown_fields=True):
    """POST /resource_providers."""

    name: ProviderName
    uuid: str = ""
    parent_provider_uuid: Parent = msgspec.UNSET


class Update(msgspec.Struct, forbid_unknown_fields=True):
    """PUT /resource_providers/{uuid}."""

    name: ProviderName
    parent_provider_uuid: Parent = msgspec.UNSET


def view(request: Request[Any], provider: Provider) -> dict[str, Any]:
    """The provider as clients of the request's version see it."""
    href = f"{urlsplit(request.origin).path}/resource_providers/{provider.id}"
    links = [{"rel": "self", "href": href}]
    links += [{"rel": rel, "href": f"{href}/{rel}"} for rel in _links(request.version)]
    shown = {"uuid": provider.id, "name": provider.name, "generation": provider.generation, "links": links}
    if request.version >= (1, 14):
        shown |= {"parent_provider_uuid": provider.parent_id, "root_provider_uuid": provider.root_id}
    return shown


def _links(version: Version) -> list[str]:
    return [rel for rel, first in _LINKS if within(version, first, "")]


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """Providers that match name, uuid, resources, required traits and tree."""
    request.enforce()
    only(request, *(name for name, first in _FILTERS if within(request.version, first, "")))
    wanted = wanted_from(request)
    name, id_ = once(request, "name"), once(request, "uuid")
    await service.db.read(refuse_unknown_classes, wanted.resources, "Invalid resource class in resources parameter")
    await service.db.read(refuse_unknown_traits, wanted.traits)
    id_ = None if id_ is None else uuid_of(id_, "query parameter uuid")
    found = await service.db.read(store.matching, wanted, name, id_)
    moment = max((p.updated_at for p in found), default=service.now())
    return dated(request, {"resource_providers": [view(request, provider) for provider in found]}, moment)


async def create(service: PlacementService, request: Request[Create]) -> Answer:
    """A new provider, at generation 0."""
    request.enforce()
    body = request.body
    id_ = uuid_of(body.uuid, "uuid") if body.uuid else service.world.ids.uuid()
    made = await service.db.write(store.insert, id_, body.name, _parent(body.parent_provider_uuid), service.now())
    location = f"{request.origin}/resource_providers/{id_}"
    if request.version < (1, 20):
        return Answer(None, 201, {"location": location})
    return dated(request, view(request, made), made.updated_at, location=location)


async def show(service: PlacementService, request: Request[Any]) -> Answer:
    """One provider."""
    request.enforce()
    found = await service.db.read(store.show, request.path["uuid"])
    return dated(request, view(request, found), found.updated_at)


async def update(service: PlacementService, request: Request[Update]) -> Answer:
    """The provider under another name or, as the version allows, another parent."""
    request.enforce()
    old = await service.db.read(store.show, request.path["uuid"])
    asked = request.body.parent_provider_uuid
    parent = old.parent_id if asked is msgspec.UNSET else _parent(asked)
    moves = request.version >= (1, 37)
    made = await service.db.write(store.update, old.id, request.body.name, parent, moves, service.now())
    return dated(request, view(request, made), made.updated_at)


async def delete(service: PlacementService, request: Request[Any]) -> None:
    """The provider is gone."""
    request.enforce()
    await service.db.write(store.delete, request.path["uuid"])


def _parent(asked: str | msgspec.UnsetType | None) -> str | None:
    return uuid_of(asked, "parent_provider_uuid") if isinstance(asked, str) else None


_ALL, _ONE = "/resource_providers", "/resource_providers/{uuid}"
_P = "placement:resource_providers:"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_P + "list", summary="List resource providers"),
    Route(method="POST", path=_ALL, handler=create, policy=_P + "create", body=Create, summary="Create a provider"),
    Route(method="GET", path=_ONE, handler=show, policy=_P + "show", summary="Show a provider"),
    Route(method="PUT", path=_ONE, handler=update, policy=_P + "update", body=Update, summary="Rename or move"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P + "delete", success=204, summary="Delete a provider"),
)
RULES = (
    rule("resource_providers:list", "GET", _ALL),
    rule("resource_providers:create", "POST", _ALL),
    rule("resource_providers:show", "GET", _ONE),
    rule("resource_providers:update", "PUT", _ONE),
    rule("resource_providers:delete", "DELETE", _ONE),
)
