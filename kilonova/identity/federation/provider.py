"""Identity providers and their protocols over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.domain.store import Domain
from kilonova.identity.federation import store as federation_store
from kilonova.identity.federation.store import Protocol, Provider
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import domains, identity_providers, protocols

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

PREFIX = "/v3/OS-FEDERATION"
_Issuers = Annotated[list[str], Meta(max_length=16)]


class CreateProvider(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `identity_provider`."""

    description: str | None = None
    enabled: bool = False
    remote_ids: _Issuers = []
    domain_id: str | None = None
    authorization_ttl: None = None  # memberships are those of the last login; there is no other time to live


class UpdateProvider(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `identity_provider`: what is left out stays; the domain stays always."""

    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    remote_ids: _Issuers | UnsetType = UNSET
    authorization_ttl: UnsetType | None = UNSET


class ProtocolBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body's `protocol`."""

    mapping_id: str


def _shown(request: Request[Any], one: Provider) -> dict[str, Any]:
    return msgspec.structs.asdict(one) | {"authorization_ttl": None}


PROVIDERS = Noun(
    "identity_provider",
    identity_providers,
    Provider,
    prefix=PREFIX,
    filters=("id",),
    flags=("enabled",),
    shown=_shown,
    called="identity provider",
)


def _body(request: Request[Any], one: Provider) -> dict[str, Any]:
    body = PROVIDERS.body(request, one)
    path = ("OS-FEDERATION", "identity_providers", one.id, "protocols")
    body["identity_provider"]["links"]["protocols"] = answers.link(request, *path)
    return body


def checked_id(id_: str) -> str:
    """An id that a client chose, when it fits into paths and columns."""
    checked_name(id_, "id", 64)
    if "/" in id_:
        raise invalid("Invalid input for field id: it has a slash.")
    return id_


async def create(service: IdentityService, request: Request[CreateProvider]) -> dict[str, Any]:
    """A new provider; without a domain it gets a new one for its users."""
    request.enforce({})
    body, id_ = request.body, checked_id(request.path["identity_provider_id"])
    domain = None
    if body.domain_id is None:
        domain_id = service.world.ids.hex32()
        domain = Domain(domain_id, domain_id, f"Users of the identity provider {id_}.")
    elif await service.db.read(store.get, domains, Domain, body.domain_id) is None:
        raise answers.missing("domain", body.domain_id)
    else:
        domain_id = body.domain_id
        await service.directories.must_be_here(domain_id, "users")
    made = Provider(id_, domain_id, body.description, body.enabled, body.remote_ids)
    taken = f"Conflict occurred attempting to store identity_provider - Duplicate entry found with ID {id_}."
    await service.db.write(federation_store.create_provider, made, domain, taken)
    return _body(request, made)


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One provider."""
    return _body(request, await PROVIDERS.load(service, request))


async def update(service: IdentityService, request: Request[UpdateProvider]) -> dict[str, Any]:
    """Change some of a provider; disabling it ends its users' tokens."""
    found = await PROVIDERS.load(service, request)
    changes = {key: value for key, value in given(request.body).items() if key != "authorization_ttl"}
    await service.change(store.change, identity_providers, found.id, changes)
    return _body(request, msgspec.structs.replace(found, **changes))


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The provider and its users."""
    found = await PROVIDERS.load(service, request)
    await service.change(federation_store.delete_provider, found.id)


def _protocol_body(request: Request[Any], one: Protocol) -> dict[str, Any]:
    path = ("OS-FEDERATION", "identity_providers", one.provider_id)
    links = {
        "self": answers.link(request, *path, "protocols", one.id),
        "identity_provider": answers.link(request, *path),
    }
    return {"id": one.id, "mapping_id": one.mapping_id, "links": links}


async def _protocol(service: IdentityService, request: Request[Any]) -> Protocol:
    provider = await PROVIDERS.load(service, request)
    found = await service.db.read(federation_store.protocols_of, provider.id, request.path["protocol_id"])
    if not found:
        raise answers.missing("federation protocol", request.path["protocol_id"])
    return found[0]


async def _checked_mapping(service: IdentityService, id_: str) -> str:
    if await service.db.read(federation_store.find_mapping, id_) is None:
        raise invalid(f"Invalid input for field protocol.mapping_id: Could not find mapping: {id_[:64]}.")
    return id_


async def create_protocol(service: IdentityService, request: Request[ProtocolBody]) -> dict[str, Any]:
    """A way to come from a provider."""
    provider = await PROVIDERS.load(service, request)
    id_ = checked_id(request.path["protocol_id"])
    made = Protocol(id_, provider.id, await _checked_mapping(service, request.body.mapping_id))
    taken = f"Conflict occurred attempting to store federation_protocol - Duplicate entry found with ID {id_}."
    await service.db.write(store.insert, protocols, made, taken)
    return {"protocol": _protocol_body(request, made)}


async def show_protocol(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One protocol."""
    return {"protocol": _protocol_body(request, await _protocol(service, request))}


async def list_protocols(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The protocols of a provider."""
    provider = await PROVIDERS.load(service, request)
    found = await service.db.read(federation_store.protocols_of, provider.id)
    return answers.collection(request, "protocols", (_protocol_body(request, one) for one in found))


async def update_protocol(service: IdentityService, request: Request[ProtocolBody]) -> dict[str, Any]:
    """Another mapping for it."""
    found = await _protocol(service, request)
    found.mapping_id = await _checked_mapping(service, request.body.mapping_id)
    await service.db.write(federation_store.change_protocol, found.provider_id, found.id, found.mapping_id)
    return {"protocol": _protocol_body(request, found)}


async def delete_protocol(service: IdentityService, request: Request[None]) -> None:
    """Nobody comes that way any more; tokens of who did end."""
    found = await _protocol(service, request)
    await service.change(federation_store.delete_protocol, found.provider_id, found.id)


_MANY, _ONE = PROVIDERS.path, PROVIDERS.one
_PROTOCOLS = f"{_ONE}/protocols"
_PROTOCOL = f"{_PROTOCOLS}/{{protocol_id}}"
_NEW: dict[str, Any] = {"success": 201}


def _route(method: str, path: str, handler: Any, name: str, **more: Any) -> Route:
    return Route(method=method, path=path, handler=handler, policy=f"identity:{name}", **more)


_IDP, _WAY = {"envelope": "identity_provider"}, {"envelope": "protocol", "body": ProtocolBody}
ROUTES: tuple[Route, ...] = (
    _route("PUT", _ONE, create, "create_identity_provider", body=CreateProvider, **_IDP, **_NEW),
    _route("GET", _MANY, PROVIDERS.list_, "list_identity_providers"),
    _route("GET", _ONE, show, "get_identity_provider"),
    _route("PATCH", _ONE, update, "update_identity_provider", body=UpdateProvider, **_IDP),
    _route("DELETE", _ONE, delete, "delete_identity_provider", success=204),
    _route("PUT", _PROTOCOL, create_protocol, "create_protocol", **_WAY, **_NEW),
    _route("GET", _PROTOCOLS, list_protocols, "list_protocols"),
    _route("GET", _PROTOCOL, show_protocol, "get_protocol"),
    _route("PATCH", _PROTOCOL, update_protocol, "update_protocol", **_WAY),
    _route("DELETE", _PROTOCOL, delete_protocol, "delete_protocol", success=204),
)
RULES = (
    rule("create_identity_provider", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _ONE)),
    rule("list_identity_providers", READER, SYSTEM_OR_PROJECT, ("GET", _MANY)),
    rule("get_identity_provider", READER, SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("update_identity_provider", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _ONE)),
    rule("delete_identity_provider", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
    rule("create_protocol", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _PROTOCOL)),
    rule("list_protocols", READER, SYSTEM_OR_PROJECT, ("GET", _PROTOCOLS)),
    rule("get_protocol", READER, SYSTEM_OR_PROJECT, ("GET", _PROTOCOL)),
    rule("update_protocol", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _PROTOCOL)),
    rule("delete_protocol", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _PROTOCOL)),
)
