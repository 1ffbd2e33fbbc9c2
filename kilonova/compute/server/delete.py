"""Delete a server: destroys the guest, frees ports, volumes and the claim; wins over whatever is being done to it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import console_store, migration_store, states, store
from kilonova.compute.server.begin import ADMIN, load, new_operation
from kilonova.compute.server.hold import release_claims, release_volumes
from kilonova.compute.server.insist import now_or_later
from kilonova.compute.server.soft_delete import may_be_soft, soft_delete
from kilonova.compute.server.store import Server
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.network.contract import PortBinding
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.begin import Wanted, unasked
from kilonova.saga.journal import OperationRow, Parked
from kilonova.saga.operation import Kind, Operation
from kilonova.trace import spans

# ── the API's part


async def delete(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE /servers/{id}: softly, where that is on."""
    server = await load(compute, request)
    spans.about(server.id)
    if may_be_soft(compute, server):
        await soft_delete(compute, request, server)
        return Answer(None)
    return await _delete(compute, request, server)


async def force_delete(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"forceDelete": null}: at once, also of a server that was soft-deleted."""
    server = await load(compute, request)
    spans.about(server.id)
    return await _delete(compute, request, server)


async def _delete(compute: Compute, request: Request[Any], server: Server) -> Answer:
    row = new_operation(compute, request, "delete", server.id, {"server_id": server.id})
    if await compute.db.write(_begin, server.id, row, request.allows(ADMIN)):
        await compute.conductor.run_operation(row.id)
    return Answer(None)


async def delete_unasked(compute: Compute, server_id: str) -> bool:
    """Begin to delete a server that was soft-deleted long ago; False when it is restored or gone meanwhile."""
    row = unasked(compute.world, compute.sealer, "", Wanted("delete", server_id, {"server_id": server_id}))
    begun = await compute.db.write(_begin_if_soft_deleted, server_id, row)
    if begun:
        await compute.conductor.run_operation(row.id)
    return begun


@says("servers: task_state = deleting, if it still is soft-deleted")
def _begin_if_soft_deleted(connection: Connection, server_id: str, row: OperationRow) -> bool:
    server = store.find(connection, server_id, lock=True)
    if server is None or server.vm_state != states.SOFT_DELETED or server.task_state:
        return False
    row.project_id = server.project_id
    return _begin(connection, server_id, row, True)


@says("servers: task_state = deleting; whatever runs on it is superseded")
def _begin(connection: Connection, server_id: str, row: OperationRow, admin: bool) -> bool:
    """False when a delete is already under way."""
    server = store.get(connection, server_id, lock=True)
    running = unfinished_operations(connection, server_id)
    if any(kind == "delete" for _, kind in running):
        states.check("delete", server.now(), admin=admin)
        return False
    store.take_seen(connection, server, "delete", row, admin=admin)
    taken = [one for one, _ in running if journal.supersede(connection, one, row.created_at)]
    mapping = store.devices_of(connection, server_id)
    volumes = bool(taken) or any(one.volume_id or one.destination_type == "volume" for one in mapping)
    consumers = [server_id, *migration_store.open_ids(connection, server_id)]
    row.args |= {"host": server.host, "over": taken, "volumes": volumes, "ports": server.ports, "consumers": consumers}
    journal.insert(connection, row)
    return True


# ── the flow


async def flow(
    op: Operation[Compute], compute: Compute, server_id: str, host: str, over: list[str], *, volumes: bool,
    ports: list[PortBinding], consumers: list[str],
) -> None:  # fmt: skip
    """Read down: the end of a server. Who is silent, a host or a service, does not hold the user up, and does not make
    of it a server that could be started without what it has lost already: the rest is done when they are back."""
    op.away_seconds = 0.0
    try:
        for operation_id in over:
            await op.undo_superseded(operation_id)
        if over:
            host = await op.write("which host still has it", store.host_of, server_id)
        if host:
            gone = "host destroys the guest, asks block storage to detach and network to unbind"
            await now_or_later(op, compute, gone, on_host(host).terminate_instance, server_id, volumes, ports)
        if volumes:
            await now_or_later(op, compute, "volumes that no host holds go back", release_volumes, server_id)
        await now_or_later(op, compute, "placement gets the claim back", release_claims, consumers)
    except (Fault, Parked) as silence:
        if isinstance(silence, Fault) and silence.kind is not FaultKind.UNAVAILABLE:
            raise
        now = compute.world.clock.now()
        await op.write("somebody is silent: deleted for the user", store.hide, server_id, op.id, now)
        raise Parked(f"delete of {server_id}, on host {host or 'none'}, waits: {silence}") from silence
    await op.finish("servers: vm_state = deleted", _end, compute, server_id, op.id)


def _end(connection: Connection, compute: Compute, server_id: str, operation_id: str) -> None:
    compute.catalogue.leave_groups(connection, server_id)
    console_store.drop_of(connection, server_id)
    migration_store.close_of(connection, server_id, compute.world.clock.now())
    store.end_deleted(connection, server_id, operation_id, compute.world.clock.now())


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.to_error(connection, row.resource_id, row.id, row.updated_at or row.created_at, fault)


# ── the declaration

KIND: Kind[Compute] = Kind("delete", flow, _failed, store.show_task)


_DELETE = "os_compute_api:servers:delete"
_FORCE = "os_compute_api:os-deferred-delete:force"
ROUTES = (
    Route(method="DELETE", path="/servers/{server_id}", handler=delete, policy=_DELETE, success=204),
    Route(
        method="POST",
        path="/servers/{server_id}/action",
        handler=force_delete,
        policy=_FORCE,
        action="forceDelete",
        success=202,
    ),
)
RULES = (
    Rule(_DELETE, PROJECT_MEMBER_OR_ADMIN, "Delete a server", (("DELETE", "/servers/{server_id}"),)),
    Rule(
        _FORCE,
        PROJECT_MEMBER_OR_ADMIN,
        "Force delete a server before deferred cleanup",
        (("POST", "/servers/{server_id}/action (forceDelete)"),),
    ),
)
