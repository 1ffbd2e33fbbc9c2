"""Soft-delete a server, and restore it: off and out of sight, until it is restored or the interval has passed.

https://docs.openstack.org/api-ref/compute/ (restore, forceDelete) and Nova's setting reclaim_instance_interval.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault, over_quota
from kilonova.compute.contract import Power
from kilonova.compute.core import Catalogue, Compute, Limits, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import migration_store, states, store
from kilonova.compute.server.begin import ADMIN, load, new_operation
from kilonova.compute.server.store import Server
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.hosts import HostSilent
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation
from kilonova.trace import spans

SILENT_SECONDS = 20.0
PATIENCE_SECONDS = 60.0


# ── the API's part


def may_be_soft(compute: Compute, server: Server) -> bool:
    """Whether a delete of the server only hides it: soft delete is on, and there is something to bring back."""
    return compute.settings.reclaim_instance_interval_seconds > 0 and server.launched_at is not None


async def soft_delete(compute: Compute, request: Request[Any], server: Server) -> None:
    """DELETE /servers/{id} where soft delete is on. Deleted softly already: nothing."""
    row = new_operation(compute, request, "softDelete", server.id, {"server_id": server.id})
    if await compute.db.write(_begin, server.id, row, request.allows(ADMIN)):
        await compute.conductor.run_operation(row.id)


@says("servers: task_state = soft-deleting; whatever runs on it is superseded")
def _begin(connection: Connection, server_id: str, row: OperationRow, admin: bool) -> bool:
    """False when it is deleted, softly or not, or about to be."""
    server = store.get(connection, server_id, lock=True)
    states.check("delete", server.now(), admin=admin)
    running = unfinished_operations(connection, server_id)
    if server.vm_state == states.SOFT_DELETED or any(kind in ("delete", "softDelete") for _, kind in running):
        return False
    store.take(connection, server_id, "delete", row, admin=admin)
    store.owned(connection, server_id, row.id, row.created_at, {"task_state": "soft-deleting"})
    taken = [one for one, _ in running if journal.supersede(connection, one, row.created_at)]
    row.args |= {"host": server.host, "over": taken}
    journal.insert(connection, row)
    return True


async def restore(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"restore": null}. It counts against the quota again."""
    server = await load(compute, request)
    spans.about(server.id)
    row = new_operation(compute, request, "restore", server.id, {"server_id": server.id})
    await compute.db.write(_begin_restore, compute.catalogue, server.id, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)
    return Answer(None)


@says("quota: room for the server; servers: task_state = restoring")
def _begin_restore(
    connection: Connection, catalogue: Catalogue, server_id: str, row: OperationRow, admin: bool
) -> None:
    server = store.get(connection, server_id)
    limits = catalogue.lock_limits(connection, server.project_id)
    server = store.take(connection, server_id, "restore", row, admin=admin)
    _within_quota(store.usage(connection, server.project_id), limits, server)
    row.args["host"] = server.host
    journal.insert(connection, row)


def _within_quota(used: tuple[int, int, int], limits: Limits, server: Server) -> None:
    wanted = (("instances", 1), ("cores", server.vcpus), ("ram", server.memory_mb))
    for (resource, amount), have in zip(wanted, used, strict=True):
        limit: int = getattr(limits, resource)
        if 0 <= limit < have + amount:
            raise over_quota(resource, wanted=amount, used=have, limit=limit)


# ── the flows


async def flow(op: Operation[Compute], compute: Compute, server_id: str, host: str, over: list[str]) -> None:
    """Read down: any state → soft-delete. A host that is silent cuts the power when it is back."""
    for operation_id in over:
        await op.undo_superseded(operation_id)
    power = Power.SHUTDOWN
    try:
        power = await op.step(
            "host cuts the guest's power", on_host(host).stop, server_id, 0.0, patience_seconds=SILENT_SECONDS
        )
    except HostSilent:
        spans.note("the host is silent: deleted for the user", host=host)
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = soft-delete, task_state = None", _end, server_id, op.id, power, now)


async def restore_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str) -> None:
    """Read down: soft-delete → active."""
    there = on_host(host)
    power = await op.step("host starts the guest", there.start, server_id, patience_seconds=PATIENCE_SECONDS)
    now = compute.world.clock.now()
    await op.finish("servers: vm_state = active, task_state = None", _end_restored, server_id, op.id, power, now)


def _end(connection: Connection, server_id: str, operation_id: str, power: Power, now: datetime) -> None:
    values = {"vm_state": states.SOFT_DELETED, "soft_deleted_at": now, "power_state": str(power)}
    store.end(connection, server_id, operation_id, "softDelete", now, values)
    migration_store.close_of(connection, server_id, now)  # a resize that waited counts as confirmed
    migration_store.charge(connection, server_id)


def _end_restored(connection: Connection, server_id: str, operation_id: str, power: Power, now: datetime) -> None:
    values = {"soft_deleted_at": None, "power_state": str(power)}
    store.end(connection, server_id, operation_id, "restore", now, values)


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("softDelete", flow, _failed, store.show_task),
    Kind("restore", restore_flow, _failed, store.show_task),
)
_RESTORE = "os_compute_api:os-deferred-delete:restore"
_ACTION = "/servers/{server_id}/action"
ROUTES = (Route(method="POST", path=_ACTION, handler=restore, policy=_RESTORE, action="restore", success=202),)
RULES = (Rule(_RESTORE, PROJECT_MEMBER_OR_ADMIN, "Restore a soft-deleted server", (("POST", f"{_ACTION} (restore)"),)),)
