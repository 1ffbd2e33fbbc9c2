"""Aggregates of a provider over REST: a bare list up to 1.18, with the provider's generation from 1.19 on."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert, decode_json
from kilonova.placement.aggregate import store
from kilonova.placement.core import PlacementService
from kilonova.placement.provider import store as providers
from kilonova.placement.words import Generation, dated, rule, uuid_of


class Replace(msgspec.Struct, forbid_unknown_fields=True):
    """PUT, from 1.19 on."""

    aggregates: list[str]
    resource_provider_generation: Generation


def _shown(request: Request[Any], found: store.Members) -> Answer:
    provider, aggregates = found
    body: dict[str, Any] = {"aggregates": aggregates}
    if request.version >= (1, 19):
        body["resource_provider_generation"] = provider.generation
    return dated(request, body, provider.updated_at)


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """The aggregates that a provider is in."""
    request.enforce()
    return _shown(request, await service.db.read(store.of_provider, request.path["uuid"]))


async def replace(service: PlacementService, request: Request[Any]) -> Answer:
    """The provider is in exactly these aggregates."""
    request.enforce()
    await service.db.read(providers.show, request.path["uuid"])
    sent = decode_json(await request.read())
    generation = None
    if request.version >= (1, 19):
        body = convert(sent, Replace, request.version, "body")
        sent, generation = body.aggregates, body.resource_provider_generation
    if not isinstance(sent, list) or not all(isinstance(one, str) for one in sent):
        raise invalid("Invalid input for field aggregates: expected a list of UUIDs.")
    wanted = frozenset(uuid_of(one, "aggregates") for one in sent)
    if len(wanted) != len(sent):
        raise invalid("Invalid input for field aggregates: each may be named once.")
    return _shown(
        request, await service.db.write(store.replace, request.path["uuid"], wanted, generation, service.now())
    )


_PATH = "/resource_providers/{uuid}/aggregates"
_P = "placement:resource_providers:aggregates:"
ROUTES = (
    Route(method="GET", path=_PATH, handler=index, policy=_P + "list", since="1.1", summary="List aggregates"),
    Route(method="PUT", path=_PATH, handler=replace, policy=_P + "update", raw=True, since="1.1"),
)
RULES = (
    rule("resource_providers:aggregates:list", "GET", _PATH),
    rule("resource_providers:aggregates:update", "PUT", _PATH),
)
