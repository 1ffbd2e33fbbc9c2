"""os-server-groups: make, list, show and delete groups of servers that want to be together or apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from kilonova.base.faults import invalid
from kilonova.compute.core import Compute
from kilonova.compute.server.begin import ADMIN as IS_ADMIN
from kilonova.compute.server_group import store
from kilonova.compute.server_group.store import ServerGroup
from kilonova.compute.values import printable_name, whole
from kilonova.http.fields import Field, View
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since, until
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

Policy = Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]
_SOFT = (store.SOFT_AFFINITY, store.SOFT_ANTI_AFFINITY)


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """How many members a host may have, for anti-affinity."""

    max_server_per_host: int | str | None = None


class CreateGroup(msgspec.Struct, forbid_unknown_fields=True):
    """{"server_group": {…}}: `policies` with one policy up to 2.63, `policy` and `rules` from 2.64."""

    name: str
    policies: Annotated[list[Policy] | None, until("2.63")] = None
    policy: Annotated[Policy | None, since("2.64")] = None
    rules: Annotated[Rules | None, since("2.64")] = None


def _rules(group: ServerGroup) -> dict[str, int]:
    return {} if group.max_server_per_host is None else {"max_server_per_host": group.max_server_per_host}


_VIEW: View[ServerGroup] = View(
    Field("id", lambda g: g.id),
    Field("name", lambda g: g.name),
    Field("policies", lambda g: [g.policy], until="2.63"),
    Field("policy", lambda g: g.policy, since="2.64"),
    Field("rules", _rules, since="2.64"),
    Field("members", lambda g: g.members),
    Field("metadata", lambda g: {}, until="2.63"),
    Field("project_id", lambda g: g.project_id, since="2.13"),
    Field("user_id", lambda g: g.user_id, since="2.13"),
)


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """GET /os-server-groups: the project's; operators ask for all with `all_projects`."""
    request.enforce()
    project_id = request.caller.project_id
    if "all_projects" in request.query and request.allows(IS_ADMIN):
        request.enforce(rule=_ALL)
        project_id = ""
    limit, offset = request.query.integer("limit"), request.query.integer("offset") or 0
    found = await compute.db.read(store.page, project_id, None if limit is None else min(limit, 1000), offset)
    return {"server_groups": [_VIEW.show(request.version, group) for group in found]}


async def create(compute: Compute, request: Request[CreateGroup]) -> dict[str, Any]:
    """POST /os-server-groups."""
    request.enforce()
    caller, body = request.caller, request.body
    policy, most = _policy(request)
    group = ServerGroup(
        compute.world.ids.uuid(),
        caller.project_id,
        caller.user_id,
        printable_name(body.name, "name"),
        policy,
        most,
        compute.world.clock.now(),
    )
    await compute.db.write(store.insert, group)
    return {"server_group": _VIEW.show(request.version, group)}


def _policy(request: Request[CreateGroup]) -> tuple[str, int | None]:
    """(policy, members per host or None)."""
    body = request.body
    if request.version >= (2, 64):
        if body.policy is None:
            raise invalid("Invalid input for field server_group: 'policy' is a required property.")
        if body.rules is None or body.rules.max_server_per_host is None:
            return body.policy, None
        if body.policy != store.ANTI_AFFINITY:
            raise invalid("Only anti-affinity policy supports rules.")
        return body.policy, whole(body.rules.max_server_per_host, "max_server_per_host", minimum=1)
    if body.policies is None or len(body.policies) != 1:
        raise invalid("Invalid input for field server_group.policies: name one policy.")
    if request.version < (2, 15) and body.policies[0] in _SOFT:
        raise invalid(f"Invalid input for field server_group.policies: {body.policies[0]!r} exists from 2.15.")
    return body.policies[0], None


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """GET /os-server-groups/{id}."""
    return {"server_group": _VIEW.show(request.version, await _load(compute, request))}


async def delete(compute: Compute, request: Request[None]) -> Answer:
    """DELETE /os-server-groups/{id}: its servers stay where they are."""
    group = await _load(compute, request)
    await compute.db.write(store.delete, group.id)
    return Answer(None)


async def _load(compute: Compute, request: Request[None]) -> ServerGroup:
    group = await compute.db.read(store.get, request.path["group_id"])
    if group.project_id != request.caller.project_id and not request.allows(IS_ADMIN):
        raise store.no_such(group.id)
    request.enforce({"project_id": group.project_id, "user_id": group.user_id})
    return group


_NAME = "os_compute_api:os-server-groups"
_ALL = f"{_NAME}:index:all_projects"
_PATH, _ONE = "/os-server-groups", "/os-server-groups/{group_id}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=index, policy=f"{_NAME}:index"),
    Route(
        method="POST", path=_PATH, handler=create, policy=f"{_NAME}:create", body=CreateGroup, envelope="server_group"
    ),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_NAME}:show"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_NAME}:delete", success=204),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_NAME}:index", PROJECT_READER_OR_ADMIN, "List server groups", (("GET", _PATH),)),
    Rule(_ALL, ADMIN, "List server groups of all projects", (("GET", _PATH),)),
    Rule(f"{_NAME}:create", PROJECT_MEMBER_OR_ADMIN, "Create a server group", (("POST", _PATH),)),
    Rule(f"{_NAME}:show", PROJECT_READER_OR_ADMIN, "Show a server group", (("GET", _ONE),)),
    Rule(f"{_NAME}:delete", PROJECT_MEMBER_OR_ADMIN, "Delete a server group", (("DELETE", _ONE),)),
)
