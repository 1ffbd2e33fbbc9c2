"""Build a server on a host: the flow from the scheduler's answer to a running guest, host after host if need be."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from kilonova.base.faults import Fault, no_capacity
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.contract import Destination, Power, RequestSpec
from kilonova.compute.core import Catalogue, Compute, on_host
from kilonova.compute.server import states, store
from kilonova.compute.server.hold import (
    claim_alternate,
    give_back_claim,
    reserve_volumes,
    select_destinations,
    unplace,
    unreserve_volumes,
)
from kilonova.db.database import says
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step


async def flow(op: Operation[Compute], compute: Compute, server_id: str, spec: RequestSpec) -> None:
    """Read down: the life of a create, from the queue to a running guest."""
    hosts = await op.step(
        "scheduler picks a host, placement claims it",
        select_destinations,
        spec,
        undo=give_back_claim,
        shows=states.SCHEDULING,
    )
    refused: list[tuple[str, Fault]] = []
    for number, destination in enumerate(hosts):
        start = op.mark()
        try:
            if number == 0 or await op.step(
                "placement claims the next host", claim_alternate, spec, destination, undo=give_back_claim
            ):
                await build_on(op, compute, server_id, destination)
                return
            refused.append((destination.host, _full()))
        except Fault as fault:
            refused.append((destination.host, fault))
            if number + 1 < len(hosts):
                await op.undo_since(start)
    raise no_host_built(refused)


async def build_on(op: Operation[Compute], compute: Compute, server_id: str, chosen: Destination) -> None:
    """One host's attempt; when it fails, all of it can be undone and another host tried."""
    there, now = on_host(chosen.host), compute.world.clock.now
    await op.step("the record names the chosen host", place, server_id, chosen, undo=unplace)
    await op.step("volumes are reserved", reserve_volumes, server_id, undo=unreserve_volumes)
    await op.step("host fetches the record and brings the image", there.build_and_run_instance, server_id)
    ports = await op.step(
        "host asks network for ports", there.bind_ports, server_id, undo=there.unbind_ports, shows=states.NETWORKING
    )
    await op.write("servers: addresses recorded", store.set_ports, server_id, op.id, ports, now())
    mapping = await op.step(
        "host asks block storage to attach",
        there.attach_volumes,
        server_id,
        undo=there.detach_volumes,
        shows=states.BLOCK_DEVICE_MAPPING,
    )
    await op.write("block devices recorded", store.connect_devices, server_id, mapping)
    power = await op.step(
        "host makes disks and starts the guest", there.spawn, server_id, undo=there.destroy, shows=states.SPAWNING
    )
    await op.finish("servers: vm_state = active, task_state = None", set_active, server_id, op.id, power, now())


# ── what the steps need


async def place(step: Step[Compute], server_id: str, chosen: Destination) -> None:
    """The record names the host, its node and its availability zone."""
    await step.services.db.write(_place, step.services.catalogue, server_id, step.row.id, chosen)


@says(lambda _catalogue, _server_id, _operation_id, chosen: f"servers: host = {chosen.host}")
def _place(
    connection: Connection, catalogue: Catalogue, server_id: str, operation_id: str, chosen: Destination
) -> None:
    zone = catalogue.zone_of(connection, chosen.host)
    store.place(connection, server_id, operation_id, (chosen.host, chosen.node, zone))


def set_active(connection: Connection, server_id: str, operation_id: str, power: Power, now: datetime) -> None:
    """Active, launched now."""
    values = {"vm_state": states.ACTIVE, "power_state": str(power), "launched_at": now}
    store.end(connection, server_id, operation_id, "create", now, values)


def _full() -> Fault:
    return no_capacity("It had no room left when its turn came.")


def no_host_built(refused: list[tuple[str, Fault]]) -> Fault:
    """Why no host could build the server: for the user without hosts' names, for operators with them and all."""
    if len(refused) == 1:
        told = refused[0][1].told
    else:
        told = " ".join(f"Host {number}: {fault.told}" for number, (_, fault) in enumerate(refused, 1))
    return Fault(
        FaultKind.NO_CAPACITY,
        f"No host could build the server. {told}",
        hint="Delete it and try again later, or ask your operator.",
        code="BuildFailed",
        data={"details": [f"{host}: {fault!r}" for host, fault in refused]},
    )


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The server is in error, with the reasons."""
    store.to_error(connection, row.resource_id, row.id, row.updated_at or row.created_at, fault)


KIND: Kind[Compute] = Kind("create", flow, failed, store.show_task, (give_back_claim, unplace, unreserve_volumes))
