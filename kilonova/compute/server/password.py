"""Set the password of a server's administrator through its guest agent, and show what its guest posted of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict
from kilonova.compute.core import Compute, on_host
from kilonova.compute.server import password_store, states, store
from kilonova.compute.server.begin import ADMIN, begin, load
from kilonova.compute.server.create_checks import checked_password
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation

PATIENCE_SECONDS = 30.0


class ChangePassword(msgspec.Struct, forbid_unknown_fields=True, rename={"admin_pass": "adminPass"}):
    """{"changePassword": {"adminPass": "…"}}"""

    admin_pass: str


async def change(compute: Compute, request: Request[ChangePassword]) -> Answer:
    """POST /servers/{id}/action {"changePassword": …}. A guest without an agent is told of at once."""
    server = await load(compute, request)
    password = checked_password(request.body.admin_pass)
    states.check("changePassword", server.now(), admin=request.allows(ADMIN))
    if not await compute.agent(server.host).guest_agent_answers(server.id):
        raise conflict(
            f"Failed to set admin password on {server.id} because its guest agent does not answer.",
            hint="Install qemu-guest-agent in the guest, and let it start.",
            code="InstancePasswordSetFailed",
        )
    await begin(compute, request, server.id, "changePassword", secrets={"admin_password": password})
    return Answer(None)


async def flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: active, with another password. It is sealed in the operation, and erased with its end."""
    there = on_host(host)
    title = "host has the guest's agent set the password"
    await op.step(title, there.set_password, server_id, patience_seconds=PATIENCE_SECONDS)
    await op.finish("servers: task_state = None", _end, server_id, op.id, compute.world.clock.now())


def _end(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    store.end(connection, server_id, operation_id, "changePassword", now, {})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── what the guest posted to the metadata service, encrypted with its owner's public key


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-server-password: "" when the guest posted none."""
    server = await load(compute, request)
    return {"password": await compute.db.read(password_store.posted, server.id)}


async def clear(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE /servers/{id}/os-server-password: forgotten here; the guest keeps it."""
    server = await load(compute, request)
    await compute.db.write(password_store.forget, server.id)
    return Answer(None)


# ── the declaration

KIND: Kind[Compute] = Kind("changePassword", flow, _failed, store.show_task)

_CHANGE = "os_compute_api:os-admin-password"
_SHOW = "os_compute_api:os-server-password:show"
_CLEAR = "os_compute_api:os-server-password:clear"
_ACTION = "/servers/{server_id}/action"
_POSTED = "/servers/{server_id}/os-server-password"
ROUTES = (
    Route(
        method="POST",
        path=_ACTION,
        handler=change,
        policy=_CHANGE,
        action="changePassword",
        body=ChangePassword,
        success=202,
    ),
    Route(method="GET", path=_POSTED, handler=show, policy=_SHOW),
    Route(method="DELETE", path=_POSTED, handler=clear, policy=_CLEAR, success=204),
)
RULES = (
    Rule(_CHANGE, PROJECT_MEMBER_OR_ADMIN, "Change a server's password", (("POST", f"{_ACTION} (changePassword)"),)),
    Rule(_SHOW, PROJECT_READER_OR_ADMIN, "Show the password that a server posted", (("GET", _POSTED),)),
    Rule(_CLEAR, PROJECT_MEMBER_OR_ADMIN, "Forget the password that a server posted", (("DELETE", _POSTED),)),
)
