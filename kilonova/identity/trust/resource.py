"""Trusts over HTTP (OS-TRUST): made by the trustor with a token of its own, or redelegated with a token of a trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from kilonova.base.clock import iso_micros_z
from kilonova.base.faults import Fault, Kind, forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.application_credential.resource import RoleName
from kilonova.identity.bodies import moment_of
from kilonova.identity.noun import Noun, Target
from kilonova.identity.role.resource import show_role
from kilonova.identity.role.store import Role
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import roles, trusts
from kilonova.identity.token.delegated import may_manage_credentials, must_not_be_delegated
from kilonova.identity.token.roles_store import roles_of
from kilonova.identity.trust import store as trust_store
from kilonova.identity.trust.redelegation import Redelegation, within
from kilonova.identity.trust.store import Trust
from kilonova.identity.user.resource import USERS

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateTrust(msgspec.Struct):
    """The body's `trust`."""

    trustor_user_id: str
    trustee_user_id: str
    impersonation: bool
    project_id: str | None = None
    roles: list[RoleName] = []
    expires_at: str | None = None
    remaining_uses: Annotated[int, Meta(ge=1, le=0x7FFFFFFF)] | None = None
    allow_redelegation: bool = False
    redelegation_count: Annotated[int, Meta(ge=0, le=1000)] | None = None


def _target(name: str, trust: Trust | None) -> Target:
    if trust is None:
        return {}
    who = {"trustor_user_id": trust.trustor_user_id, "trustee_user_id": trust.trustee_user_id}
    return {"target": {"trust": {**who, "project_id": trust.project_id}}}


def _shown(request: Request[Any], trust: Trust) -> dict[str, Any]:
    shown = msgspec.structs.asdict(trust) | {
        "expires_at": iso_micros_z(trust.expires_at) if trust.expires_at else None,
        "deleted_at": None,
    }
    del shown["role_ids"]
    return shown


TRUSTS = Noun(
    "trust",
    trusts,
    Trust,
    prefix="/v3/OS-TRUST",
    target=_target,
    shown=_shown,
    admits_absence=("GET", "HEAD", "DELETE"),
)


async def _roles(service: IdentityService, trust: Trust) -> list[Role]:
    return await service.db.read(store.listed, roles, Role, ids=trust.role_ids)


async def _body(service: IdentityService, request: Request[Any], trust: Trust) -> dict[str, Any]:
    shown = TRUSTS.view(request, trust)
    shown["roles"] = [show_role(request, role) for role in await _roles(service, trust)]
    where = answers.link(request, "OS-TRUST", "trusts", trust.id, "roles")
    shown["roles_links"] = {"self": where, "next": None, "previous": None}
    return {"trust": shown}


async def create(service: IdentityService, request: Request[CreateTrust]) -> dict[str, Any]:
    """A new trust; with a token of a trust, a further one within what that allows."""
    body = request.body
    request.enforce({"trust": {"trustor_user_id": body.trustor_user_id, "project_id": body.project_id}})
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    for field in ("trustor_user_id", "trustee_user_id"):
        if await USERS.find(service, getattr(body, field)) is None:
            raise answers.missing("user", getattr(body, field))
    parent = await service.db.read(trust_store.get, token.payload.trust_id) if token.payload.trust_id else None
    asked = Redelegation(body.allow_redelegation, body.redelegation_count, service.settings.trust_redelegations_maximum)
    trust = Trust(
        service.world.ids.hex32(),
        body.trustor_user_id,
        body.trustee_user_id,
        body.project_id,
        body.impersonation,
        await _role_ids(service, body, parent),
        moment_of(body.expires_at, "trust.expires_at") if body.expires_at else None,
        body.remaining_uses,
        parent.id if parent else None,
        asked.count(parent),
    )
    if body.remaining_uses is not None and trust.redelegation_count:
        raise invalid("Invalid input for field trust.remaining_uses: not for a trust that may be redelegated.")
    if trust.expires_at is not None and trust.expires_at <= service.world.clock.now():
        raise invalid("Invalid input for field trust.expires_at: it has passed.")
    if parent is not None:
        within(parent, trust)
    await service.db.write(store.insert, trusts, trust, f"Trust {trust.id} exists already.")
    return await _body(service, request, trust)


async def _role_ids(service: IdentityService, body: CreateTrust, parent: Trust | None) -> list[str]:
    """Ids of the roles, which the (first) trustor must hold on the project. FORBIDDEN for none, or one it lacks."""
    if body.project_id is None:
        if body.roles:
            raise forbidden("Roles are delegated on a project: name it.")
        return []
    if not body.roles:
        raise forbidden("At least one role should be specified.")
    trustor = await service.db.read(trust_store.first_trustor, parent) if parent else body.trustor_user_id
    held = {role.id: role.name for role in await service.db.read(roles_of, trustor, "project", body.project_id)}
    by_name = {name: id_ for id_, name in held.items()}
    found = []
    for role in body.roles:
        id_ = role.id or by_name.get(role.name, "")
        if id_ not in held:
            raise Fault(Kind.NOT_FOUND, f"Could not find role {role.id or role.name} of the trustor on the project.")
        found.append(id_)
    return list(dict.fromkeys(found))


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Trusts that a user gave (`trustor_user_id`) or got (`trustee_user_id`); all of them for administrators."""
    query = request.query
    trustor, trustee = query.get("trustor_user_id") or "", query.get("trustee_user_id") or ""
    target = {"target": {"trust": {"trustor_user_id": trustor, "trustee_user_id": trustee}}}
    if trustor:
        request.enforce(target, "identity:list_trusts_for_trustor")
    if trustee:
        request.enforce(target, "identity:list_trusts_for_trustee")
    if not trustor and not trustee:
        request.enforce({})
    found = await service.db.read(trust_store.listed, trustor, trustee)
    now = service.world.clock.now()
    shown = (TRUSTS.view(request, one) for one in found if not one.has_passed(now))
    return answers.collection(request, "trusts", shown)


async def _load(service: IdentityService, request: Request[Any]) -> Trust:
    trust = await TRUSTS.load(service, request)
    if trust.has_passed(service.world.clock.now()):
        raise answers.missing("trust", trust.id)
    return trust


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One trust with its roles."""
    return await _body(service, request, await _load(service, request))


async def list_roles(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The roles that a trust delegates."""
    found = await _roles(service, await _load(service, request))
    return answers.collection(request, "roles", (show_role(request, role) for role in found))


async def show_role_of(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Whether the trust delegates the role."""
    for role in await _roles(service, await _load(service, request)):
        if role.id == request.path["role_id"]:
            return {"role": show_role(request, role)}
    raise answers.missing("role", request.path["role_id"])


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The trust, those made with it, and all their tokens."""
    trust = await TRUSTS.load(service, request)
    token = await service.tokens.validate(request.caller.token)
    may_manage_credentials(token)
    if trust.redelegated_trust_id != (token.payload.trust_id or trust.redelegated_trust_id):
        must_not_be_delegated(token, "end trusts that were not made with it")
    await service.change(store.remove, trusts, trust.id)


_ROLES = f"{TRUSTS.one}/roles"
_ROLE = f"{_ROLES}/{{role_id}}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=TRUSTS.path,
        handler=create,
        policy="identity:create_trust",
        body=CreateTrust,
        envelope="trust",
        success=201,
    ),
    Route(method="GET", path=TRUSTS.path, handler=list_, policy="identity:list_trusts"),
    Route(method="GET", path=TRUSTS.one, handler=show, policy="identity:get_trust"),
    Route(method="DELETE", path=TRUSTS.one, handler=delete, policy="identity:delete_trust", success=204),
    Route(method="GET", path=_ROLES, handler=list_roles, policy="identity:list_roles_for_trust"),
    Route(method="GET", path=_ROLE, handler=show_role_of, policy="identity:get_role_for_trust"),
)
_TRUSTOR = "user_id:%(target.trust.trustor_user_id)s"
_TRUSTEE = "user_id:%(target.trust.trustee_user_id)s"
_EITHER = f"({READER}) or {_TRUSTOR} or {_TRUSTEE}"
RULES = (
    rule("create_trust", "user_id:%(trust.trustor_user_id)s", ("project",), ("POST", TRUSTS.path)),
    rule("list_trusts", READER, SYSTEM_OR_PROJECT, ("GET", TRUSTS.path)),
    rule(
        "list_trusts_for_trustor",
        f"({READER}) or {_TRUSTOR}",
        SYSTEM_OR_PROJECT,
        ("GET", f"{TRUSTS.path}?trustor_user_id"),
    ),
    rule(
        "list_trusts_for_trustee",
        f"({READER}) or {_TRUSTEE}",
        SYSTEM_OR_PROJECT,
        ("GET", f"{TRUSTS.path}?trustee_user_id"),
    ),
    rule("get_trust", _EITHER, SYSTEM_OR_PROJECT, ("GET", TRUSTS.one), ("HEAD", TRUSTS.one)),
    rule("list_roles_for_trust", _EITHER, SYSTEM_OR_PROJECT, ("GET", _ROLES), ("HEAD", _ROLES)),
    rule("get_role_for_trust", _EITHER, SYSTEM_OR_PROJECT, ("GET", _ROLE), ("HEAD", _ROLE)),
    rule("delete_trust", f"{ADMIN} or {_TRUSTOR}", SYSTEM_OR_PROJECT, ("DELETE", TRUSTS.one)),
)
