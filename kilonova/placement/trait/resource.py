"""Traits over REST: the names, and which provider has which."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.placement.core import PlacementService
from kilonova.placement.provider.store import Provider
from kilonova.placement.trait import store
from kilonova.placement.words import BAD_QUERY_VALUE, ClassName, Generation, dated, is_custom, once, only, rule


class Replace(msgspec.Struct, forbid_unknown_fields=True):
    """PUT /resource_providers/{uuid}/traits."""

    resource_provider_generation: Generation
    traits: list[ClassName]


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """Names of traits; `name=in:A,B`, `name=startswith:CUSTOM_`, `associated=true`."""
    request.enforce()
    only(request, "name", "associated")
    among, prefix = _name_filter(once(request, "name"))
    text = once(request, "associated")
    if text is not None and text.lower() not in ("true", "false"):
        raise invalid('The query parameter "associated" only accepts "true" or "false".', code=BAD_QUERY_VALUE)
    associated = None if text is None else text.lower() == "true"
    names = await service.db.read(store.names, among, prefix, associated)
    return dated(request, {"traits": names}, service.now())


def _name_filter(text: str | None) -> tuple[frozenset[str] | None, str]:
    kind, colon, value = (text or "").partition(":")
    if text is None:
        return None, ""
    if kind == "in" and colon:
        return frozenset(value.split(",")), ""
    if kind == "startswith" and colon:
        return None, value
    raise invalid(
        "Badly formatted name parameter.",
        hint='Expected "in:NAME1,NAME2" or "startswith:PREFIX".',
        code=BAD_QUERY_VALUE,
    )


async def show(service: PlacementService, request: Request[Any]) -> Answer:
    """204 when the trait exists."""
    request.enforce()
    await service.db.read(store.show, request.path["name"])
    return dated(request, None, service.now())


async def create(service: PlacementService, request: Request[Any]) -> Answer:
    """201 when the custom trait was made, 204 when it was there."""
    request.enforce()
    name = request.path["name"]
    if not is_custom(name):
        raise invalid(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_".'
        )
    made = await service.db.write(store.ensure, name)
    location = f"{request.origin}/traits/{name}"
    return dated(request, None, service.now(), status=201 if made else 204, location=location)


async def delete(service: PlacementService, request: Request[Any]) -> None:
    """The custom trait is gone."""
    request.enforce()
    await service.db.write(store.delete, request.path["name"])


def _of_provider(request: Request[Any], found: tuple[Provider, list[str]]) -> Answer:
    provider, names = found
    body = {"resource_provider_generation": provider.generation, "traits": names}
    return dated(request, body, provider.updated_at)


async def list_for_provider(service: PlacementService, request: Request[Any]) -> Answer:
    """A provider's traits."""
    request.enforce()
    return _of_provider(request, await service.db.read(store.of_provider, request.path["uuid"]))


async def replace_for_provider(service: PlacementService, request: Request[Replace]) -> Answer:
    """The provider has exactly these traits."""
    request.enforce()
    wanted, generation = frozenset(request.body.traits), request.body.resource_provider_generation
    if len(wanted) != len(request.body.traits):
        raise invalid("Invalid input for field traits: each trait may be named once.")
    return _of_provider(
        request, await service.db.write(store.replace, request.path["uuid"], wanted, generation, service.now())
    )


async def clear_for_provider(service: PlacementService, request: Request[Any]) -> None:
    """The provider has no traits."""
    request.enforce()
    await service.db.write(store.replace, request.path["uuid"], frozenset(), None, service.now())


_ALL, _ONE, _HELD = "/traits", "/traits/{name}", "/resource_providers/{uuid}/traits"
_T, _P = "placement:traits:", "placement:resource_providers:traits:"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_T + "list", since="1.6", summary="List traits"),
    Route(method="GET", path=_ONE, handler=show, policy=_T + "show", since="1.6", success=204, summary="Show a trait"),
    Route(method="PUT", path=_ONE, handler=create, policy=_T + "update", since="1.6", success=204, summary="Make one"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_T + "delete", since="1.6", success=204, summary="Delete"),
    Route(method="GET", path=_HELD, handler=list_for_provider, policy=_P + "list", since="1.6", summary="List traits"),
    Route(method="PUT", path=_HELD, handler=replace_for_provider, policy=_P + "update", body=Replace, since="1.6"),
    Route(method="DELETE", path=_HELD, handler=clear_for_provider, policy=_P + "delete", since="1.6", success=204),
)
RULES = (
    rule("traits:list", "GET", _ALL),
    rule("traits:show", "GET", _ONE),
    rule("traits:update", "PUT", _ONE),
    rule("traits:delete", "DELETE", _ONE),
    rule("resource_providers:traits:list", "GET", _HELD),
    rule("resource_providers:traits:update", "PUT", _HELD),
    rule("resource_providers:traits:delete", "DELETE", _HELD),
)
