"""Grants: give, check, list and take back a role of a user or group on a project, a domain or the system.

The same verbs exist for all six pairs, and under /OS-INHERIT for what counts in the projects below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.assignment import store as assignment_store
from kilonova.identity.assignment.store import Assignment
from kilonova.identity.domain.store import Domain
from kilonova.identity.group.store import Group
from kilonova.identity.project.store import Project
from kilonova.identity.role.resource import show_role, target_of
from kilonova.identity.role.store import Role
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import domains, groups, projects, roles, users
from kilonova.identity.user.store import User
from kilonova.policy.personas import SYSTEM_READER
from kilonova.policy.rules import Rule

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

Handler = Callable[[Any, Request[Any]], Awaitable[Any]]


class Kinds(msgspec.Struct, frozen=True):
    """Which of the pairs a route is about."""

    actor: str
    scope: str
    inherited: bool


async def _load(service: IdentityService, request: Request[Any], kinds: Kinds) -> tuple[Assignment, Role | None]:
    """The assignment that the path names, once its parts are found and the caller may."""
    path = request.path
    target: dict[str, Any] = {}
    actor: msgspec.Struct | None
    if kinds.actor == "user":
        actor = await service.db.read(store.get, users, User, path["actor_id"])
    else:
        actor = await service.db.read(store.get, groups, Group, path["actor_id"])
    missing = _into(target, kinds.actor, actor, path["actor_id"])
    if kinds.scope == "project":
        project = await service.db.read(store.get, projects, Project, path["scope_id"])
        missing += _into(target, "project", project, path["scope_id"])
    elif kinds.scope == "domain":
        domain = await service.db.read(store.get, domains, Domain, path["scope_id"])
        missing += _into(target, "domain", domain, path["scope_id"])
    role = None
    if "role_id" in path:
        role = await service.db.read(store.get, roles, Role, path["role_id"])
        missing += _into(target, "role", role, path["role_id"])
        if role is not None:
            target["role"] = target_of(role)
    request.enforce({"target": target})
    if missing:
        raise missing[0]
    scope_id = path.get("scope_id", "all")
    found = Assignment(kinds.actor, path["actor_id"], kinds.scope, scope_id, role.id if role else "", kinds.inherited)
    return found, role


def _into(target: dict[str, Any], noun: str, found: msgspec.Struct | None, id_: str) -> list[Fault]:
    if found is None:
        return [answers.missing(noun, id_)]
    target[noun] = msgspec.structs.asdict(found)
    return []


async def _check_domain_role(service: IdentityService, one: Assignment, role: Role) -> None:
    """FORBIDDEN for a role of one domain on the system, or on a project of another domain."""
    if one.scope == "system":
        raise Fault(Kind.FORBIDDEN, "A role of one domain cannot be given on the system.")
    project = await service.db.read(store.get, projects, Project, one.scope_id) if one.scope == "project" else None
    if project is not None and project.domain_id != role.domain_id:
        raise Fault(
            Kind.FORBIDDEN, f"Project {project.id} must be in the same domain as the role {role.id} being assigned."
        )


def _not_given(one: Assignment) -> Fault:
    return Fault(
        Kind.NOT_FOUND,
        f"Could not find role assignment with role: {one.role_id}, user or group: {one.actor_id}, "
        f"project, domain, or system: {one.scope_id}.",
    )


def _verbs(kinds: Kinds) -> tuple[Handler, Handler, Handler, Handler]:
    async def give(service: IdentityService, request: Request[None]) -> None:
        one, role = await _load(service, request, kinds)
        if role is not None and role.domain_id:
            await _check_domain_role(service, one, role)
        await service.change(assignment_store.give, one)

    async def check(service: IdentityService, request: Request[None]) -> None:
        one, _ = await _load(service, request, kinds)
        if not await service.db.read(assignment_store.is_given, one):
            raise _not_given(one)

    async def take(service: IdentityService, request: Request[None]) -> None:
        one, _ = await _load(service, request, kinds)
        if not await service.change(assignment_store.take, one):
            raise _not_given(one)

    async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
        one, _ = await _load(service, request, kinds)
        ids = await service.db.read(assignment_store.role_ids, one)
        found = await service.db.read(store.listed, roles, Role, ids=ids)
        return answers.collection(request, "roles", (show_role(request, role) for role in found))

    return give, check, take, list_


def _routes(kinds: Kinds) -> tuple[Route, ...]:
    actor, scope = kinds.actor, kinds.scope
    where = "/v3/system" if scope == "system" else f"/v3/{scope}s/{{scope_id}}"
    if kinds.inherited:
        where = where.replace("/v3/", "/v3/OS-INHERIT/")
    many = f"{where}/{actor}s/{{actor_id}}/roles"
    one = f"{many}/{{role_id}}"
    if kinds.inherited:
        one, many = f"{one}/inherited_to_projects", f"{many}/inherited_to_projects"
    suffix = f"system_grant{{}}_for_{actor}" if scope == "system" else "grant{}"
    give, check, take, list_ = _verbs(kinds)
    single = suffix.format("")
    return (
        Route(method="PUT", path=one, handler=give, policy=f"identity:create_{single}", success=204),
        Route(method="GET", path=one, handler=check, policy=f"identity:check_{single}", success=204),
        Route(method="DELETE", path=one, handler=take, policy=f"identity:revoke_{single}", success=204),
        Route(method="GET", path=many, handler=list_, policy=f"identity:list_{suffix.format('s')}"),
    )


ROUTES: tuple[Route, ...] = tuple(
    route
    for actor in ("user", "group")
    for scope, inherited in (
        ("project", False),
        ("domain", False),
        ("system", False),
        ("project", True),
        ("domain", True),
    )
    for route in _routes(Kinds(actor, scope, inherited))
)


def _within(role: str) -> str:
    """Whoever has `role` on the domain that the actor and the scope both belong to."""
    pairs = [
        f"(role:{role} and domain_id:%(target.{actor}.domain_id)s and domain_id:%(target.{scope})s)"
        for actor in ("user", "group")
        for scope in ("project.domain_id", "domain.id")
    ]
    return " or ".join(pairs)


_ROLE_MATCHES = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
_CHECKS = f"({ADMIN}) or ({SYSTEM_READER}) or (({_within('reader')}) and {_ROLE_MATCHES})"
_GIVES = (
    f"({ADMIN}) or (({_within('admin')}) and {_ROLE_MATCHES}) or "
    f"(({_within('manager')}) and rule:domain_managed_target_role)"
)
_PATH = "/v3/{scope}s/{scope_id}/{actor}s/{actor_id}/roles"


def _system_rules(actor: str) -> tuple[Rule, ...]:
    many = f"/v3/system/{actor}s/{{{actor}_id}}/roles"
    one = f"{many}/{{role_id}}"
    return (
        rule(f"list_system_grants_for_{actor}", READER, SYSTEM_OR_PROJECT, ("GET", many)),
        rule(f"check_system_grant_for_{actor}", READER, SYSTEM_OR_PROJECT, ("GET", one), ("HEAD", one)),
        rule(f"create_system_grant_for_{actor}", ADMIN, SYSTEM_OR_PROJECT, ("PUT", one)),
        rule(f"revoke_system_grant_for_{actor}", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", one)),
    )


RULES: tuple[Rule, ...] = (
    rule("check_grant", _CHECKS, ANYWHERE, ("GET", f"{_PATH}/{{role_id}}"), ("HEAD", f"{_PATH}/{{role_id}}")),
    rule("list_grants", f"({ADMIN}) or ({SYSTEM_READER}) or {_within('reader')}", ANYWHERE, ("GET", _PATH)),
    rule("create_grant", _GIVES, ANYWHERE, ("PUT", f"{_PATH}/{{role_id}}")),
    rule("revoke_grant", _GIVES, ANYWHERE, ("DELETE", f"{_PATH}/{{role_id}}")),
    *_system_rules("user"),
    *_system_rules("group"),
)
