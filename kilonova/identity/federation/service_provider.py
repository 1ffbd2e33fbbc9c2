"""Service providers over HTTP: other clouds, named in every token, where a user of this one may be known.

Identity keeps and tells their addresses; it makes no SAML assertions for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import store
from kilonova.identity.bodies import given
from kilonova.identity.federation.provider import PREFIX, checked_id
from kilonova.identity.noun import Noun
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import service_providers

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_Url = Annotated[str, Meta(max_length=225, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s]+$")]
_Text = Annotated[str, Meta(max_length=255)]
_RELAY = "ss:mem:"  # what Shibboleth's service providers expect


class ServiceProvider(msgspec.Struct):
    """Another cloud: where it is logged in to (`auth_url`), and where it takes assertions (`sp_url`)."""

    id: str
    auth_url: str
    sp_url: str
    description: str | None = None
    enabled: bool = False
    relay_state_prefix: str = _RELAY


class CreateServiceProvider(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `service_provider`."""

    auth_url: _Url
    sp_url: _Url
    description: str | None = None
    enabled: bool = False
    relay_state_prefix: _Text | None = None


class UpdateServiceProvider(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `service_provider`: what is left out stays."""

    auth_url: _Url | UnsetType = UNSET
    sp_url: _Url | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    relay_state_prefix: _Text | UnsetType | None = UNSET


SERVICE_PROVIDERS = Noun(
    "service_provider",
    service_providers,
    ServiceProvider,
    prefix=PREFIX,
    filters=("id",),
    flags=("enabled",),
    called="service provider",
)


async def create(service: IdentityService, request: Request[CreateServiceProvider]) -> dict[str, Any]:
    """A new one; once it is enabled, tokens name it."""
    request.enforce({})
    body, id_ = request.body, checked_id(request.path["service_provider_id"])
    made = ServiceProvider(
        id_, body.auth_url, body.sp_url, body.description, body.enabled, body.relay_state_prefix or _RELAY
    )
    taken = f"Conflict occurred attempting to store service_provider - Duplicate entry found with ID {id_}."
    await service.change(store.insert, service_providers, made, taken)
    return SERVICE_PROVIDERS.body(request, made)


async def update(service: IdentityService, request: Request[UpdateServiceProvider]) -> dict[str, Any]:
    """Change some of it."""
    found = await SERVICE_PROVIDERS.load(service, request)
    changes = given(request.body)
    if changes.get("relay_state_prefix", _RELAY) is None:
        changes["relay_state_prefix"] = _RELAY
    await service.change(store.change, service_providers, found.id, changes)
    return SERVICE_PROVIDERS.body(request, msgspec.structs.replace(found, **changes))


_MANY, _ONE = SERVICE_PROVIDERS.path, SERVICE_PROVIDERS.one


def _route(method: str, path: str, handler: Any, name: str, **more: Any) -> Route:
    return Route(method=method, path=path, handler=handler, policy=f"identity:{name}", **more)


_BODY: dict[str, Any] = {"envelope": "service_provider"}
ROUTES: tuple[Route, ...] = (
    _route("PUT", _ONE, create, "create_service_provider", body=CreateServiceProvider, **_BODY, success=201),
    _route("GET", _MANY, SERVICE_PROVIDERS.list_, "list_service_providers"),
    _route("GET", _ONE, SERVICE_PROVIDERS.show, "get_service_provider"),
    _route("PATCH", _ONE, update, "update_service_provider", body=UpdateServiceProvider, **_BODY),
    _route("DELETE", _ONE, SERVICE_PROVIDERS.delete, "delete_service_provider", success=204),
)
RULES = (
    rule("create_service_provider", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _ONE)),
    rule("list_service_providers", READER, SYSTEM_OR_PROJECT, ("GET", _MANY)),
    rule("get_service_provider", READER, SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("update_service_provider", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _ONE)),
    rule("delete_service_provider", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
)
