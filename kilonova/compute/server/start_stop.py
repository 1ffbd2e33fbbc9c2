"""Start and stop a server: its guest runs, or is off; disks, ports and the claim stay."""

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

PATIENCE_SECONDS = 60.0  # beyond the time a guest takes: the agent tells that it is still at it


async def os_start(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"os-start": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "start")
    return Answer(None)


async def os_stop(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"os-stop": null}."""
    server = await load(compute, request)
    await begin(compute, request, server.id, "stop", {"grace_seconds": grace_of(compute, server)})
    return Answer(None)


def grace_of(compute: Compute, server: store.Server) -> float:
    """How long the guest is given to shut down: the image's word, else the cloud's."""
    asked = server.image_properties.get("os_shutdown_timeout", "")
    return float(asked) if asked.isdigit() else compute.settings.stop_grace_seconds


async def start(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: stopped → active."""
    there = on_host(host)
    power = await op.step("host starts the guest", there.start, server_id, patience_seconds=PATIENCE_SECONDS)
    await op.finish(
        "servers: vm_state = active, task_state = None", _end, server_id, op, power, compute.world.clock.now()
    )


async def stop(op: Operation[Compute], compute: Compute, server_id: str, host: str, grace_seconds: float) -> None:
    """Read down: active → stopped."""
    there = on_host(host)
    power = await op.step(
        "host stops the guest", there.stop, server_id, grace_seconds, patience_seconds=PATIENCE_SECONDS
    )
    await op.finish(
        "servers: vm_state = stopped, task_state = None", _end, server_id, op, power, compute.world.clock.now()
    )


def _end(connection: Connection, server_id: str, op: Operation[Compute], power: Power, now: datetime) -> None:
    store.end(connection, server_id, op.id, op.row.kind, now, {"power_state": str(power)})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


KINDS: tuple[Kind[Compute], ...] = (
    Kind("start", start, _failed, store.show_task),
    Kind("stop", stop, _failed, store.show_task),
)
_START = "os_compute_api:servers:start"
_STOP = "os_compute_api:servers:stop"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=os_start, policy=_START, action="os-start", success=202),
    Route(method="POST", path=_ACTION, handler=os_stop, policy=_STOP, action="os-stop", success=202),
)
RULES = (
    Rule(_START, PROJECT_MEMBER_OR_ADMIN, "Start a server", (("POST", f"{_ACTION} (os-start)"),)),
    Rule(_STOP, PROJECT_MEMBER_OR_ADMIN, "Stop a server", (("POST", f"{_ACTION} (os-stop)"),)),
)
