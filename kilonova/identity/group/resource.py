"""Groups over HTTP, and who is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import Fault, Kind, forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.domain.store import Domain
from kilonova.identity.group import store as group_store
from kilonova.identity.group.store import Group
from kilonova.identity.ldap import refresh
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun, within
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, rule
from kilonova.identity.schema import domains, groups, users

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateGroup(msgspec.Struct):
    """The body's `group`."""

    name: str
    domain_id: str | None = None
    description: str | None = None


class UpdateGroup(msgspec.Struct):
    """The body's `group`: what is left out stays."""

    name: str | UnsetType = UNSET
    domain_id: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


class Member(msgspec.Struct):
    """A user, as far as membership asks."""

    id: str
    domain_id: str


GROUPS = Noun("group", groups, Group, target=within, admits_absence=("DELETE",))


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store group - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[CreateGroup]) -> dict[str, Any]:
    """A new group in the domain asked for, or the token's."""
    body, caller = request.body, request.caller
    domain_id = body.domain_id or caller.domain_id or caller.project_domain_id or "default"
    request.enforce({"target": {"group": {"domain_id": domain_id}}})
    name = checked_name(body.name, "group.name", 64)
    if await service.db.read(store.get, domains, Domain, domain_id) is None:
        raise Fault(Kind.NOT_FOUND, f"Could not find domain: {domain_id[:64]}.", hint="Name a domain that exists.")
    await service.directories.must_be_here(domain_id, "groups")
    group = Group(service.world.ids.hex32(), domain_id, name, body.description or "")
    await service.db.write(store.insert, groups, group, _taken(name))
    return GROUPS.body(request, group)


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Groups by name and domain; with a token of a domain, those in it."""
    own = request.caller.domain_id
    request.enforce({"target": {"group": {"domain_id": own}}} if own else {})
    wanted = answers.filters(request, "name", "domain_id", "id")
    if own:
        wanted.append(("domain_id", "equals", own))
    await refresh.listed(service, "group", own or request.query.get("domain_id"), request.query.get("name"))
    found = await service.db.read(store.listed, groups, Group, wanted)
    return answers.collection(request, "groups", (GROUPS.view(request, one) for one in found))


async def update(service: IdentityService, request: Request[UpdateGroup]) -> dict[str, Any]:
    """Change a group's name or description."""
    group = await GROUPS.load(service, request)
    await refresh.must_be_here(service, "group", group.id)
    changes = given(request.body)
    if changes.pop("domain_id", group.domain_id) != group.domain_id:
        raise forbidden("The domain of a group cannot be changed.")
    if "name" in changes:
        checked_name(changes["name"], "group.name", 64)
    if changes.get("description", "") is None:
        changes["description"] = ""
    changed = msgspec.structs.replace(group, **changes)
    await service.db.write(store.change, groups, group.id, changes, _taken(changed.name))
    return GROUPS.body(request, changed)


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The group, and with it the roles that its members had through it."""
    group = await GROUPS.load(service, request)
    await refresh.must_be_here(service, "group", group.id, gone_too=True)
    await service.change(group_store.delete, group.id)


async def _membership(service: IdentityService, request: Request[Any]) -> tuple[Group, Member]:
    group = await service.db.read(store.get, groups, Group, request.path["group_id"])
    user = await service.db.read(store.get, users, Member, request.path["user_id"])
    target: dict[str, Any] = {}
    if group:
        target["group"] = msgspec.structs.asdict(group)
    if user:
        target["user"] = msgspec.structs.asdict(user)
    request.enforce({"target": target})
    if group is None:
        raise answers.missing("group", request.path["group_id"])
    if user is None:
        raise answers.missing("user", request.path["user_id"])
    return group, user


async def add_user(service: IdentityService, request: Request[None]) -> None:
    """The user is in the group."""
    group, user = await _membership(service, request)
    await refresh.must_be_here(service, "group", group.id)
    await service.change(group_store.add, group.id, user.id)


async def check_user(service: IdentityService, request: Request[None]) -> None:
    """Whether the user is in the group."""
    group, user = await _membership(service, request)
    await refresh.group(service, group.id)
    if not await service.db.read(group_store.is_member, group.id, user.id):
        raise answers.missing(f"user in group {group.id}", user.id)


async def remove_user(service: IdentityService, request: Request[None]) -> None:
    """The user is in the group no more."""
    group, user = await _membership(service, request)
    await refresh.must_be_here(service, "group", group.id)
    if not await service.change(group_store.take, group.id, user.id):
        raise answers.missing(f"user in group {group.id}", user.id)


_USER = f"{GROUPS.one}/users/{{user_id}}"
ROUTES: tuple[Route, ...] = (
    *GROUPS.routes(create, update, (CreateGroup, UpdateGroup), list_=list_, delete=delete),
    Route(method="PUT", path=_USER, handler=add_user, policy="identity:add_user_to_group", success=204),
    Route(method="GET", path=_USER, handler=check_user, policy="identity:check_user_in_group", success=204),
    Route(method="DELETE", path=_USER, handler=remove_user, policy="identity:remove_user_from_group", success=204),
)
SEES = f"{READER} or (role:reader and domain_id:%(target.group.domain_id)s)"
_BOTH = "domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s"
_CHANGES = f"({ADMIN}) or (role:manager and domain_id:%(target.group.domain_id)s)"
RULES = (
    *GROUPS.rules(SEES, _CHANGES, ANYWHERE),
    rule("add_user_to_group", f"({ADMIN}) or (role:manager and {_BOTH})", ANYWHERE, ("PUT", _USER)),
    rule("check_user_in_group", f"{READER} or (role:reader and {_BOTH})", ANYWHERE, ("GET", _USER), ("HEAD", _USER)),
    rule("remove_user_from_group", f"({ADMIN}) or (role:manager and {_BOTH})", ANYWHERE, ("DELETE", _USER)),
)
