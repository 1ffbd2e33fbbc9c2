"""Who did what to a server, when, and each step with its result and host: /servers/{id}/os-instance-actions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from kilonova.base.clock import iso_micros
from kilonova.base.faults import Fault, invalid, not_found
from kilonova.compute.core import Compute
from kilonova.compute.server import actions_store, store
from kilonova.compute.server.actions_store import Range
from kilonova.compute.server.begin import visible
from kilonova.compute.server.store import Server
from kilonova.compute.server.views import host_id
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow, StepRow

_RESULTS = {"finished": "Success", "failed": "Error", "undone": "Error"}


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-instance-actions: newest first."""
    server = await _server(compute, request)
    request.enforce(server.target())
    wanted = _range(request)
    rows = await compute.db.read(actions_store.actions_of, server.id, wanted)
    answer: dict[str, Any] = {"instanceActions": [_action(request, row) for row in rows]}
    if request.version >= (2, 58) and wanted.limit and len(rows) == wanted.limit:
        kept = [(key, value) for key, value in request.query.pairs if key != "marker"]
        query = urlencode([*kept, ("marker", rows[-1].request_id)])
        answer["links"] = [{"rel": "next", "href": f"{request.origin}{request.url_path}?{query}"}]
    return answer


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-instance-actions/{request id}: with its steps."""
    server = await _server(compute, request)
    request.enforce(server.target())
    found = await compute.db.read(actions_store.action, server.id, request.path["request_id"])
    if found is None:
        raise not_found("Action", request.path["request_id"][:80])
    row, steps = found
    shown = _action(request, row)
    if request.version >= (2, 51) or request.allows(_EVENTS, server.target()):
        eyes = (
            request.allows(_EVENTS, server.target()),
            request.version >= (2, 84) and request.allows(_DETAILS, server.target()),
        )
        shown["events"] = [_event(request, server, step, eyes) for step in steps]
    return {"instanceAction": shown}


async def _server(compute: Compute, request: Request[Any]) -> Server:
    """Also a deleted one, from 2.21 on."""
    deleted = request.version >= (2, 21)
    server = await compute.db.read(store.get, request.path["server_id"], deleted=deleted)
    visible(request, server)
    return server


def _range(request: Request[Any]) -> Range:
    if request.version < (2, 58):
        return Range()
    query = request.query
    wanted = Range(query.integer("limit"), query.get("marker"), _moment(query.get("changes-since"), "changes-since"))
    wanted.limit = min(wanted.limit, 1000) if wanted.limit else wanted.limit
    if request.version >= (2, 66):
        wanted.before = _moment(query.get("changes-before"), "changes-before")
    elif "changes-before" in query:
        raise invalid("Additional properties are not allowed ('changes-before' was unexpected).")
    if wanted.since and wanted.before and wanted.since > wanted.before:
        raise invalid("The value of changes-since must be less than or equal to changes-before.")
    return wanted


def _moment(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise invalid(f"Invalid input for query parameter {name}: {text[:40]!r} is not a time.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _action(request: Request[Any], row: OperationRow) -> dict[str, Any]:
    shown = {
        "action": row.kind,
        "instance_uuid": row.resource_id,
        "request_id": row.request_id,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "start_time": iso_micros(row.created_at),
        "message": "Error" if row.state in ("failed", "stuck", "undoing") else None,
    }
    if request.version >= (2, 58):
        shown["updated_at"] = iso_micros(row.finished_at or row.updated_at or row.created_at)
    return shown


def _event(request: Request[Any], server: Server, step: StepRow, eyes: tuple[bool, bool]) -> dict[str, Any]:
    """A step as an event. Users see no host's name; nobody sees a traceback, there is none in the journal."""
    operator, details = eyes
    shown = {
        "event": f"{'compute' if step.host else 'conductor'}_{step.step}",
        "start_time": iso_micros(step.started_at),
        "finish_time": iso_micros(step.finished_at) if step.finished_at else None,
        "result": _RESULTS.get(step.state),
    }
    if operator:
        shown["traceback"] = None
    if request.version >= (2, 62):
        shown["hostId"] = host_id(server.project_id, step.host)
        if operator:
            shown["host"] = step.host or None
    if details:
        shown["details"] = _details(step)
    return shown


def _details(step: StepRow) -> str | None:
    return Fault.from_wire(step.error).told if step.error else None


_LIST = "os_compute_api:os-instance-actions:list"
_SHOW = "os_compute_api:os-instance-actions:show"
_EVENTS = "os_compute_api:os-instance-actions:events"
_DETAILS = "os_compute_api:os-instance-actions:events:details"
_PATH = "/servers/{server_id}/os-instance-actions"
ROUTES = (
    Route(method="GET", path=_PATH, handler=index, policy=_LIST),
    Route(method="GET", path=f"{_PATH}/{{request_id}}", handler=show, policy=_SHOW),
)
RULES = (
    Rule(_LIST, PROJECT_READER_OR_ADMIN, "List what was done to a server", (("GET", _PATH),)),
    Rule(_SHOW, PROJECT_READER_OR_ADMIN, "Show one action", (("GET", f"{_PATH}/{{request_id}}"),)),
    Rule(_EVENTS, ADMIN, "See an action's steps with hosts", (("GET", f"{_PATH}/{{request_id}}"),)),
    Rule(_DETAILS, ADMIN, "See the details of an action's steps", (("GET", f"{_PATH}/{{request_id}}"),)),
)
