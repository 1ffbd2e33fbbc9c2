"""Messages: why an operation failed. Since 3.3."""

from __future__ import annotations

from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.message import store
from kilonova.block_storage.message.store import Message
from kilonova.http.listing import next_links, page_from
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

FILTERS = {"resource_uuid": "resource_id", "resource_type": "resource_type", "event_id": "event_id",
           "request_id": "request_id", "id": "id"}  # fmt: skip


def shown(request: Request[Any], one: Message) -> dict[str, Any]:
    """A message as clients see it."""
    href = f"{request.origin}/v3/messages/{one.id}"
    return {
        "id": one.id,
        "event_id": one.event_id,
        "user_message": one.user_message,
        "message_level": "ERROR",
        "resource_type": one.resource_type,
        "resource_uuid": one.resource_id,
        "request_id": one.request_id,
        "created_at": iso_micros(one.created_at),
        "guaranteed_until": iso_micros(one.created_at + store.KEPT),
        "links": [{"rel": "self", "href": href}, {"rel": "bookmark", "href": href.replace("/v3/", "/", 1)}],
    }


def _project(request: Request[Any]) -> str:
    return "" if request.allows("context_is_admin") else request.caller.project_id or "-"


async def show(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    one = await service.db.read(store.get, request.path["message_id"], _project(request))
    request.enforce({"project_id": one.project_id})
    return {"message": shown(request, one)}


async def delete(service: BlockStorage, request: Request[Any]) -> None:
    one = await service.db.read(store.get, request.path["message_id"], _project(request))
    request.enforce({"project_id": one.project_id})
    await service.db.write(store.delete, one.id)


async def listed(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    equal = {FILTERS[name]: text for name, text in request.query.pairs if name in FILTERS}
    page = page_from(request.query, sortable=set(store.SORTS), aliases={"resource_uuid": "resource_id"})
    found = await service.db.read(store.listed, request.caller.project_id or "-", equal, page)
    answer: dict[str, Any] = {"messages": [shown(request, one) for one in found]}
    return answer | next_links(request, "messages", found, page, lambda one: one.id)


_ONE = "/messages/{message_id}"
RULES = (
    Rule("message:get_all", VOLUME_ADMIN_OR_READER, "List messages.", (("GET", "/messages"),)),
    Rule("message:get", VOLUME_ADMIN_OR_READER, "Show a message.", (("GET", _ONE),)),
    Rule("message:delete", VOLUME_ADMIN_OR_MEMBER, "Delete a message.", (("DELETE", _ONE),)),
)
ROUTES = (
    Route(method="GET", path="/messages", handler=listed, policy="message:get_all", since="3.3"),
    Route(method="GET", path=_ONE, handler=show, policy="message:get", since="3.3"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="message:delete", success=204, since="3.3"),
)
