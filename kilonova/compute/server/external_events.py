"""Events that other services tell compute of: POST /os-server-external-events.

What network says of addresses changes compute's own copy before the answer, so that whoever told may forget it; what a
host waits for goes to the server's host. A server that is being deleted needs neither: its end takes all along.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.core import Compute
from kilonova.compute.server import addresses, states, store
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import SERVICE_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.trace import spans

_ALWAYS = {"network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"}
_SINCE = {
    "volume-extended": (2, 51),
    "power-update": (2, 76),
    "accelerator-request-bound": (2, 82),
    "volume-reimaged": (2, 93),
}
_FOR_HOSTS = {"network-vif-plugged", "volume-extended"}  # what agents act on: ComputeAgent.external_instance_event
_STATUSES = {"failed", "completed", "in-progress"}


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """One event; `tag` says of which port, volume …"""

    name: str
    server_uuid: str
    status: str = "completed"
    tag: str | None = None


class Events(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    events: list[Event]


async def create(compute: Compute, request: Request[Events]) -> Answer:
    """200 when all went on their way, 207 when some did not, 404 when none did."""
    request.enforce({})
    if not request.body.events:
        raise invalid("Invalid input for field events: [] is too short.")
    for event in request.body.events:
        _check(event, request)
    servers = await compute.db.read(store.whereabouts, sorted({event.server_uuid for event in request.body.events}))
    shown, changed = [], dict[str, None]()
    for event in request.body.events:
        code = await _pass_on(compute, event, servers.get(event.server_uuid))
        if code == 200 and event.name == "network-changed":
            changed[event.server_uuid] = None
        one = {"name": event.name, "server_uuid": event.server_uuid, "status": event.status, "tag": event.tag}
        shown.append({**one, "code": code, "status": event.status if code == 200 else "failed"})
    for server_id in changed:  # last: a host that waits for its ports does not wait for these
        await addresses.refresh(compute, server_id)
    codes = {one["code"] for one in shown}
    if 200 not in codes:
        raise Fault(Kind.NOT_FOUND, "No instances found for any event")
    return Answer({"events": shown}, status=200 if codes == {200} else 207)


def _check(event: Event, request: Request[Any]) -> None:
    known = event.name in _ALWAYS or request.version >= _SINCE.get(event.name, (99, 0))
    if not known or event.status not in _STATUSES:
        raise invalid(f"Invalid input for field events: {event.name[:60]!r} with status {event.status[:20]!r}.")


async def _pass_on(compute: Compute, event: Event, where: tuple[str, str] | None) -> int:
    if where is None:
        return 404
    host, task_state = where
    if not host:
        return 422
    spans.about(event.server_uuid)
    if task_state == states.DELETING:
        return 200
    if event.name == "network-vif-deleted" and event.tag:
        await addresses.drop(compute, event.server_uuid, event.tag)
    if event.name in _FOR_HOSTS:
        await compute.agent(host).external_instance_event(event.server_uuid, event.name, event.tag or "")
    return 200


_CREATE = "os_compute_api:os-server-external-events:create"
_PATH = "/os-server-external-events"
ROUTES = (Route(method="POST", path=_PATH, handler=create, policy=_CREATE, body=Events),)
RULES = (Rule(_CREATE, SERVICE_OR_ADMIN, "Tell compute of events", (("POST", _PATH),)),)
