"""Discovery: import methods, stores, usage (/v2/info/…)."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import not_found
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image import data_store
from kilonova.image.stores import Store
from kilonova.policy.rules import Rule

UNLIMITED = -1


async def methods(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2/info/import."""
    value = list(service.settings.import_methods)
    return {"import-methods": {"description": "Import methods available.", "type": "array", "value": value}}


def _view(service: ImageService, store: Store) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": store.id, "description": store.description}
    if store is service.stores.default:
        shown["default"] = "true"
    if store.read_only:
        shown["read-only"] = "true"
    shown["weight"] = store.weight
    return shown


async def stores(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2/info/stores; 404 where there is one store only, as clients expect."""
    if not service.stores.several:
        raise not_found("Multi backend", "configuration", inside="one store only")
    return {"stores": [_view(service, store) for store in service.stores.all]}


async def stores_detail(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2/info/stores/detail, for operators."""
    request.enforce()
    if not service.stores.several:
        raise not_found("Multi backend", "configuration", inside="one store only")
    return {
        "stores": [
            {**_view(service, store), "type": store.kind, "properties": store.properties}
            for store in service.stores.all
        ]
    }


async def usage(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    """GET /v2/info/usage: the caller's project."""
    project_id = request.caller.project_id
    limits = await service.limits_of(request, project_id)
    used = await service.db.read(data_store.usage, project_id)
    return {"usage": {n: {"limit": limits.get(n, UNLIMITED), "usage": value} for n, value in used.items()}}


_TOLD = "what this cloud offers is no secret"
_DETAIL = "/v2/info/stores/detail"
RULES = (Rule("stores_info_detail", "rule:context_is_admin", "Stores in detail.", (("GET", _DETAIL),)),)
ROUTES = (
    Route(method="GET", path="/v2/info/import", handler=methods, open_because=_TOLD),
    Route(method="GET", path="/v2/info/stores", handler=stores, open_because=_TOLD),
    Route(method="GET", path=_DETAIL, handler=stores_detail, policy="stores_info_detail"),
    Route(method="GET", path="/v2/info/usage", handler=usage, open_because="everybody may see their own project's use"),
)
