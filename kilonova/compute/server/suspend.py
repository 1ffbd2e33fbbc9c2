"""Suspend and resume a server: its guest's memory goes to disk and its process ends; later it runs on from there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.compute.contract import Power
from kilonova.compute.core import Compute, on_host
from kilonova.compute.server import store
from kilonova.compute.server.begin import begin, load
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation

PATIENCE_SECONDS = 60.0


async def suspend(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"suspend": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "suspend")
    return Answer(None)


async def resume(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"resume": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "resume")
    return Answer(None)


async def suspend_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: active → suspended."""
    there = on_host(host)
    power = await op.step(
        "host saves the guest's memory to disk",
        there.suspend,
        server_id,
        undo=there.resume,
        patience_seconds=PATIENCE_SECONDS,
    )
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = suspended, task_state = None", _end, server_id, op, power, now)


async def resume_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: suspended → active."""
    there = on_host(host)
    power = await op.step(
        "host restores the guest from its saved memory",
        there.resume,
        server_id,
        undo=there.suspend,
        patience_seconds=PATIENCE_SECONDS,
    )
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = active, task_state = None", _end, server_id, op, power, now)


def _end(connection: Connection, server_id: str, op: Operation[Compute], power: Power, now: datetime) -> None:
    store.end(connection, server_id, op.id, op.row.kind, now, {"power_state": str(power)})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("suspend", suspend_flow, _failed, store.show_task),
    Kind("resume", resume_flow, _failed, store.show_task),
)
_OFF = "os_compute_api:os-suspend-server:suspend"
_ON = "os_compute_api:os-suspend-server:resume"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=suspend, policy=_OFF, action="suspend", success=202),
    Route(method="POST", path=_ACTION, handler=resume, policy=_ON, action="resume", success=202),
)
RULES = (
    Rule(_OFF, PROJECT_MEMBER_OR_ADMIN, "Suspend a server", (("POST", f"{_ACTION} (suspend)"),)),
    Rule(_ON, PROJECT_MEMBER_OR_ADMIN, "Resume a server", (("POST", f"{_ACTION} (resume)"),)),
)
