"""Users over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.clock import iso_micros
from kilonova.base.faults import Fault, Kind, forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given, with_extra
from kilonova.identity.domain.store import Domain
from kilonova.identity.group.resource import GROUPS
from kilonova.identity.group.resource import SEES as SEES_GROUP
from kilonova.identity.group.store import members
from kilonova.identity.ldap import refresh
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun, Target
from kilonova.identity.project.resource import PROJECTS
from kilonova.identity.revoking import Revoked, change_and_revoke
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, READER_OR_DOMAIN_READER, rule
from kilonova.identity.schema import domains, users
from kilonova.identity.token import scope_store
from kilonova.identity.user import compliance, password
from kilonova.identity.user import store as user_store
from kilonova.identity.user.store import NewUser, User
from kilonova.policy.personas import SYSTEM_READER

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class UserBody(msgspec.Struct):
    """{"user": …}; unknown keys in it are kept."""

    user: dict[str, Any]


class CreateUser(msgspec.Struct):
    """The known keys of a new user."""

    name: str
    domain_id: str | None = None
    password: str | None = None
    enabled: bool = True
    default_project_id: str | None = None
    options: dict[str, Any] = {}


class UpdateUser(msgspec.Struct):
    """The known keys of a change: what is left out stays."""

    name: str | UnsetType = UNSET
    domain_id: str | UnsetType = UNSET
    password: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    default_project_id: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET


def _shown(request: Request[Any], user: User) -> dict[str, Any]:
    """Never its password."""
    expires_at = user.password_expires_at
    shown = {
        **user.extra,
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": iso_micros(expires_at) if expires_at else None,
        "options": user.options,
    }
    if user.default_project_id is not None:
        shown["default_project_id"] = user.default_project_id
    return shown


def _target(name: str, user: User | None) -> Target:
    if user is None:
        return {}
    return {"target": {"user": {"id": user.id, "domain_id": user.domain_id}}, "user_id": user.id}


USERS = Noun("user", users, User, target=_target, shown=_shown)


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store user - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[UserBody]) -> dict[str, Any]:
    """A new user in the domain asked for, or the token's."""
    body, extra = with_extra(request.body.user, CreateUser, "user")
    caller = request.caller
    domain_id = body.domain_id or caller.domain_id or caller.project_domain_id or "default"
    request.enforce({"target": {"user": {"domain_id": body.domain_id}}} if body.domain_id else {})
    name = checked_name(body.name, "user.name")
    if await service.db.read(store.get, domains, Domain, domain_id) is None:
        raise Fault(Kind.NOT_FOUND, f"Could not find domain: {domain_id[:64]}.", hint="Name a domain that exists.")
    await service.directories.must_be_here(domain_id, "users")
    options = {key: value for key, value in compliance.checked_options(body.options).items() if value is not None}
    secret = await compliance.new_password(service, body.password, by_admin=True)
    user = NewUser(
        service.world.ids.hex32(),
        domain_id,
        name,
        body.enabled,
        body.default_project_id,
        options,
        extra,
        secret.expires_at,
        password_hash=secret.password_hash,
        password_set_at=secret.set_at,
    )
    await service.db.write(store.insert, users, user, _taken(name))
    return USERS.body(request, user)


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Users by name, domain, enabled; with a token of a domain, those in it."""
    own = request.caller.domain_id
    request.enforce({"target": {"domain_id": own}} if own else {})
    wanted = answers.filters(request, "name", "domain_id", "id", flags=("enabled",))
    if own:
        wanted.append(("domain_id", "equals", own))
    await refresh.listed(service, "user", own or request.query.get("domain_id"), request.query.get("name"))
    found = await service.db.read(store.listed, users, User, wanted)
    return answers.collection(request, "users", (USERS.view(request, one) for one in found))


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One user, as it is now where it is kept."""
    user = await USERS.load(service, request)
    if await refresh.user(service, user.id):
        user = await USERS.find(service, user.id) or user
    return USERS.body(request, user)


async def update(service: IdentityService, request: Request[UserBody]) -> dict[str, Any]:
    """Change some of a user; a new password, or disabling it, revokes its tokens."""
    user = await USERS.load(service, request)
    await refresh.must_be_here(service, "user", user.id)
    body, extra = with_extra(request.body.user, UpdateUser, "user")
    changes = given(body)
    if changes.pop("domain_id", user.domain_id) != user.domain_id:
        raise forbidden("The domain of a user cannot be changed.")
    if "name" in changes:
        checked_name(changes["name"], "user.name")
    written = {key: value for key, value in changes.items() if key != "password"}
    if extra:
        written["extra"] = user.extra | extra
    if "options" in written:
        merged = user.options | compliance.checked_options(written["options"])
        written["options"] = {key: value for key, value in merged.items() if value is not None}
    changed = msgspec.structs.replace(user, **written)
    new = await compliance.new_password(service, changes["password"], by_admin=True) if "password" in changes else None
    revoked: Revoked | None = None if changed.enabled else ("user", user.id)
    await change_and_revoke(service, revoked, store.change, users, user.id, written, _taken(changed.name))
    if new is not None:
        await password.write(service, user.id, new)
        changed.password_expires_at = new.expires_at
    return USERS.body(request, changed)


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The user is gone, and its tokens and application credentials with it."""
    user = await USERS.load(service, request)
    await refresh.must_be_here(service, "user", user.id, gone_too=True)
    await service.change(user_store.delete, user.id)


async def list_groups(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Groups that the user is in."""
    user = await USERS.load(service, request)
    await refresh.user(service, user.id)
    found = await service.db.read(user_store.groups_of, user.id)
    if own := request.caller.domain_id:
        found = [one for one in found if one.domain_id == own]
    return answers.collection(request, "groups", (GROUPS.view(request, one) for one in found))


async def list_projects(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Projects where the user has a role."""
    user = await USERS.load(service, request)
    found = await service.db.read(scope_store.projects_of, user.id)
    return answers.collection(request, "projects", (PROJECTS.view(request, one) for one in found))


async def list_members(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Users in a group."""
    group = await GROUPS.load(service, request)
    await refresh.group(service, group.id)
    wanted = answers.filters(request, "name", "domain_id", flags=("enabled",))
    if own := request.caller.domain_id:
        wanted.append(("domain_id", "equals", own))
    found = await service.db.read(store.listed, users, User, wanted, members(group.id))
    return answers.collection(request, "users", (USERS.view(request, one) for one in found))


_ONE = USERS.one
_MEMBERS = "/v3/groups/{group_id}/users"
ROUTES: tuple[Route, ...] = (
    Route(method="POST", path=USERS.path, handler=create, policy="identity:create_user", body=UserBody, success=201),
    Route(method="GET", path=USERS.path, handler=list_, policy="identity:list_users"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_user"),
    Route(method="PATCH", path=_ONE, handler=update, policy="identity:update_user", body=UserBody),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_user", success=204),
    Route(method="GET", path=f"{_ONE}/groups", handler=list_groups, policy="identity:list_groups_for_user"),
    Route(method="GET", path=f"{_ONE}/projects", handler=list_projects, policy="identity:list_user_projects"),
    Route(method="GET", path=_MEMBERS, handler=list_members, policy="identity:list_users_in_group"),
    *password.ROUTES,
)
_SEES = (
    f"({ADMIN}) or ({SYSTEM_READER}) or (role:reader and token.domain.id:%(target.user.domain_id)s) or "
    "user_id:%(target.user.id)s"
)
_CHANGES = f"({ADMIN}) or (role:manager and token.domain.id:%(target.user.domain_id)s)"
_OF_USER = f"{READER} or (role:reader and domain_id:%(target.user.domain_id)s)"
RULES = (
    *(one for one in USERS.rules(_SEES, _CHANGES, ANYWHERE) if one.name != "identity:list_users"),
    rule("list_users", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", USERS.path)),
    rule("list_groups_for_user", f"{_OF_USER} or user_id:%(user_id)s", ANYWHERE, ("GET", f"{_ONE}/groups")),
    rule("list_user_projects", f"{_OF_USER} or user_id:%(target.user.id)s", ANYWHERE, ("GET", f"{_ONE}/projects")),
    rule("list_users_in_group", SEES_GROUP, ANYWHERE, ("GET", _MEMBERS)),
)
