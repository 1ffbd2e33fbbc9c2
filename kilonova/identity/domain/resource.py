"""Domains over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden
from kilonova.http.request import Request
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.domain.store import Domain
from kilonova.identity.domain.store import delete as delete_rows
from kilonova.identity.immutable import check_changeable, merged_options
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun, within
from kilonova.identity.revoking import Revoked, change_and_revoke
from kilonova.identity.rules import ANYWHERE, READER, rule
from kilonova.identity.schema import domains

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateDomain(msgspec.Struct):
    """The body's `domain`."""

    name: str
    description: str | None = None
    enabled: bool = True
    explicit_domain_id: str = ""
    options: dict[str, Any] = {}


class UpdateDomain(msgspec.Struct):
    """The body's `domain`: what is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET


def _shown(request: Request[Any], domain: Domain) -> dict[str, Any]:
    return msgspec.structs.asdict(domain) | {"tags": [], "options": domain.options or {}}


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store domain - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[CreateDomain]) -> dict[str, Any]:
    """A new domain."""
    request.enforce({})
    body = request.body
    name = checked_name(body.name, "domain.name", 64)
    id_ = body.explicit_domain_id or service.world.ids.hex32()
    options = merged_options({}, body.options, "domain")
    domain = Domain(id_, name, body.description or "", body.enabled, options)
    await service.db.write(store.insert, domains, domain, _taken(name))
    return DOMAINS.body(request, domain)


DOMAINS = Noun("domain", domains, Domain, target=within, shown=_shown, admits_absence=("PATCH",))


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Domains; with a token of a domain, that one."""
    own = request.caller.domain_id
    request.enforce({"target": {"domain": {"id": own}}} if own else {})
    found = await service.db.read(
        store.listed,
        domains,
        Domain,
        answers.filters(request, "name", "id", flags=("enabled",)),
        [own] if own else None,
    )
    return answers.collection(request, "domains", (DOMAINS.view(request, one) for one in found))


async def update(service: IdentityService, request: Request[UpdateDomain]) -> dict[str, Any]:
    """Change some of a domain; disabling it revokes the tokens of its users and projects."""
    domain = await DOMAINS.load(service, request)
    changes = given(request.body)
    check_changeable("Domain", domain.id, domain.options, changes)
    if "options" in changes:
        changes["options"] = merged_options(domain.options, changes["options"], "domain")
    if "name" in changes:
        checked_name(changes["name"], "domain.name", 64)
    if changes.get("description", "") is None:
        changes["description"] = ""
    if changes.get("enabled") is False and domain.id == "default":
        raise forbidden("The default domain cannot be disabled.")
    revoked: Revoked | None = ("domain", domain.id) if changes.get("enabled") is False else None
    taken = _taken(changes.get("name", ""))
    await change_and_revoke(service, revoked, store.change, domains, domain.id, changes, taken)
    return DOMAINS.body(request, msgspec.structs.replace(domain, **changes))


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The domain with its users, groups and projects, once it is disabled."""
    await delete_domain(service, await DOMAINS.load(service, request))


async def delete_domain(service: IdentityService, domain: Domain) -> None:
    """The same, once it is found."""
    check_changeable("Domain", domain.id, domain.options, {})
    if domain.enabled:
        raise forbidden(
            "Cannot delete a domain that is enabled, please disable it first.", hint="PATCH it with enabled=false."
        )
    await service.change(delete_rows, domain.id)


ROUTES = DOMAINS.routes(create, update, (CreateDomain, UpdateDomain), list_=list_, delete=delete)
_USER_OF = "token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s"
_READER_OF = "(role:reader and domain_id:%(target.domain.id)s)"
RULES = (
    rule("get_domain", f"{READER} or {_USER_OF}", ANYWHERE, ("GET", DOMAINS.one)),
    rule(
        "list_domains", f"{READER} or (role:reader and domain_id:%(target.domain.id)s)", ANYWHERE, ("GET", DOMAINS.path)
    ),
    *DOMAINS.rules()[2:],
)
