"""A server's tags: /servers/{id}/tags (from 2.26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.compute.core import Compute
from kilonova.compute.server import store
from kilonova.compute.server.begin import ADMIN, load
from kilonova.compute.server.create_checks import checked_tags
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule


class Tags(msgspec.Struct, forbid_unknown_fields=True):
    """{"tags": […]}"""

    tags: list[str]


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET: all of them."""
    server = await load(compute, request)
    return {"tags": await compute.db.read(store.tags_of, server.id)}


async def show(compute: Compute, request: Request[Any]) -> Answer:
    """GET one: 204 when the server has it."""
    server = await load(compute, request)
    if request.path["tag"] not in await compute.db.read(store.tags_of, server.id):
        raise _missing(request)
    return Answer(None)


async def replace(compute: Compute, request: Request[Tags]) -> dict[str, Any]:
    """PUT: exactly these."""
    wanted = checked_tags(request.body.tags)
    _, made = await _write(compute, request, lambda old: wanted)
    return {"tags": made}


async def add(compute: Compute, request: Request[Any]) -> Answer:
    """PUT one: 201 when it is new, 204 when the server had it."""
    tag = request.path["tag"]
    checked_tags([tag])
    old, made = await _write(compute, request, lambda old: [*old, *([] if tag in old else [tag])])
    where = {"Location": f"{request.origin}{request.url_path}"}
    return Answer(None, 201, where) if len(made) != len(old) else Answer(None, 204)


async def delete(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE one."""
    tag = request.path["tag"]

    def without(old: list[str]) -> list[str]:
        if tag not in old:
            raise _missing(request)
        return [one for one in old if one != tag]

    await _write(compute, request, without)
    return Answer(None)


async def delete_all(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE all of them."""
    await _write(compute, request, lambda old: [])
    return Answer(None)


def _missing(request: Request[Any]) -> Exception:
    return not_found(f"Tag of server {request.path['server_id']}:", request.path["tag"][:60])


async def _write(
    compute: Compute, request: Request[Any], make: Callable[[list[str]], list[str]]
) -> tuple[list[str], list[str]]:
    """(tags before, tags now)."""
    server = await load(compute, request)
    return await compute.db.write(_unit(make), server.id, compute.world.clock.now(), request.allows(ADMIN))


def _unit(make: Callable[[list[str]], list[str]]) -> Callable[..., tuple[list[str], list[str]]]:
    @says("server_tag: changed")
    def change(connection: Connection, server_id: str, now: Any, admin: bool) -> tuple[list[str], list[str]]:
        store.do_at_once(connection, server_id, "tags", now, {}, admin=admin)
        old = store.tags_of(connection, server_id)
        made = checked_tags(make(old))
        store.set_tags(connection, server_id, made)
        return old, made

    return change


_P = "os_compute_api:os-server-tags:"
_PATH, _ONE = "/servers/{server_id}/tags", "/servers/{server_id}/tags/{tag}"
ROUTES = (
    Route(method="GET", path=_PATH, handler=index, policy=f"{_P}index", since="2.26"),
    Route(method="PUT", path=_PATH, handler=replace, policy=f"{_P}update_all", body=Tags, since="2.26"),
    Route(method="DELETE", path=_PATH, handler=delete_all, policy=f"{_P}delete_all", success=204, since="2.26"),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_P}show", success=204, since="2.26"),
    Route(method="PUT", path=_ONE, handler=add, policy=f"{_P}update", success=201, since="2.26"),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_P}delete", success=204, since="2.26"),
)
RULES = (
    Rule(f"{_P}index", PROJECT_READER_OR_ADMIN, "List a server's tags", (("GET", _PATH),)),
    Rule(f"{_P}show", PROJECT_READER_OR_ADMIN, "Ask whether a server has a tag", (("GET", _ONE),)),
    Rule(f"{_P}update_all", PROJECT_MEMBER_OR_ADMIN, "Replace a server's tags", (("PUT", _PATH),)),
    Rule(f"{_P}update", PROJECT_MEMBER_OR_ADMIN, "Tag a server", (("PUT", _ONE),)),
    Rule(f"{_P}delete_all", PROJECT_MEMBER_OR_ADMIN, "Remove all tags of a server", (("DELETE", _PATH),)),
    Rule(f"{_P}delete", PROJECT_MEMBER_OR_ADMIN, "Remove a tag of a server", (("DELETE", _ONE),)),
)
