"""/v2.0/{resource}/{id}/tags: words on networks, subnets, ports, routers, floating IPs and security groups."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kilonova.base.faults import Fault, not_found
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.network import door
from kilonova.network.addresses import wrong
from kilonova.network.core import NetworkService
from kilonova.network.tag import store
from kilonova.policy import personas

Tag = Annotated[str, Meta(max_length=255)]
TAGS_MAXIMUM = 50


class TagsBody(msgspec.Struct, forbid_unknown_fields=True):
    """All tags that the resource shall have."""

    tags: list[Tag]


def _absent(request: Request[Any]) -> Fault:
    return not_found(f"Resource {request.path['noun']}", request.path["id"], code="TagResourceNotFound")


async def _seen(service: NetworkService, request: Request[Any], verb: str) -> str:
    """The resource's id, when it is there and the caller may do `verb` with its tags."""
    noun, id_ = request.path["noun"], request.path["id"]
    request.enforced = True
    owner = await service.db.read(store.owner, noun, id_)
    if owner is None:
        raise _absent(request)
    of = door.target(owner)
    door.see(request, "get_tags", of, _absent(request))
    request.enforce(of, f"{verb}_tags")
    return id_


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET …/tags"""
    return {"tags": await service.db.read(store.tags_of, await _seen(service, request, "get"))}


async def show(service: NetworkService, request: Request[Any]) -> None:
    """GET …/tags/{tag}: 204 when it is there"""
    id_, tag = await _seen(service, request, "get"), request.path["tag"]
    if tag not in await service.db.read(store.tags_of, id_):
        raise not_found("Tag", tag, code="TagNotFound")


async def replace(service: NetworkService, request: Request[TagsBody]) -> dict[str, Any]:
    """PUT …/tags"""
    id_ = await _seen(service, request, "update")
    for tag in request.body.tags:
        _check(tag)
    if len(set(request.body.tags)) > TAGS_MAXIMUM:
        raise wrong(f"a resource has at most {TAGS_MAXIMUM} tags")
    return {"tags": await service.change(store.replace, request.path["noun"], id_, request.body.tags)}


async def add(service: NetworkService, request: Request[Any]) -> Answer:
    """PUT …/tags/{tag}"""
    id_, tag = await _seen(service, request, "update"), request.path["tag"]
    _check(tag)
    await service.change(store.add, request.path["noun"], id_, tag)
    return Answer(None, 201)


def _check(tag: str) -> None:
    if not tag or len(tag) > 255 or "/" in tag or "," in tag:
        raise wrong(f"'{tag[:60]}' is not a valid tag: 1 to 255 characters without / and comma")


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE …/tags/{tag}"""
    id_, tag = await _seen(service, request, "delete"), request.path["tag"]
    if not await service.change(store.drop, request.path["noun"], id_, tag):
        raise not_found("Tag", tag, code="TagNotFound")


async def clear(service: NetworkService, request: Request[Any]) -> None:
    """DELETE …/tags"""
    id_ = await _seen(service, request, "delete")
    await service.change(store.drop, request.path["noun"], id_, None)


RULES = door.rules(
    {
        "get_tags": f"{personas.ADMIN_OR_PROJECT_READER} or rule:shared",
        "update_tags": personas.ADMIN_OR_PROJECT_MEMBER,
        "delete_tags": personas.ADMIN_OR_PROJECT_MEMBER,
    },
    about="tags",
)
_ALL, _ONE = "/v2.0/{noun}/{id}/tags", "/v2.0/{noun}/{id}/tags/{tag}"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy="get_tags"),
    Route(method="PUT", path=_ALL, handler=replace, policy="update_tags", body=TagsBody),
    Route(method="DELETE", path=_ALL, handler=clear, policy="delete_tags", success=204),
    Route(method="GET", path=_ONE, handler=show, policy="get_tags", success=204),
    Route(method="PUT", path=_ONE, handler=add, policy="update_tags", success=201),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_tags", success=204),
)
