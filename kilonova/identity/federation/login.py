"""The login by federation: an access token of the provider comes in, an unscoped token of ours goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.base.faults import unauthenticated
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.identity.federation import store as federation_store
from kilonova.identity.federation.oidc import claims_of
from kilonova.identity.federation.provider import PREFIX
from kilonova.identity.federation.rules import LocalGroup, LocalUser, Mapped, apply, checked_rules
from kilonova.identity.federation.store import Door
from kilonova.identity.names import checked_name
from kilonova.identity.token import resource as token_resource
from kilonova.identity.token.bodies import DomainName
from kilonova.identity.token.delegated import new_audit_id
from kilonova.identity.token.payload import Payload
from kilonova.identity.user.store import NewUser

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_BEARER = "bearer "


async def create(service: IdentityService, request: Request[None]) -> Answer:
    """An unscoped token for the holder of an access token; what it may do is what the mapping names."""
    header = request.headers.get("authorization", "")
    provider_id, protocol_id = request.path["identity_provider_id"], request.path["protocol_id"]
    door = await service.db.read(federation_store.find_door, provider_id, protocol_id)
    if door is None or header[: len(_BEARER)].lower() != _BEARER:
        raise unauthenticated(inside="no such provider or protocol, a disabled one, or no access token")
    claims = await claims_of(service, header[len(_BEARER) :].strip(), door.provider.remote_ids)
    mapped = apply(checked_rules(door.rules), claims)
    if mapped.user is None or not (mapped.user.name or mapped.user.id):
        raise unauthenticated(inside="no rule of the mapping makes a user of these claims")
    user_id = await _admit(service, door, mapped, mapped.user)
    issued_at, expires_at = service.tokens.lifetime()
    payload = Payload(user_id, "", "", ("mapped",), issued_at, expires_at, (new_audit_id(service),))
    token, made = await service.tokens.issue(payload)
    return Answer(made.full, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"})


async def _admit(service: IdentityService, door: Door, mapped: Mapped, user: LocalUser) -> str:
    """The id of the user here, with the groups and projects that the mapping gives."""
    domain = user.domain or DomainName(id=door.provider.domain_id)
    if user.type == "local":
        found = await service.db.read(federation_store.find_local, user.id, user.name, domain.id, domain.name)
        if found is None:
            raise unauthenticated(inside="the mapping names a local user that is not there, or disabled")
        return found
    name = checked_name(user.name or user.id, "user.name")
    extra = {"email": user.email} if user.email else {}
    id_, domain_id = service.world.ids.hex32(), door.provider.domain_id
    new = NewUser(id_, domain_id, name, extra=extra, password_hash="")
    groups = {await _group(service, group) for group in mapped.groups} - {""}
    user_id = await service.db.write(federation_store.take_in, door, (user.id or user.name)[:255], new, groups)
    for project in mapped.projects:
        if not project.name:
            continue
        name, new_id = checked_name(project.name, "project.name", 64), service.world.ids.hex32()
        project_id = await service.db.write(federation_store.give_project, domain_id, new_id, name)
        for role in project.roles:
            await service.db.write(federation_store.give_role, user_id, project_id, role.name)
    service.tokens.forget()  # the units say themselves whether tokens changed: most logins change nothing
    return user_id


async def _group(service: IdentityService, wanted: LocalGroup) -> str:
    """The id of a group here; "" when there is none of that name: the provider knows groups that the cloud does not."""
    domain = wanted.domain or DomainName()
    if not wanted.id and not (wanted.name and (domain.id or domain.name)):
        return ""
    found = await service.db.read(federation_store.find_group, wanted.id, wanted.name, domain.id, domain.name)
    return found or ""


_AUTH = f"{PREFIX}/identity_providers/{{identity_provider_id}}/protocols/{{protocol_id}}/auth"
_OPEN = "the provider's access token says who it is"
ROUTES: tuple[Route, ...] = (
    Route(method="POST", path=_AUTH, handler=create, needs_token=False, open_because=_OPEN, success=201),
    Route(method="GET", path=_AUTH, handler=create, needs_token=False, open_because=_OPEN, success=201),
    Route(
        method="GET",
        path=f"{PREFIX}/projects",
        handler=token_resource.projects,
        policy="identity:get_auth_projects",
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/domains",
        handler=token_resource.domains,
        policy="identity:get_auth_domains",
    ),
)
RULES = ()
