"""Reboot a server: softly, asking the guest to go down first, or hard, by cutting its power; disks and ports stay."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.compute.contract import Power
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import store
from kilonova.compute.server.begin import begin, load
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation

PATIENCE_SECONDS = 60.0  # beyond the time a guest takes: the agent tells that it is still at it


class Reboot(msgspec.Struct, forbid_unknown_fields=True):
    """{"reboot": {"type": "SOFT" | "HARD"}}, in any letter case."""

    type: Annotated[str, msgspec.Meta(pattern="^(?i:soft|hard)$")]


async def reboot(compute: Compute, request: Request[Reboot]) -> Answer:
    """POST /servers/{id}/action {"reboot": …}. A hard one also interrupts a soft one, a pause, a resume."""
    server = await load(compute, request)
    hard = request.body.type.upper() == "HARD"
    grace = 0.0 if hard else max(compute.settings.soft_reboot_seconds, 1.0)
    await begin(compute, request, server.id, "reboot hard" if hard else "reboot", {"grace_seconds": grace})
    return Answer(None)


async def flow(
    op: Operation[Compute],
    compute: Compute,
    server_id: str,
    host: str,
    grace_seconds: float,
    over: list[str] | None = None,
) -> None:
    """Read down: the guest goes down and comes back, made anew from the record. Without grace it is a hard reboot,
    which cuts the power, ends what it interrupts, and connects the server's volumes again.
    """
    there = on_host(host)
    for operation_id in over or ():
        await op.undo_superseded(operation_id)
    if not grace_seconds:
        await _cut_power(op, compute, server_id, host)
    else:
        await op.step(
            "host asks the guest to shut down, and cuts its power when it does not",
            there.stop,
            server_id,
            grace_seconds,
            undo=there.interrupted,
            shows="reboot_started",
            patience_seconds=PATIENCE_SECONDS,
        )
    power = await op.step("host starts the guest", there.start, server_id, patience_seconds=PATIENCE_SECONDS)
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = active, task_state = None", _end, server_id, op.id, power, now)


async def _cut_power(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    there = on_host(host)
    await op.step(
        "host cuts the guest's power",
        there.stop,
        server_id,
        0.0,
        shows="reboot_started_hard",
        patience_seconds=PATIENCE_SECONDS,
    )
    mapping = await op.step("host asks block storage to connect again", there.reconnect_volumes, server_id)
    await op.write("block devices recorded", store.connect_devices, server_id, mapping)


def _end(connection: Connection, server_id: str, operation_id: str, power: Power, now: datetime) -> None:
    store.end(connection, server_id, operation_id, "reboot", now, {"power_state": str(power)})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """A guest that went down and did not come back is in error; one that never went down is as it was."""
    now = row.updated_at or row.created_at
    if not row.args["grace_seconds"] or any(step.step == "start" for step in journal.steps_of(connection, row.id)):
        store.to_error(connection, row.resource_id, row.id, now, fault)
    else:
        store.give_back(connection, row.resource_id, row.id, now)


# ── the declaration

KIND: Kind[Compute] = Kind("reboot", flow, _failed, store.show_task)

_RULE = "os_compute_api:servers:reboot"
_ACTION = "/servers/{server_id}/action"
ROUTES = (Route(method="POST", path=_ACTION, handler=reboot, policy=_RULE, action="reboot", body=Reboot, success=202),)
RULES = (Rule(_RULE, PROJECT_MEMBER_OR_ADMIN, "Reboot a server", (("POST", f"{_ACTION} (reboot)"),)),)
