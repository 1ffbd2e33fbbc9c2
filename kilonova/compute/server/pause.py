"""Pause and unpause a server: its guest stands still with its memory in RAM, and runs on."""

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


async def pause(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"pause": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "pause")
    return Answer(None)


async def unpause(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"unpause": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "unpause")
    return Answer(None)


async def pause_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: active → paused."""
    there = on_host(host)
    power = await op.step(
        "host lets the guest stand still", there.pause, server_id, undo=there.unpause, patience_seconds=PATIENCE_SECONDS
    )
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = paused, task_state = None", _end, server_id, op, power, now)


async def unpause_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: paused → active."""
    there = on_host(host)
    power = await op.step(
        "host lets the guest run on", there.unpause, server_id, undo=there.pause, patience_seconds=PATIENCE_SECONDS
    )
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = active, task_state = None", _end, server_id, op, power, now)


def _end(connection: Connection, server_id: str, op: Operation[Compute], power: Power, now: datetime) -> None:
    store.end(connection, server_id, op.id, op.row.kind, now, {"power_state": str(power)})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("pause", pause_flow, _failed, store.show_task),
    Kind("unpause", unpause_flow, _failed, store.show_task),
)
_OFF = "os_compute_api:os-pause-server:pause"
_ON = "os_compute_api:os-pause-server:unpause"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=pause, policy=_OFF, action="pause", success=202),
    Route(method="POST", path=_ACTION, handler=unpause, policy=_ON, action="unpause", success=202),
)
RULES = (
    Rule(_OFF, PROJECT_MEMBER_OR_ADMIN, "Pause a server", (("POST", f"{_ACTION} (pause)"),)),
    Rule(_ON, PROJECT_MEMBER_OR_ADMIN, "Unpause a server", (("POST", f"{_ACTION} (unpause)"),)),
)
