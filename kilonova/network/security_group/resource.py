"""/v2.0/security-groups and /v2.0/security-group-rules."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import forbidden
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import door
from kilonova.network.core import NetworkService
from kilonova.network.security_group import store
from kilonova.network.security_group.rules import RuleWanted, checked
from kilonova.network.security_group.store import Group, Rule
from kilonova.policy import personas

Name = Annotated[str, Meta(max_length=255)]


class GroupChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: what may change."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    stateful: bool | UnsetType = UNSET


class GroupWanted(GroupChange, forbid_unknown_fields=True):
    """POST: a new group."""

    project_id: Name = ""
    tenant_id: Name = ""


class GroupsBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"security_group": …} or {"security_groups": […]}."""

    security_group: GroupWanted | UnsetType = UNSET
    security_groups: list[GroupWanted] | UnsetType = UNSET


class RulesBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"security_group_rule": …} or {"security_group_rules": […]}."""

    security_group_rule: RuleWanted | UnsetType = UNSET
    security_group_rules: list[RuleWanted] | UnsetType = UNSET


def _view(group: Group) -> dict[str, Any]:
    return {
        **door.standard(group),
        "stateful": group.stateful,
        "shared": False,
        "security_group_rules": [_rule_view(rule) for rule in group.rules],
    }


def _rule_view(rule: Rule) -> dict[str, Any]:
    shown = door.standard(rule)
    del shown["name"]
    return {
        **shown,
        "security_group_id": rule.group_id,
        "direction": rule.direction,
        "ethertype": rule.ethertype,
        "protocol": rule.protocol or None,
        "port_range_min": rule.port_min,
        "port_range_max": rule.port_max,
        "remote_ip_prefix": rule.remote_cidr or None,
        "remote_group_id": rule.remote_group or None,
        "remote_address_group_id": None,
        "normalized_cidr": rule.remote_cidr or None,
    }


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /security-groups; the project's default group is made when it asks for the first time"""
    wanted = door.wanted_from(request, store.GROUPS, "get_security_group")
    await _ensure_default(service, request.caller.project_id)
    fields = request.query.all("fields")  # who asks for names is not made to wait for every rule
    rows = await service.db.read(store.list_groups, wanted, not fields or "security_group_rules" in fields)
    return door.answer_list(request, "security_groups", [_view(row) for row in rows], wanted)


async def _ensure_default(service: NetworkService, project_id: str) -> None:
    if project_id and not await service.db.read(store.has_default, project_id):
        await service.change(store.ensure_default, project_id)


async def _seen(service: NetworkService, request: Request[Any], id_: str) -> Group:
    group = await service.db.read(store.find_group, id_)
    return door.seen(request, "get_security_group", group, lambda one: door.target(one.project_id), store.no_group(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /security-groups/{id}"""
    return {"security_group": door.chosen(request, _view(await _seen(service, request, request.path["id"])))}


async def create(service: NetworkService, request: Request[GroupsBody]) -> dict[str, Any]:
    """POST /security-groups, one or many"""
    wanted, bulk = door.singles(request.body, "security_group", "security_groups")
    rows = []
    for body in wanted:
        project_id = door.project_of(request, body)
        request.enforce(door.target(project_id))
        if body.name is not UNSET and body.name.lower() == "default":
            await _ensure_default(service, project_id)
            raise store.default_is_there()
        now = service.draw.now()
        values = door.given(body, "name", "description", "stateful")
        rows.append(Group(id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now, **values))
    shown = [_view(row) for row in await service.change(store.create_groups, rows)]
    return {"security_groups": shown} if bulk else {"security_group": shown[0]}


async def update(service: NetworkService, request: Request[GroupChange]) -> dict[str, Any]:
    """PUT /security-groups/{id}"""
    group = await _seen(service, request, request.path["id"])
    request.enforce(door.target(group.project_id))
    values = door.given(request.body, "name", "description", "stateful")
    if not group.is_default and str(values.get("name", "")).lower() == "default":
        raise store.default_is_there()
    return {"security_group": _view(await service.change(store.update_group, group.id, values))}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /security-groups/{id}"""
    group = await _seen(service, request, request.path["id"])
    request.enforce(door.target(group.project_id))
    await service.change(store.delete_group, group.id, as_admin=request.allows("admin_only"))


async def list_rules(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /security-group-rules"""
    wanted = door.wanted_from(request, store.RULES, "get_security_group_rule")
    await _ensure_default(service, request.caller.project_id)
    rows = await service.db.read(store.list_rules, wanted)
    return door.answer_list(request, "security_group_rules", [_rule_view(row) for row in rows], wanted)


async def _rule_seen(service: NetworkService, request: Request[Any]) -> tuple[Rule, dict[str, Any]]:
    id_ = request.path["id"]
    found = await service.db.read(store.find_rule, id_)
    if found is None:
        request.enforced = True
        raise store.no_rule(id_)
    rule, owner = found
    of = door.target(rule.project_id, **{"security_group:tenant_id": owner})
    door.see(request, "get_security_group_rule", of, store.no_rule(id_))
    return rule, of


async def show_rule(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /security-group-rules/{id}"""
    rule, _ = await _rule_seen(service, request)
    return {"security_group_rule": door.chosen(request, _rule_view(rule))}


async def create_rule(service: NetworkService, request: Request[RulesBody]) -> dict[str, Any]:
    """POST /security-group-rules, one or many"""
    wanted, bulk = door.singles(request.body, "security_group_rule", "security_group_rules")
    rows = []
    for body in wanted:
        group = await _seen(service, request, body.security_group_id)
        project_id = door.project_of(request, body)
        request.enforce(door.target(project_id))
        if not request.allows("admin_only") and group.project_id != request.caller.project_id:
            raise forbidden("Rules of another project's group are not yours to make.", code="PolicyNotAuthorized")
        if body.remote_group_id:
            await _seen(service, request, body.remote_group_id)
        rule = checked(body)
        now = service.draw.now()
        rows.append(Rule(id=service.draw.id(), project_id=group.project_id, created_at=now, updated_at=now, **rule))
    shown = [_rule_view(row) for row in await service.change(store.create_rules, rows)]
    return {"security_group_rules": shown} if bulk else {"security_group_rule": shown[0]}


async def delete_rule(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /security-group-rules/{id}"""
    rule, of = await _rule_seen(service, request)
    request.enforce(of)
    await service.change(store.delete_rule, rule.id)


_MEMBER = personas.ADMIN_OR_PROJECT_MEMBER
_READS = f"{personas.ADMIN_OR_PROJECT_READER} or ({personas.ADMIN_OR_SECURITY_GROUP_OWNER_READER})"
RULES = door.rules(
    {
        "create_security_group": _MEMBER,
        "get_security_group": personas.ADMIN_OR_PROJECT_READER,
        "update_security_group": _MEMBER,
        "delete_security_group": _MEMBER,
        "create_security_group_rule": _MEMBER,
        "get_security_group_rule": _READS,
        "delete_security_group_rule": _MEMBER,
    },
    about="security groups",
)
_ALL, _ONE = "/v2.0/security-groups", "/v2.0/security-groups/{id}"
_RULES, _RULE = "/v2.0/security-group-rules", "/v2.0/security-group-rules/{id}"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy="get_security_group"),
    Route(method="POST", path=_ALL, handler=create, policy="create_security_group", body=GroupsBody, success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_security_group"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_security_group", body=GroupChange,
          envelope="security_group"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_security_group", success=204),
    Route(method="GET", path=_RULES, handler=list_rules, policy="get_security_group_rule"),
    Route(method="POST", path=_RULES, handler=create_rule, policy="create_security_group_rule", body=RulesBody,
          success=201),
    Route(method="GET", path=_RULE, handler=show_rule, policy="get_security_group_rule"),
    Route(method="DELETE", path=_RULE, handler=delete_rule, policy="delete_security_group_rule", success=204),
)  # fmt: skip
