"""Lock and unlock a server: a locked one is changed by operators only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kilonova.compute.core import Compute
from kilonova.compute.server import store
from kilonova.compute.server.begin import load
from kilonova.compute.server.store import Server
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert, since
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Lock(msgspec.Struct, forbid_unknown_fields=True):
    """{"lock": {…}}; null is a lock without a reason."""

    locked_reason: Annotated[Reason | None, since("2.73")] = None


async def lock(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"lock": …}. Who owns the server does not take over an operator's lock."""
    server = await load(compute, request)
    wanted = Lock() if request.body is None else convert(request.body, Lock, request.version, "lock")
    who = _who(request, server)
    if not (server.locked and who == "owner"):
        values = {"locked": True, "locked_by": who, "locked_reason": wanted.locked_reason}
        await _write(compute, server, "lock", values)
    return Answer(None)


async def unlock(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"unlock": null}. What an operator locked, its owner does not unlock."""
    server = await load(compute, request)
    if server.locked_by not in ("", _who(request, server)):
        request.enforce(server.target(), _OVERRIDE)
    await _write(compute, server, "unlock", {"locked": False, "locked_by": "", "locked_reason": None})
    return Answer(None)


def _who(request: Request[Any], server: Server) -> str:
    return "owner" if request.caller.project_id == server.project_id else "admin"


async def _write(compute: Compute, server: Server, action: str, values: dict[str, Any]) -> None:
    await compute.db.write(store.do_at_once, server.id, action, compute.world.clock.now(), values, admin=True)


_LOCK = "os_compute_api:os-lock-server:lock"
_UNLOCK = "os_compute_api:os-lock-server:unlock"
_OVERRIDE = "os_compute_api:os-lock-server:unlock:unlock_override"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=lock, policy=_LOCK, action="lock", body=object, success=202),
    Route(method="POST", path=_ACTION, handler=unlock, policy=_UNLOCK, action="unlock", success=202),
)
RULES = (
    Rule(_LOCK, PROJECT_MEMBER_OR_ADMIN, "Lock a server", (("POST", f"{_ACTION} (lock)"),)),
    Rule(_UNLOCK, PROJECT_MEMBER_OR_ADMIN, "Unlock a server", (("POST", f"{_ACTION} (unlock)"),)),
    Rule(_OVERRIDE, ADMIN, "Unlock a server that somebody else locked", (("POST", f"{_ACTION} (unlock)"),)),
)
