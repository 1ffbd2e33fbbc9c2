"""Roles over HTTP, and the roles they imply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from kilonova.base.faults import forbidden, invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.immutable import check_changeable, merged_options
from kilonova.identity.names import checked_name
from kilonova.identity.role import store as role_store
from kilonova.identity.role.store import Role
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import roles
from kilonova.identity.token.roles_store import implied_by

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class CreateRole(msgspec.Struct):
    """The body's `role`."""

    name: str
    domain_id: str | None = None
    description: str | None = None
    options: dict[str, Any] = {}


class UpdateRole(msgspec.Struct):
    """The body's `role`: what is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET


def show_role(request: Request[Any], role: Role) -> dict[str, Any]:
    """A role as clients see it."""
    return answers.linked(
        request,
        "roles",
        {
            "id": role.id,
            "name": role.name,
            "domain_id": role.domain_id or None,
            "description": role.description or None,
            "options": role.options,
        },
    )


def target_of(role: Role) -> dict[str, Any]:
    """The role as rules see it: `None` for the domain of a role of the whole cloud."""
    return {"id": role.id, "name": role.name, "domain_id": role.domain_id or None}


def _taken(name: str) -> str:
    return f"Conflict occurred attempting to store role - Duplicate entry found with name {name}."


async def create(service: IdentityService, request: Request[CreateRole]) -> dict[str, Any]:
    """A new role, of the cloud or of one domain."""
    body = request.body
    request.enforce({}, "identity:create_domain_role" if body.domain_id else "identity:create_role")
    name = checked_name(body.name, "role.name")
    options = merged_options({}, body.options, "role")
    role = Role(service.world.ids.hex32(), body.domain_id or "", name, body.description or "", options)
    await service.db.write(store.insert, roles, role, _taken(name))
    return {"role": show_role(request, role)}


async def _load(service: IdentityService, request: Request[Any], verb: str) -> Role:
    id_ = request.path["role_id"]
    role = await service.db.read(store.get, roles, Role, id_)
    if role is None:  # that there is no such role is no secret
        raise answers.missing("role", id_)
    rule_name = f"identity:{verb}_{'domain_role' if role.domain_id else 'role'}"
    request.enforce({"target": {"role": target_of(role)}}, rule_name)
    return role


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """One role."""
    return {"role": show_role(request, await _load(service, request, "get"))}


async def list_(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Roles of the whole cloud; of one domain when `domain_id` is given."""
    domain_id = request.query.get("domain_id") or ""
    request.enforce({}, "identity:list_domain_roles" if domain_id else "identity:list_roles")
    wanted = [*answers.filters(request, "name", "id"), ("domain_id", "equals", domain_id)]
    found = await service.db.read(store.listed, roles, Role, wanted)
    caller = request.caller
    if caller.domain_id and "admin" not in caller.roles:
        found = [one for one in found if request.allows("identity:get_role", {"target": {"role": target_of(one)}})]
    return answers.collection(request, "roles", (show_role(request, one) for one in found))


async def update(service: IdentityService, request: Request[UpdateRole]) -> dict[str, Any]:
    """Change some of a role."""
    role = await _load(service, request, "update")
    changes = given(request.body)
    check_changeable("Role", role.id, role.options, changes)
    if "options" in changes:
        changes["options"] = merged_options(role.options, changes["options"], "role")
    if "name" in changes:
        checked_name(changes["name"], "role.name")
    if changes.get("description", "") is None:
        changes["description"] = ""
    changed = msgspec.structs.replace(role, **changes)
    await service.change(store.change, roles, role.id, changes, _taken(changed.name))
    return {"role": show_role(request, changed)}


async def delete(service: IdentityService, request: Request[None]) -> None:
    """The role; nobody has it any more."""
    role = await _load(service, request, "delete")
    check_changeable("Role", role.id, role.options, {})
    await service.change(store.remove, roles, role.id)


def _short(request: Request[Any], role: Role) -> dict[str, Any]:
    shown = {"id": role.id, "name": role.name, "description": role.description or None}
    return answers.linked(request, "roles", shown)


async def _pair(service: IdentityService, request: Request[Any]) -> tuple[Role, Role]:
    request.enforce({})
    found = []
    for key in ("prior_id", "implied_id"):
        role = await service.db.read(store.get, roles, Role, request.path[key])
        if role is None:
            raise answers.missing("role", request.path[key])
        found.append(role)
    return found[0], found[1]


def _inference(request: Request[Any], prior: Role, implied: Role) -> dict[str, Any]:
    inference = {"prior_role": _short(request, prior), "implies": _short(request, implied)}
    here = answers.link(request, "roles", prior.id, "implies", implied.id)
    return {"role_inference": inference, "links": {"self": here}}


async def imply(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Who has the first role has the second too."""
    prior, implied = await _pair(service, request)
    if implied.domain_id and not prior.domain_id:
        raise forbidden(f"Role {prior.id} is of the whole cloud and cannot imply role {implied.id} of one domain.")
    if prior.id in implied_by({implied.id}, await service.db.read(role_store.pairs)):
        raise invalid(f"Role {implied.id} implies role {prior.id}: a circle is not allowed.")
    if implied.name == "admin":
        raise forbidden("No role may imply admin.")
    await service.change(role_store.imply, prior.id, implied.id)
    return _inference(request, prior, implied)


async def show_implied(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Whether the first role implies the second."""
    prior, implied = await _pair(service, request)
    if (prior.id, implied.id) not in await service.db.read(role_store.pairs):
        raise answers.missing(f"role implied by {prior.id}", implied.id)
    return _inference(request, prior, implied)


async def imply_no_more(service: IdentityService, request: Request[None]) -> None:
    """The first role does not imply the second any more."""
    prior, implied = await _pair(service, request)
    if not await service.change(role_store.imply_no_more, prior.id, implied.id):
        raise answers.missing(f"role implied by {prior.id}", implied.id)


async def list_implied(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """What a role implies itself."""
    request.enforce({})
    prior = await service.db.read(store.get, roles, Role, request.path["prior_id"])
    if prior is None:
        raise answers.missing("role", request.path["prior_id"])
    found = await service.db.read(role_store.implied, prior.id)
    inference = {"prior_role": _short(request, prior), "implies": [_short(request, one) for one in found]}
    return {"role_inference": inference, "links": {"self": answers.link(request, "roles", prior.id, "implies")}}


async def list_inferences(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """Every role that implies others, with them."""
    request.enforce({})
    known = {role.id: role for role in await service.db.read(store.listed, roles, Role)}
    implied: dict[str, list[dict[str, Any]]] = {}
    for prior_id, implied_id in await service.db.read(role_store.pairs):
        implied.setdefault(prior_id, []).append(_short(request, known[implied_id]))
    shown = [{"prior_role": _short(request, known[id_]), "implies": many} for id_, many in implied.items()]
    return {"role_inferences": shown, "links": {"self": answers.link(request, "role_inferences")}}


_PATH = "/v3/roles"
_ONE = f"{_PATH}/{{role_id}}"
_IMPLIES = f"{_PATH}/{{prior_id}}/implies"
_IMPLIED = f"{_IMPLIES}/{{implied_id}}"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_PATH,
        handler=create,
        policy="identity:create_role",
        body=CreateRole,
        envelope="role",
        success=201,
    ),
    Route(method="GET", path=_PATH, handler=list_, policy="identity:list_roles"),
    Route(method="GET", path=_ONE, handler=show, policy="identity:get_role"),
    Route(method="PATCH", path=_ONE, handler=update, policy="identity:update_role", body=UpdateRole, envelope="role"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="identity:delete_role", success=204),
    Route(method="GET", path=_IMPLIES, handler=list_implied, policy="identity:list_implied_roles"),
    Route(method="PUT", path=_IMPLIED, handler=imply, policy="identity:create_implied_role", success=201),
    Route(method="GET", path=_IMPLIED, handler=show_implied, policy="identity:get_implied_role"),
    Route(method="HEAD", path=_IMPLIED, handler=show_implied, policy="identity:check_implied_role", success=204),
    Route(method="DELETE", path=_IMPLIED, handler=imply_no_more, policy="identity:delete_implied_role", success=204),
    Route(
        method="GET", path="/v3/role_inferences", handler=list_inferences, policy="identity:list_role_inference_rules"
    ),
)
_SEES = f"({READER}) or (role:manager and rule:domain_managed_target_role)"
RULES = (
    rule("get_role", _SEES, ANYWHERE, ("GET", _ONE)),
    rule("list_roles", f"({READER}) or (role:manager and not domain_id:None)", ANYWHERE, ("GET", _PATH)),
    rule("create_role", ADMIN, SYSTEM_OR_PROJECT, ("POST", _PATH)),
    rule("update_role", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _ONE)),
    rule("delete_role", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
    rule("get_domain_role", READER, SYSTEM_OR_PROJECT, ("GET", _ONE)),
    rule("list_domain_roles", READER, SYSTEM_OR_PROJECT, ("GET", f"{_PATH}?domain_id={{domain_id}}")),
    rule("create_domain_role", ADMIN, SYSTEM_OR_PROJECT, ("POST", _PATH)),
    rule("update_domain_role", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", _ONE)),
    rule("delete_domain_role", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _ONE)),
    rule("list_implied_roles", READER, SYSTEM_OR_PROJECT, ("GET", _IMPLIES)),
    rule("get_implied_role", READER, SYSTEM_OR_PROJECT, ("GET", _IMPLIED)),
    rule("check_implied_role", READER, SYSTEM_OR_PROJECT, ("HEAD", _IMPLIED)),
    rule("create_implied_role", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _IMPLIED)),
    rule("delete_implied_role", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", _IMPLIED)),
    rule("list_role_inference_rules", READER, SYSTEM_OR_PROJECT, ("GET", "/v3/role_inferences")),
)
