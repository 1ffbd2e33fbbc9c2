"""Mappings over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import store
from kilonova.identity.federation import store as federation_store
from kilonova.identity.federation.provider import PREFIX, checked_id
from kilonova.identity.federation.rules import checked_rules
from kilonova.identity.federation.store import RuleSet
from kilonova.identity.noun import Noun
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import mappings

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class MappingBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `mapping`."""

    rules: list[dict[str, Any]]


MAPPINGS = Noun("mapping", mappings, RuleSet, prefix=PREFIX)


async def create(service: IdentityService, request: Request[MappingBody]) -> dict[str, Any]:
    """A new mapping."""
    request.enforce({})
    id_ = checked_id(request.path["mapping_id"])
    checked_rules(request.body.rules)
    made = RuleSet(id_, request.body.rules)
    taken = f"Conflict occurred attempting to store mapping - Duplicate entry found with ID {id_}."
    await service.db.write(store.insert, mappings, made, taken)
    return MAPPINGS.body(request, made)


async def update(service: IdentityService, request: Request[MappingBody]) -> dict[str, Any]:
    """Other rules, for logins from now on."""
    found = await MAPPINGS.load(service, request)
    checked_rules(request.body.rules)
    await service.db.write(store.change, mappings, found.id, {"rules": request.body.rules})
    return MAPPINGS.body(request, RuleSet(found.id, request.body.rules))


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The mapping, when no protocol uses it."""
    found = await MAPPINGS.load(service, request)
    if await service.db.read(federation_store.is_mapped, found.id):
        raise forbidden("The mapping is used by a protocol.", hint="Give the protocol another mapping first.")
    await service.db.write(store.remove, mappings, found.id)


_MANY, _ONE = MAPPINGS.path, MAPPINGS.one


def _route(method: str, path: str, handler: Any, name: str, **more: Any) -> Route:
    return Route(method=method, path=path, handler=handler, policy=f"identity:{name}", **more)


_BODY: dict[str, Any] = {"body": MappingBody, "envelope": "mapping"}
ROUTES: tuple[Route, ...] = (
    _route("PUT", _ONE, create, "create_mapping", **_BODY, success=201),
    _route("GET", _MANY, MAPPINGS.list_, "list_mappings"),
    _route("GET", _ONE, MAPPINGS.show, "get_mapping"),
    _route("PATCH", _ONE, update, "update_mapping", **_BODY),
    _route("DELETE", _ONE, delete, "delete_mapping", success=204),
)
RULES = (
    rule("create_mapping", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _ONE)),
    rule("list_mappings", READER, SYSTEM_OR_PROJECT, ("GET", _MANY)),
    rule("get_mapping", READER, SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("update_mapping", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _ONE)),
    rule("delete_mapping", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
)
