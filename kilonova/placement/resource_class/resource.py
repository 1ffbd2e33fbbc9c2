"""Resource classes over REST."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from kilonova.base.faults import invalid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.placement.core import PlacementService
from kilonova.placement.resource_class import store
from kilonova.placement.words import CustomName, dated, is_custom, rule


class Create(msgspec.Struct, forbid_unknown_fields=True):
    """POST /resource_classes."""

    name: CustomName


def _view(request: Request[Any], name: str) -> dict[str, Any]:
    href = f"{urlsplit(request.origin).path}/resource_classes/{name}"
    return {"name": name, "links": [{"rel": "self", "href": href}]}


async def index(service: PlacementService, request: Request[Any]) -> Answer:
    """All resource classes."""
    request.enforce()
    names = await service.db.read(store.names)
    return dated(request, {"resource_classes": [_view(request, name) for name in names]}, service.now())


async def create(service: PlacementService, request: Request[Create]) -> Answer:
    """A new custom class; 409 when it is there."""
    request.enforce()
    await service.db.write(store.insert, request.body.name)
    return Answer(None, 201, {"location": f"{request.origin}/resource_classes/{request.body.name}"})


async def ensure(service: PlacementService, request: Request[Any]) -> Answer:
    """201 when the custom class was made, 204 when it was there."""
    request.enforce()
    name = request.path["name"]
    if not is_custom(name):
        raise invalid(
            f"Invalid resource class name {name[:60]!r}.",
            hint='It begins with "CUSTOM_" and has "A"-"Z", "0"-"9" and "_", 255 in all.',
        )
    made = await service.db.write(store.ensure, name)
    return Answer(None, 201 if made else 204, {"location": f"{request.origin}/resource_classes/{name}"})


async def rename(service: PlacementService, request: Request[Create]) -> Answer:
    """The custom class under another name, as PUT did before 1.7."""
    request.enforce()
    await service.db.write(store.rename, request.path["name"], request.body.name)
    return dated(request, _view(request, request.body.name), service.now())


async def show(service: PlacementService, request: Request[Any]) -> Answer:
    """One resource class."""
    request.enforce()
    await service.db.read(store.show, request.path["name"])
    return dated(request, _view(request, request.path["name"]), service.now())


async def delete(service: PlacementService, request: Request[Any]) -> None:
    """The custom class is gone."""
    request.enforce()
    await service.db.write(store.delete, request.path["name"])


_ALL, _ONE = "/resource_classes", "/resource_classes/{name}"
_P = "placement:resource_classes:"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_P + "list", since="1.2", summary="List resource classes"),
    Route(method="POST", path=_ALL, handler=create, policy=_P + "create", body=Create, since="1.2", success=201),
    Route(method="GET", path=_ONE, handler=show, policy=_P + "show", since="1.2", summary="Show a resource class"),
    Route(method="PUT", path=_ONE, handler=rename, policy=_P + "update", body=Create, since="1.2", until="1.6"),
    Route(method="PUT", path=_ONE, handler=ensure, policy=_P + "update", since="1.7", success=204),
    Route(method="DELETE", path=_ONE, handler=delete, policy=_P + "delete", since="1.2", success=204),
)
RULES = (
    rule("resource_classes:list", "GET", _ALL),
    rule("resource_classes:create", "POST", _ALL),
    rule("resource_classes:show", "GET", _ONE),
    rule("resource_classes:update", "PUT", _ONE),
    rule("resource_classes:delete", "DELETE", _ONE),
)
