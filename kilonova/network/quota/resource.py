"""/v2.0/quotas: a project's limits, their defaults and what is used."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import not_found
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import door
from kilonova.network.core import NetworkService
from kilonova.network.quota import store
from kilonova.policy import personas

Limit = Annotated[int, Meta(ge=-1, le=2147483647)]


class QuotaChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: new limits; -1 is none. `check_limit`: refuse what is below what is used, unless `force`."""

    network: Limit | UnsetType = UNSET
    subnet: Limit | UnsetType = UNSET
    port: Limit | UnsetType = UNSET
    router: Limit | UnsetType = UNSET
    floatingip: Limit | UnsetType = UNSET
    security_group: Limit | UnsetType = UNSET
    security_group_rule: Limit | UnsetType = UNSET
    check_limit: bool = False
    force: bool = False


_RESOURCES = tuple(store.COUNTED)


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /quotas: projects with limits of their own"""
    request.enforce(door.own(request))
    shown = []
    for project_id in await service.db.read(store.overridden):
        limits = await service.db.read(store.limits, project_id, service.settings.quotas)
        shown.append({"project_id": project_id, "tenant_id": project_id, **limits})
    return {"quotas": shown}


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /quotas/{project}"""
    request.enforce(door.target(request.path["id"]))
    return {"quota": await service.db.read(store.limits, request.path["id"], service.settings.quotas)}


async def show_default(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /quotas/{project}/default"""
    request.enforce(door.target(request.path["id"]))
    return {"quota": dataclasses.asdict(service.settings.quotas)}


async def show_details(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /quotas/{project}/details.json"""
    request.enforce(door.target(request.path["id"]))
    return {"quota": await service.db.read(store.details, request.path["id"], service.settings.quotas)}


async def update(service: NetworkService, request: Request[QuotaChange]) -> dict[str, Any]:
    """PUT /quotas/{project}"""
    request.enforce(door.target(request.path["id"]))
    values = door.given(request.body, *_RESOURCES)
    checked = request.body.check_limit and not request.body.force
    return {"quota": await service.change(store.override, request.path["id"], values, checked=checked)}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /quotas/{project}: back to the defaults"""
    request.enforce(door.target(request.path["id"]))
    if not await service.change(store.forget, request.path["id"]):
        raise not_found("Quota for tenant", request.path["id"], code="TenantQuotaNotFound")


async def show_caller(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /quotas/tenant: whose quotas the caller would see"""
    request.enforce(door.own(request))
    project_id = request.caller.project_id
    return {"tenant": {"tenant_id": project_id, "project_id": project_id}}


RULES = door.rules(
    {
        "get_quota": personas.ADMIN_OR_PROJECT_READER,
        "get_quotas": personas.ADMIN_ONLY,
        "update_quota": personas.ADMIN_ONLY,
        "delete_quota": personas.ADMIN_ONLY,
    },
    about="quotas",
)
_ONE = "/v2.0/quotas/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/quotas", handler=index, policy="get_quotas"),
    Route(method="GET", path="/v2.0/quotas/tenant", handler=show_caller, policy="get_quota"),
    Route(method="GET", path="/v2.0/quotas/project", handler=show_caller, policy="get_quota"),
    Route(method="GET", path=_ONE, handler=show, policy="get_quota"),
    Route(method="GET", path=f"{_ONE}/default", handler=show_default, policy="get_quota"),
    Route(method="GET", path=f"{_ONE}/default.json", handler=show_default, policy="get_quota"),
    Route(method="GET", path=f"{_ONE}/details", handler=show_details, policy="get_quota"),
    Route(method="GET", path=f"{_ONE}/details.json", handler=show_details, policy="get_quota"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_quota", body=QuotaChange, envelope="quota"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_quota", success=204),
)
