"""Confirm or revert a resize: the old disks and the old claim go, or they come back and the new ones go.

Neither can be undone half-way, so their steps are asked again until they are done; a delete wins over both.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.compute.contract import Power
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import migration_store, states, store
from kilonova.compute.server.begin import ADMIN, load, new_operation
from kilonova.compute.server.insist import until_done
from kilonova.compute.server.resize import move_claim_back, old_flavor
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.trace import spans

# ── the API's part


async def confirm_resize(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"confirmResize": null}."""
    return await _decide(compute, request, "confirmResize")


async def revert_resize(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"revertResize": null}."""
    return await _decide(compute, request, "revertResize")


async def _decide(compute: Compute, request: Request[Any], action: str) -> Answer:
    server = await load(compute, request)
    spans.about(server.id)
    row = new_operation(compute, request, action, server.id, {"server_id": server.id})
    await compute.db.write(decide, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)
    return Answer(None)


@says(lambda row, _admin: f"servers: task_state for {row.kind}; migration and operation recorded")
def decide(connection: Connection, row: OperationRow, admin: bool) -> None:
    """The user's word stands from here on: a revert's server is of its old flavor again."""
    server = store.take(connection, row.resource_id, row.kind, row, admin=admin)
    migration = migration_store.open_of(connection, server.id)
    if migration is None:
        raise invalid("Instance has not been resized.", code="MigrationNotFoundByStatus")
    row.args |= {"host": server.host, "migration_id": migration.id}
    if row.kind == "revertResize":
        row.args["runs"] = migration.vm_state == states.ACTIVE
        old_flavor(connection, server.id, migration.id, row.created_at)
        migration_store.set_status(connection, migration.id, migration_store.REVERTING, row.created_at)
    else:
        migration_store.set_status(connection, migration.id, migration_store.CONFIRMING, row.created_at)
    journal.insert(connection, row)


# ── the flows


async def confirm(op: Operation[Compute], compute: Compute, server_id: str, host: str, migration_id: str) -> None:
    """Read down: resized → active, or stopped when its guest is off."""
    now = compute.world.clock.now
    await until_done(op, compute, "host removes the old disks", on_host(host).forget_disks, server_id)
    await until_done(op, compute, "placement gets the old claim back", release_old_claim, migration_id)
    await op.finish("servers: vm_state = active or stopped", _confirmed, server_id, migration_id, op.id, now())


async def revert(
    op: Operation[Compute], compute: Compute, server_id: str, host: str, migration_id: str, runs: bool
) -> None:
    """Read down: resized → what it was before, on the old disks with the old flavor."""
    there, now, power = on_host(host), compute.world.clock.now, None
    await until_done(op, compute, "host puts the old disks back", there.restore_disks, server_id)
    await until_done(
        op, compute, "placement: the server holds its old claim again", move_claim_back, server_id, migration_id
    )
    if runs:
        power = await until_done(op, compute, "host starts the guest", there.start, server_id)
    await op.finish("servers: vm_state = what it was", _reverted, server_id, migration_id, op.id, power, now())


async def release_old_claim(step: Step[Compute], migration_id: str) -> None:
    """Placement holds nothing for the migration."""
    await step.services.peers.placement.release(migration_id)


def _confirmed(connection: Connection, server_id: str, migration_id: str, operation_id: str, now: datetime) -> None:
    """Stopped when its guest is off now: its user may have started or stopped it while it was looked at."""
    server = store.get(connection, server_id, deleted=True)
    off = server.power_state in (Power.SHUTDOWN, Power.CRASHED)
    values = {"vm_state": states.STOPPED if off else states.ACTIVE}
    store.end(connection, server_id, operation_id, "confirmResize", now, values)
    _close(connection, server_id, migration_id, migration_store.CONFIRMED, now)


def _reverted(
    connection: Connection, server_id: str, migration_id: str, operation_id: str, power: Power | None, now: datetime
) -> None:
    values = {"vm_state": states.ACTIVE, "launched_at": now, "power_state": str(power)}
    if power is None:
        values = {"vm_state": states.STOPPED}
    store.end(connection, server_id, operation_id, "revertResize", now, values)
    _close(connection, server_id, migration_id, migration_store.REVERTED, now)


def _close(connection: Connection, server_id: str, migration_id: str, status: str, now: datetime) -> None:
    migration_store.set_status(connection, migration_id, status, now)
    migration_store.charge(connection, server_id)


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """Neither here nor there: an error, which a rebuild or a delete ends."""
    now = row.updated_at or row.created_at
    _close(connection, row.resource_id, row.args["migration_id"], migration_store.ERROR, now)
    store.to_error(connection, row.resource_id, row.id, now, fault)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("confirmResize", confirm, _failed, store.show_task),
    Kind("revertResize", revert, _failed, store.show_task),
)
_CONFIRM = "os_compute_api:servers:confirm_resize"
_REVERT = "os_compute_api:servers:revert_resize"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=confirm_resize, policy=_CONFIRM, action="confirmResize", success=204),
    Route(method="POST", path=_ACTION, handler=revert_resize, policy=_REVERT, action="revertResize", success=202),
)
RULES = (
    Rule(_CONFIRM, PROJECT_MEMBER_OR_ADMIN, "Confirm a server's resize", (("POST", f"{_ACTION} (confirmResize)"),)),
    Rule(_REVERT, PROJECT_MEMBER_OR_ADMIN, "Revert a server's resize", (("POST", f"{_ACTION} (revertResize)"),)),
)
