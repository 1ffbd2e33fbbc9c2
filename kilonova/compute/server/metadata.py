"""A server's metadata: /servers/{id}/metadata, as a whole and item by item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import invalid, not_found
from kilonova.compute.core import Catalogue, Compute
from kilonova.compute.server import store
from kilonova.compute.server.begin import ADMIN, load
from kilonova.compute.server.create_checks import checked_metadata
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule

Items = dict[str, str]


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    """{"metadata": {…}}"""

    metadata: dict[str, Any]


class Meta(msgspec.Struct, forbid_unknown_fields=True):
    """{"meta": {key: value}}"""

    meta: dict[str, Any]


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET: all of it."""
    return {"metadata": (await load(compute, request)).metadata}


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET one item."""
    server = await load(compute, request)
    key = request.path["key"]
    if key not in server.metadata:
        raise _missing()
    return {"meta": {key: server.metadata[key]}}


async def replace(compute: Compute, request: Request[Metadata]) -> dict[str, Any]:
    """PUT: exactly this."""
    wanted = request.body.metadata
    return {"metadata": await _write(compute, request, wanted, lambda old: dict(wanted))}


async def add(compute: Compute, request: Request[Metadata]) -> dict[str, Any]:
    """POST: this too."""
    wanted = request.body.metadata
    return {"metadata": await _write(compute, request, wanted, lambda old: old | wanted)}


async def put(compute: Compute, request: Request[Meta]) -> dict[str, Any]:
    """PUT one item."""
    wanted, key = request.body.meta, request.path["key"]
    if len(wanted) != 1:
        raise invalid("Request body contains too many items", hint="Send one key and its value.")
    if key not in wanted:
        raise invalid("Request body and URI mismatch", hint="The key in the body is the one in the path.")
    await _write(compute, request, wanted, lambda old: old | wanted)
    return {"meta": wanted}


async def delete(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE one item."""
    key = request.path["key"]

    def without(old: Items) -> Items:
        if key not in old:
            raise _missing()
        return {name: value for name, value in old.items() if name != key}

    await _write(compute, request, {}, without)
    return Answer(None)


def _missing() -> Exception:
    fault = not_found("Metadata item", "")
    fault.message = "Metadata item was not found"
    return fault


async def _write(
    compute: Compute, request: Request[Any], given: dict[str, Any], make: Callable[[Items], Items]
) -> Items:
    server = await load(compute, request)
    checked_metadata(given, -1)
    admin, now = request.allows(ADMIN), compute.world.clock.now()
    changed = _changed(compute.catalogue, server.project_id, make)
    return await compute.db.write(changed, server.id, now, admin)


def _changed(catalogue: Catalogue, project_id: str, make: Callable[[Items], Items]) -> Callable[..., Items]:
    @says("servers: metadata")
    def change(connection: Connection, server_id: str, now: Any, admin: bool) -> Items:
        server = store.do_at_once(connection, server_id, "metadata", now, {}, admin=admin)
        made = make(server.metadata)
        checked_metadata(made, catalogue.limits(connection, project_id).metadata_items)
        store.change(connection, server_id, now, {"metadata": made})
        return made

    return change


_P = "os_compute_api:server-metadata:"
_PATH, _ONE = "/servers/{server_id}/metadata", "/servers/{server_id}/metadata/{key}"
ROUTES = (
    Route(method="GET", path=_PATH, handler=index, policy=f"{_P}index"),
    Route(method="PUT", path=_PATH, handler=replace, policy=f"{_P}update_all", body=Metadata),
    Route(method="POST", path=_PATH, handler=add, policy=f"{_P}create", body=Metadata),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_P}show"),
    Route(method="PUT", path=_ONE, handler=put, policy=f"{_P}update", body=Meta),
    Route(method="DELETE", path=_ONE, handler=delete, policy=f"{_P}delete", success=204),
)
RULES = (
    Rule(f"{_P}index", PROJECT_READER_OR_ADMIN, "List a server's metadata", (("GET", _PATH),)),
    Rule(f"{_P}show", PROJECT_READER_OR_ADMIN, "Show an item of a server's metadata", (("GET", _ONE),)),
    Rule(f"{_P}create", PROJECT_MEMBER_OR_ADMIN, "Add to a server's metadata", (("POST", _PATH),)),
    Rule(f"{_P}update_all", PROJECT_MEMBER_OR_ADMIN, "Replace a server's metadata", (("PUT", _PATH),)),
    Rule(f"{_P}update", PROJECT_MEMBER_OR_ADMIN, "Set an item of a server's metadata", (("PUT", _ONE),)),
    Rule(f"{_P}delete", PROJECT_MEMBER_OR_ADMIN, "Delete an item of a server's metadata", (("DELETE", _ONE),)),
)
