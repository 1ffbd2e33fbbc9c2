"""Domains over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.domain.store import Domain
from kilonova.identity.domain.store import delete as delete_domain
from kilonova.identity.names import checked_name
from kilonova.identity.revoking import revoke_tokens
from kilonova.identity.rules import ANYWHERE, READER, admin_crud, rule
from kilonova.identity.schema import domains

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateDomain(msgspec.Struct):
    """The body's `domain`."""

    name: str
    description: str | None = None
    enabled: bool = True
    explicit_domain_id: str = ""


class UpdateDomain(msgspec.Struct):
    """The body's `domain`: what is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


def show_domain(request: Request[Any], domain: Domain) -> dict[str, Any]:
    """A domain as clients see it."""
    shown = msgspec.structs.asdict(domain) | {"tags": [], "options": {}}
    return answers.linked(request, "domains", shown)


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store domain - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[CreateDomain]) -> dict[str, Any]:
    """A new domain."""
    request.enforce({})
    body = request.body
    name = checked_name(body.name, "domain.name", 64)
    domain = Domain(body.explicit_domain_id or service.world.ids.hex32(), name, body.description or "", body.enabled)
    await service.db.write(store.insert, domains, domain, _taken(name))
    return {"domain": show_domain(request, domain)}


async def _load(service: IdentityService, request: Request[Any]) -> Domain:
    id_ = request.path["domain_id"]
    domain = await service.db.read(store.get, domains, Domain, id_)
    request.enforce({"target": {"domain": msgspec.structs.asdict(domain)}} if domain else {})
    if domain is None:
        raise answers.missing("domain", id_)
    return domain


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One domain."""
    return {"domain": show_domain(request, await _load(service, request))}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Domains; with a token of a domain, that one."""
    own = request.caller.domain_id
    request.enforce({"target": {"domain": {"id": own}}} if own else {})
    found = await service.db.read(
        store.listed,
        domains,
        Domain,
        answers.filters(request, "name", "id", flags=("enabled",)),
        [own] if own and "admin" not in request.caller.roles else None,
    )
    return answers.collection(request, "domains", (show_domain(request, one) for one in found))


async def update(service: IdentityService, request: Request[UpdateDomain]) -> dict[str, Any]:
    """Change some of a domain; disabling it revokes the tokens of its users and projects."""
    domain = await _load(service, request)
    changes = given(request.body)
    if "name" in changes:
        checked_name(changes["name"], "domain.name", 64)
    if changes.get("description", "") is None:
        changes["description"] = ""
    if changes.get("enabled") is False and domain.id == "default":
        raise forbidden("The default domain cannot be disabled.")
    await service.change(store.change, domains, domain.id, changes, _taken(changes.get("name", "")))
    if changes.get("enabled") is False:
        await revoke_tokens(service, "domain", domain.id)
    return {"domain": show_domain(request, msgspec.structs.replace(domain, **changes))}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The domain with its users and groups, once it is disabled and has no projects."""
    domain = await _load(service, request)
    if domain.enabled:
        raise forbidden(
            "Cannot delete a domain that is enabled, please disable it first.", hint="PATCH it with enabled=false."
        )
    await service.change(delete_domain, domain.id)


_PATH = "/v3/domains"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_PATH,
        handler=create,
        policy="identity:create_domain",
        body=CreateDomain,
        envelope="domain",
        success=201,
    ),
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_domains"),
    Route(method="GET", path=f"{_PATH}/{{domain_id}}", handler=show, policy="identity:get_domain"),
    Route(
        method="PATCH",
        path=f"{_PATH}/{{domain_id}}",
        handler=update,
        policy="identity:update_domain",
        body=UpdateDomain,
        envelope="domain",
    ),
    Route(method="DELETE", path=f"{_PATH}/{{domain_id}}", handler=delete, policy="identity:delete_domain", success=204),
)
_USER_OF = "token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s"
RULES = (
    rule("get_domain", f"{READER} or {_USER_OF}", ANYWHERE, ("GET", f"{_PATH}/{{domain_id}}")),
    rule("list_domains", f"{READER} or (role:reader and domain_id:%(target.domain.id)s)", ANYWHERE, ("GET", _PATH)),
    *admin_crud("domain", _PATH)[2:],
)
