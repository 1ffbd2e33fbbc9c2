"""Usages over REST: of a provider, and of a project."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.placement.core import PlacementService
from kilonova.placement.usage import store
from kilonova.placement.words import MISSING_QUERY_VALUE, dated, once, only, rule


async def of_provider(service: PlacementService, request: Request[Any]) -> Answer:
    """What is used of a provider."""
    request.enforce()
    provider, usages = await service.db.read(store.of_provider, request.path["uuid"])
    body = {"resource_provider_generation": provider.generation, "usages": usages}
    return dated(request, body, provider.updated_at)


async def of_project(service: PlacementService, request: Request[Any]) -> Answer:
    """What a project, or a user in it, holds in all; from 1.38 on by consumer type."""
    by_type = request.version >= (1, 38)
    project_id, user_id = once(request, "project_id"), once(request, "user_id")
    request.enforce({"project_id": project_id})
    only(request, "project_id", "user_id", *(["consumer_type"] if by_type else []))
    if not project_id or len(project_id) > 255 or user_id == "" or len(user_id or "") > 255:
        raise invalid("Invalid query string parameters: 'project_id' is required.", code=MISSING_QUERY_VALUE)
    sums = await service.db.read(store.of_project, project_id, user_id)
    return dated(
        request, {"usages": _shown(sums, once(request, "consumer_type")) if by_type else _total(sums)}, service.now()
    )


def _total(sums: dict[str, dict[str, int]]) -> dict[str, int]:
    """Over all consumer types, without their count."""
    total: dict[str, int] = {}
    for usages in sums.values():
        for name, used in usages.items():
            total[name] = total.get(name, 0) + used
    total.pop("consumer_count", None)
    return total


def _shown(sums: dict[str, dict[str, int]], consumer_type: str | None) -> dict[str, Any]:
    """By consumer type; `all` groups them into one, a name picks one."""
    if consumer_type is None:
        return sums
    if consumer_type != "all":
        return {name: usages for name, usages in sums.items() if name == consumer_type}
    if not sums:
        return {}
    return {"all": {"consumer_count": sum(u["consumer_count"] for u in sums.values()), **_total(sums)}}


ROUTES = (
    Route(
        method="GET",
        path="/resource_providers/{uuid}/usages",
        handler=of_provider,
        policy="placement:resource_providers:usages",
        summary="Show what is used of a provider",
    ),
    Route(
        method="GET",
        path="/usages",
        handler=of_project,
        policy="placement:usages",
        since="1.9",
        summary="Show what a project holds",
    ),
)
RULES = (
    rule("resource_providers:usages", "GET", "/resource_providers/{uuid}/usages"),
    rule("usages", "GET", "/usages", "rule:admin_or_project_reader_or_service_api"),
)
