"""OS-EP-FILTER over HTTP: endpoint groups, and the endpoints and groups that a project's catalog is limited to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.identity import answers, store
from kilonova.identity.bodies import given
from kilonova.identity.catalog.resource import ENDPOINTS
from kilonova.identity.endpoint_filter import store as filter_store
from kilonova.identity.endpoint_filter.store import EndpointGroup
from kilonova.identity.names import checked_name
from kilonova.identity.noun import Noun
from kilonova.identity.project import store as project_store
from kilonova.identity.project.resource import PROJECTS
from kilonova.identity.rules import ADMIN, READER, SYSTEM_OR_PROJECT, rule
from kilonova.identity.schema import endpoint_groups, project_endpoint_groups, project_endpoints

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

_FILTERS = frozenset(("service_id", "region_id", "interface", "enabled"))
_PREFIX = "/v3/OS-EP-FILTER"
GROUPS = Noun(
    "endpoint_group", endpoint_groups, EndpointGroup, prefix=_PREFIX, called="endpoint group", filters=("name",)
)


class CreateEndpointGroup(msgspec.Struct):
    """The body's `endpoint_group`."""

    name: str
    filters: dict[str, str | bool]
    description: str | None = None


class UpdateEndpointGroup(msgspec.Struct):
    """The body's `endpoint_group`: what is left out stays."""

    name: str | UnsetType = UNSET
    filters: dict[str, str | bool] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


def _checked(filters: dict[str, str | bool]) -> dict[str, str | bool]:
    if not filters or set(filters) - _FILTERS:
        raise invalid(
            "Invalid input for field endpoint_group.filters: an endpoint has no such attribute.",
            hint=f"Filter by {', '.join(sorted(_FILTERS))}.",
        )
    return filters


async def create(service: IdentityService, request: Request[CreateEndpointGroup]) -> dict[str, Any]:
    """A new group of endpoints that have something in common."""
    request.enforce({})
    body = request.body
    name = checked_name(body.name, "endpoint_group.name")
    group = EndpointGroup(service.world.ids.hex32(), name, body.description or "", _checked(body.filters))
    await service.db.write(store.insert, endpoint_groups, group, f"Endpoint group {group.id} exists already.")
    return GROUPS.body(request, group)


async def update(service: IdentityService, request: Request[UpdateEndpointGroup]) -> dict[str, Any]:
    """Change some of an endpoint group; filters are added to those it has."""
    group = await GROUPS.load(service, request)
    changes = given(request.body)
    if "name" in changes:
        checked_name(changes["name"], "endpoint_group.name")
    if "filters" in changes:
        changes["filters"] = group.filters | _checked(changes["filters"])
    if changes.get("description", "") is None:
        changes["description"] = ""
    await service.change(store.change, endpoint_groups, group.id, changes)
    return GROUPS.body(request, msgspec.structs.replace(group, **changes))


async def _pair(service: IdentityService, request: Request[Any]) -> tuple[sa.Table, dict[str, str]]:
    """The association that the path means: its table and its row. 404 when a part is not there."""
    if "endpoint_group_id" in request.path:
        table, pair = project_endpoint_groups, {"endpoint_group_id": (await GROUPS.load(service, request)).id}
    else:
        table, pair = project_endpoints, {"endpoint_id": (await ENDPOINTS.load(service, request)).id}
    return table, pair | {"project_id": await _project(service, request)}


async def _project(service: IdentityService, request: Request[Any]) -> str:
    id_ = request.path["project_id"]
    if await service.db.read(project_store.get, id_) is None:
        raise answers.missing("project", id_)
    return id_


async def link(service: IdentityService, request: Request[None]) -> None:
    """The project's catalog shows this endpoint, or this group's, and no others than those added so."""
    table, pair = await _pair(service, request)
    await service.change(filter_store.link, table, pair)


async def check(service: IdentityService, request: Request[None]) -> None:
    """Whether the endpoint is associated with the project."""
    table, pair = await _pair(service, request)
    if not await service.db.read(filter_store.is_linked, table, pair):
        raise answers.missing("endpoint association with project", pair["project_id"])


async def show_group_in_project(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The endpoint group, when it is associated with the project."""
    await check(service, request)
    return GROUPS.body(request, await GROUPS.load(service, request))


async def unlink(service: IdentityService, request: Request[None]) -> None:
    """The endpoint or group is associated with the project no more."""
    table, pair = await _pair(service, request)
    if not await service.change(filter_store.unlink, table, pair):
        raise answers.missing("endpoint association with project", pair["project_id"])


async def list_endpoints_of_project(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The endpoints that the project's catalog is limited to."""
    request.enforce({})
    found = await service.db.read(filter_store.endpoints_of, await _project(service, request))
    return answers.collection(request, "endpoints", (ENDPOINTS.view(request, one) for one in found))


async def list_groups_of_project(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The endpoint groups that the project's catalog is limited to."""
    request.enforce({})
    found = await service.db.read(filter_store.groups_of, await _project(service, request))
    return answers.collection(request, "endpoint_groups", (GROUPS.view(request, one) for one in found))


async def list_endpoints_of_group(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The endpoints in the group."""
    group = await GROUPS.load(service, request)
    found = await service.db.read(filter_store.members, group)
    return answers.collection(request, "endpoints", (ENDPOINTS.view(request, one) for one in found))


async def list_projects(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """The projects that an endpoint, or an endpoint group, is associated with."""
    if "endpoint_group_id" in request.path:
        table, column, id_ = project_endpoint_groups, "endpoint_group_id", (await GROUPS.load(service, request)).id
    else:
        table, column, id_ = project_endpoints, "endpoint_id", (await ENDPOINTS.load(service, request)).id
    found = await service.db.read(filter_store.projects_with, table, column, id_)
    return answers.collection(request, "projects", (PROJECTS.view(request, one) for one in found))


_PROJECT = f"{_PREFIX}/projects/{{project_id}}"
_ENDPOINT = f"{_PROJECT}/endpoints/{{endpoint_id}}"
_GROUP = f"{GROUPS.one}/projects/{{project_id}}"
_WAYS: tuple[tuple[str, str, Any, str, str, int], ...] = (  # method, path, handler, rule, check, success
    ("GET", f"{_PREFIX}/endpoints/{{endpoint_id}}/projects", list_projects, "list_projects_for_endpoint", READER, 200),
    ("PUT", _ENDPOINT, link, "add_endpoint_to_project", ADMIN, 204),
    ("GET", _ENDPOINT, check, "check_endpoint_in_project", READER, 204),
    ("DELETE", _ENDPOINT, unlink, "remove_endpoint_from_project", ADMIN, 204),
    ("GET", f"{_PROJECT}/endpoints", list_endpoints_of_project, "list_endpoints_for_project", READER, 200),
    ("GET", f"{_PROJECT}/endpoint_groups", list_groups_of_project, "list_endpoint_groups_for_project", READER, 200),
    ("PUT", _GROUP, link, "add_endpoint_group_to_project", ADMIN, 204),
    ("GET", _GROUP, show_group_in_project, "get_endpoint_group_in_project", READER, 200),
    ("DELETE", _GROUP, unlink, "remove_endpoint_group_from_project", ADMIN, 204),
    (
        "GET",
        f"{GROUPS.one}/projects",
        list_projects,
        "list_projects_associated_with_endpoint_group",
        READER,
        200,
    ),
    (
        "GET",
        f"{GROUPS.one}/endpoints",
        list_endpoints_of_group,
        "list_endpoints_associated_with_endpoint_group",
        READER,
        200,
    ),
)
ROUTES: tuple[Route, ...] = (
    *GROUPS.routes(create, update, (CreateEndpointGroup, UpdateEndpointGroup)),
    *(
        Route(method=method, path=path, handler=handler, policy=f"identity:{name}", success=success)
        for method, path, handler, name, _, success in _WAYS
    ),
)
RULES = (
    *GROUPS.rules(),
    *(rule(name, check_, SYSTEM_OR_PROJECT, (method, path)) for method, path, _, name, check_, _ in _WAYS),
)
