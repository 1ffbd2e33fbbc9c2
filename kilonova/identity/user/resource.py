"""Users over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import Fault, Kind, forbidden, invalid, unauthenticated
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given, with_extra
from kilonova.identity.domain.store import Domain
from kilonova.identity.group.resource import SEES as SEES_GROUP
from kilonova.identity.group.resource import load_group, show_group
from kilonova.identity.group.store import members
from kilonova.identity.names import checked_name
from kilonova.identity.project.resource import show_project
from kilonova.identity.revoking import revoke_tokens
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, READER_OR_DOMAIN_READER, rule
from kilonova.identity.schema import domains, users
from kilonova.identity.token import scope_store
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


class ChangePassword(msgspec.Struct):
    """The body's `user`."""

    original_password: str
    password: str


def show_user(request: Request[Any], user: User) -> dict[str, Any]:
    """A user as clients see it; never its password."""
    shown = {
        **user.extra,
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "password_expires_at": None,
        "options": user.options,
    }
    if user.default_project_id is not None:
        shown["default_project_id"] = user.default_project_id
    return answers.linked(request, "users", shown)


def _target(user: User) -> dict[str, Any]:
    return {"target": {"user": {"id": user.id, "domain_id": user.domain_id}}, "user_id": user.id}


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store user - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[UserBody]) -> dict[str, Any]:
    """A new user in the domain asked for, or the token's."""
    body, extra = with_extra(request.body.user, CreateUser, "user")
    caller = request.caller
    domain_id = body.domain_id or caller.domain_id or caller.project_domain_id or "default"
    request.enforce({"target": {"user": {"domain_id": domain_id}}})
    name = checked_name(body.name, "user.name")
    if await service.db.read(store.get, domains, Domain, domain_id) is None:
        raise Fault(Kind.NOT_FOUND, f"Could not find domain: {domain_id[:64]}.", hint="Name a domain that exists.")
    hashed = await service.passwords.hash(body.password) if body.password is not None else ""
    user = NewUser(
        service.world.ids.hex32(),
        domain_id,
        name,
        body.enabled,
        body.default_project_id,
        body.options,
        extra,
        password_hash=hashed,
    )
    await service.db.write(store.insert, users, user, _taken(name))
    return {"user": show_user(request, user)}


async def _load(service: IdentityService, request: Request[Any]) -> User:
    id_ = request.path["user_id"]
    user = await service.db.read(store.get, users, User, id_)
    request.enforce(_target(user) if user else {})
    if user is None:
        raise answers.missing("user", id_)
    return user


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One user."""
    return {"user": show_user(request, await _load(service, request))}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Users by name, domain, enabled; with a token of a domain, those in it."""
    own = request.caller.domain_id
    request.enforce({"target": {"domain_id": own}} if own else {})
    wanted = answers.filters(request, "name", "domain_id", "id", flags=("enabled",))
    if own:
        wanted.append(("domain_id", "equals", own))
    found = await service.db.read(store.listed, users, User, wanted)
    return answers.collection(request, "users", (show_user(request, one) for one in found))


async def update(service: IdentityService, request: Request[UserBody]) -> dict[str, Any]:
    """Change some of a user; a new password, or disabling it, revokes its tokens."""
    user = await _load(service, request)
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
        merged = user.options | written["options"]
        written["options"] = {key: value for key, value in merged.items() if value is not None}
    changed = msgspec.structs.replace(user, **written)
    if "password" in changes:
        password = changes["password"]
        written["password_hash"] = await service.passwords.hash(password) if password is not None else ""
    await service.change(store.change, users, user.id, written, _taken(changed.name))
    if "password" in changes or not changed.enabled:
        await revoke_tokens(service, "user", user.id)
    return {"user": show_user(request, changed)}


async def change_password(service: IdentityService, request: Request[ChangePassword]) -> None:
    """A new password for who knows the old one; all tokens got so far are revoked."""
    user_id, body = request.path["user_id"], request.body
    user = await service.db.read(store.get, users, User, user_id)
    right = await service.passwords.matches(
        body.original_password, await service.db.read(user_store.password_of, user_id)
    )
    if user is None or not right or not user.enabled:
        raise unauthenticated()
    if not body.password:
        raise invalid("Invalid input for field user.password: it must not be empty.")
    await service.change(store.change, users, user_id, {"password_hash": await service.passwords.hash(body.password)})
    await revoke_tokens(service, "user", user_id)


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The user is gone, and its tokens and application credentials with it."""
    user = await _load(service, request)
    await service.change(user_store.delete, user.id)


async def list_groups(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Groups that the user is in."""
    user = await _load(service, request)
    found = await service.db.read(user_store.groups_of, user.id)
    return answers.collection(request, "groups", (show_group(request, one) for one in found))


async def list_projects(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Projects where the user has a role."""
    user = await _load(service, request)
    found = await service.db.read(scope_store.projects_of, user.id)
    return answers.collection(request, "projects", (show_project(request, one) for one in found))


async def list_members(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Users in a group."""
    group = await load_group(service, request)
    wanted = answers.filters(request, "name", "domain_id", flags=("enabled",))
    found = await service.db.read(store.listed, users, User, wanted, members(group.id))
    return answers.collection(request, "users", (show_user(request, one) for one in found))


_PATH = "/v3/users"
_ONE = f"{_PATH}/{{user_id}}"
_MEMBERS = "/v3/groups/{group_id}/users"
ROUTES: tuple[Route, ...] = (
    Route(method="POST", path=_PATH, handler=create, policy="identity:create_user", body=UserBody, success=201),
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_users"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_user"),
    Route(method="PATCH", path=_ONE, handler=update, policy="identity:update_user", body=UserBody),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_user", success=204),
    Route(
        method="POST",
        path=f"{_ONE}/password",
        handler=change_password,
        body=ChangePassword,
        envelope="user",
        needs_token=False,
        open_because="the old password is the proof; who must change it may have no token",
        success=204,
    ),
    Route(method="GET", path=f"{_ONE}/groups", handler=list_groups, policy="identity:list_groups_for_user"),
    Route(method="GET", path=f"{_ONE}/projects", handler=list_projects, policy="identity:list_user_projects"),
    Route(method="GET", path=_MEMBERS, handler=list_members, policy="identity:list_users_in_group"),
)
_SEES = (
    f"({ADMIN}) or ({SYSTEM_READER}) or (role:reader and token.domain.id:%(target.user.domain_id)s) or "
    "user_id:%(target.user.id)s"
)
_CHANGES = f"({ADMIN}) or (role:manager and token.domain.id:%(target.user.domain_id)s)"
_OF_USER = f"{READER} or (role:reader and domain_id:%(target.user.domain_id)s)"
RULES = (
    rule("get_user", _SEES, ANYWHERE, ("GET", _ONE)),
    rule("list_users", READER_OR_DOMAIN_READER, ANYWHERE, ("GET", _PATH)),
    rule("create_user", _CHANGES, ANYWHERE, ("POST", _PATH)),
    rule("update_user", _CHANGES, ANYWHERE, ("PATCH", _ONE)),
    rule("delete_user", _CHANGES, ANYWHERE, ("DELETE", _ONE)),
    rule("list_groups_for_user", f"{_OF_USER} or user_id:%(user_id)s", ANYWHERE, ("GET", f"{_ONE}/groups")),
    rule("list_user_projects", f"{_OF_USER} or user_id:%(target.user.id)s", ANYWHERE, ("GET", f"{_ONE}/projects")),
    rule("list_users_in_group", SEES_GROUP, ANYWHERE, ("GET", _MEMBERS)),
)
