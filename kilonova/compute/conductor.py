"""The conductor: runs compute's operations, and is the only one that answers hosts from compute's database.

A compute host is answered only about servers that are on it, or that an unfinished operation has a step for there.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.clock import iso_seconds
from kilonova.base.faults import forbidden, not_found
from kilonova.bus import rpc
from kilonova.bus.contract import Subscription, Target
from kilonova.bus.signing import is_agent
from kilonova.bus.steps import StepDriver
from kilonova.compute.contract import (
    COMPUTE_TOPIC,
    CONDUCTOR_TOPIC,
    EXCHANGE,
    BlockDevice,
    Conductor,
    HostReport,
    Power,
    Rescue,
    SeenGuest,
    ServerForHost,
    StepSecrets,
)
from kilonova.compute.core import Compute
from kilonova.compute.host import store as hosts
from kilonova.compute.schema import journal
from kilonova.compute.server import console_store, seen_store, states, store
from kilonova.compute.server.attach_interface import KINDS as ATTACH_INTERFACE
from kilonova.compute.server.attach_volume import KINDS as ATTACH_VOLUME
from kilonova.compute.server.backup import KIND as CREATE_BACKUP
from kilonova.compute.server.create import KIND as CREATE
from kilonova.compute.server.delete import KIND as DELETE
from kilonova.compute.server.password import KIND as CHANGE_PASSWORD
from kilonova.compute.server.pause import KINDS as PAUSE
from kilonova.compute.server.reboot import KIND as REBOOT
from kilonova.compute.server.rebuild import KIND as REBUILD
from kilonova.compute.server.rescue import KINDS as RESCUE
from kilonova.compute.server.resize import KIND as RESIZE
from kilonova.compute.server.resize_confirm import KINDS as RESIZE_CONFIRM
from kilonova.compute.server.snapshot import KIND as CREATE_IMAGE
from kilonova.compute.server.soft_delete import KINDS as SOFT_DELETE
from kilonova.compute.server.start_stop import KINDS as START_STOP
from kilonova.compute.server.suspend import KINDS as SUSPEND
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.compute.settings import ComputeSettings
from kilonova.db.database import says
from kilonova.placement.contract import Inventory
from kilonova.saga.journal import UNFINISHED
from kilonova.saga.operation import Kind
from kilonova.saga.runner import Parts, Runner
from kilonova.saga.seams import Seams

log = logging.getLogger(__name__)

KINDS: tuple[Kind[Compute], ...] = (
    CREATE,
    DELETE,
    *SOFT_DELETE,
    *START_STOP,
    REBOOT,
    *PAUSE,
    *SUSPEND,
    CHANGE_PASSWORD,
    *ATTACH_VOLUME,
    *ATTACH_INTERFACE,
    RESIZE,
    *RESIZE_CONFIRM,
    REBUILD,
    *RESCUE,
    CREATE_IMAGE,
    CREATE_BACKUP,
)
PROVIDER_REFRESH_SECONDS = 300.0


class ComputeConductor:
    """Serves `Conductor` and `StepDriver` on the topic `conductor`."""

    def __init__(self, compute: Compute, seams: Seams | None = None) -> None:
        self.compute = compute
        reply = Target(EXCHANGE, CONDUCTOR_TOPIC)
        parts = Parts(compute.world, compute.db, compute.bus, journal, compute.sealer, reply, "nova_conductor")
        self.runner: Runner[Compute] = Runner(parts, compute, KINDS, seams)
        self._providers: dict[str, tuple[float, Any]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Take messages, sweep for operations that nobody runs."""
        handlers = {**rpc.handlers(Conductor, self), **rpc.handlers(StepDriver, self.runner)}
        self._subscription = await self.compute.bus.serve(EXCHANGE, CONDUCTOR_TOPIC, "", handlers)
        self.runner.start()

    async def close(self) -> None:
        """Take no more messages; what runs is gone on with by another."""
        if self._subscription is not None:
            await self._subscription.stand_back()  # a new operation is for a worker that stays
        await self.runner.close()  # while hosts can still tell it that its steps ended
        if self._subscription is not None:
            await self._subscription.close()

    # ── operations

    async def build_instances(self, operation_id: str) -> None:
        _check_control()
        await self.runner.wake(operation_id)

    async def run_operation(self, operation_id: str) -> None:
        _check_control()
        await self.runner.wake(operation_id)

    # ── what a host may know

    async def server_for_host(self, host: str, server_id: str, operation_id: str = "", epoch: int = 0) -> ServerForHost:
        _check_sender(host)
        server, sealed = await self.compute.db.read(_server_for_host, host, server_id, operation_id, epoch)
        if sealed is not None:
            server.secrets = msgspec.convert(self.compute.sealer.open(sealed), StepSecrets)
        return server

    async def step_secrets(self, host: str, operation_id: str, epoch: int) -> StepSecrets:
        _check_sender(host)
        sealed = await self.compute.db.read(_sealed, host, operation_id, epoch)
        if sealed is None:
            raise not_found("Secrets of operation", operation_id)
        return msgspec.convert(self.compute.sealer.open(sealed), StepSecrets)

    # ── what a host says

    async def report_host(self, report: HostReport) -> None:
        _check_sender(report.host)
        world = self.compute.world
        provider_id = await self.compute.db.write(_report, report, world.ids.uuid(), world.clock.now())
        inventories = inventories_of(report, self.compute.settings)
        known = self._providers.get(report.host)
        now = world.clock.monotonic()
        wanted = (provider_id, inventories, report.traits)
        if known is None or known[1] != wanted or now - known[0] > PROVIDER_REFRESH_SECONDS:
            await self.compute.peers.placement.ensure_provider(
                provider_id, report.node, inventories, list(report.traits)
            )
            self._providers[report.host] = (now, wanted)

    async def guests_seen(self, host: str, guests: list[SeenGuest], *, full: bool) -> list[str]:
        _check_sender(host)
        unknown, changed = await self.compute.db.read(compare_guests, host, guests, full)
        if changed:
            await self.compute.db.write(_set_powers, changed)
        return unknown

    async def servers_to_run(self, host: str) -> list[str]:
        _check_sender(host)
        return await self.compute.db.read(_to_run, host)

    async def check_console(self, token: str) -> tuple[str, str] | None:
        _check_control()
        hashed = hashlib.sha256(token.encode()).hexdigest()
        return await self.compute.db.write(console_store.use_up, hashed, self.compute.world.clock.now())


def _check_sender(host: str) -> None:
    """A host speaks for itself only."""
    if rpc.sender() != f"{COMPUTE_TOPIC}.{host}":
        log.warning("refused: %r asked as host %r", rpc.sender(), host)
        raise forbidden("A host may ask about itself only.")


def _check_control() -> None:
    """What starts operations and opens consoles comes from the control plane, never from a host."""
    if is_agent(rpc.sender()):
        log.warning("refused: %r spoke as the control plane", rpc.sender())
        raise forbidden("A host may not ask for that.")


# ── units


@says("servers: read what the host may know of it")
def _server_for_host(
    connection: Connection, host: str, server_id: str, operation_id: str, epoch: int
) -> tuple[ServerForHost, bytes | None]:
    server = store.find(connection, server_id, deleted=True)
    if server is None or not _is_for(connection, server, host):
        raise not_found("Instance", server_id, code="InstanceNotFound")
    seen = as_host_sees(server, store.devices_of(connection, server_id), store.tags_of(connection, server_id))
    return seen, _sealed(connection, host, operation_id, epoch) if operation_id else None


def _is_for(connection: Connection, server: store.Server, host: str) -> bool:
    """Whether the host has the server, or a step of an operation that is not over for it."""
    if server.deleted_at is not None and not server.operation_id:
        return False
    return server.host == host or journal.has_step_on(connection, server.operation_id, host)


def as_host_sees(server: store.Server, mapping: list[BlockDevice], tagged: list[str]) -> ServerForHost:
    """All that a host needs. While it is built, what is undone takes along what was made, never a user's own volume."""
    if server.vm_state == states.BUILDING and server.task_state != states.DELETING:
        for device in mapping:
            device.delete_on_termination = device.source_type != "volume"
    return ServerForHost(
        id=server.id,
        number=server.number,
        name=server.name,
        hostname=server.hostname,
        project_id=server.project_id,
        user_id=server.user_id,
        availability_zone=server.availability_zone,
        flavor=server.flavor_struct,
        image_id=server.image_id,
        image_properties=server.image_properties,
        key_name=server.key_name,
        public_key=server.public_key,
        user_data=server.user_data,
        config_drive=server.config_drive,
        metadata=server.metadata,
        personality=server.personality,
        port_requests=store.port_requests_of(server),
        security_groups=server.security_groups,
        block_devices=mapping,
        ports=store.ports_of(server),
        created_at=iso_seconds(server.created_at),
        launch_index=server.launch_index,
        reservation_id=server.reservation_id,
        tags=tagged,
        trusted_certificates=server.trusted_certs or [],
        rescue=msgspec.convert(server.rescue, Rescue | None),
    )


def _sealed(connection: Connection, host: str, operation_id: str, epoch: int) -> bytes | None:
    """None: the operation is over, another's, or has nothing to do on that host."""
    row = journal.get(connection, operation_id)
    alive = row is not None and row.state in (*UNFINISHED, "superseded")
    if row is None or not alive or row.epoch != epoch or not journal.has_step_on(connection, operation_id, host):
        return None
    return row.sealed


@says(lambda said, _id, _now: f"compute_host: report of {said.host}")
def _report(connection: Connection, said: HostReport, new_id: str, now: datetime) -> str:
    return hosts.report(connection, said, new_id, now)


def _to_run(connection: Connection, host: str) -> list[str]:
    rows = seen_store.on_host(connection, host)
    return [
        row[0]
        for row in rows
        if row[1] in (states.ACTIVE, states.RESIZED, states.RESCUED) and row[3] == Power.RUNNING and not row[4]
    ]


@says(lambda changed: f"servers: power_state of {len(changed)}")
def _set_powers(connection: Connection, changed: list[tuple[str, str]]) -> None:
    for server_id, power in changed:
        seen_store.set_power(connection, server_id, power)


def compare_guests(
    connection: Connection, host: str, guests: list[SeenGuest], full: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """(guests that must not be on the host, [(server id, power)] that differ from the record)."""
    ids = [guest.server_id for guest in guests]
    rows = seen_store.on_host(connection, host) if full else seen_store.these_on_host(connection, host, ids)
    records = {row[0]: row for row in rows}
    unknown, changed, seen = [], [], set()
    for guest in guests:
        seen.add(guest.server_id)
        record = records.get(guest.server_id)
        if record is None:
            if not _moves_here(connection, guest.server_id, host):
                unknown.append(guest.server_id)
        elif record[3] != guest.power and record[1] != states.BUILDING:  # its create writes it, with the rest
            changed.append((guest.server_id, str(guest.power)))
    if full:
        missing = (row for row in records.values() if row[0] not in seen and row[3] != "nostate" and not row[4])
        changed += [(row[0], "nostate") for row in missing]
    return unknown, changed


def _moves_here(connection: Connection, server_id: str, host: str) -> bool:
    running = unfinished_operations(connection, server_id)
    return any(journal.has_step_on(connection, operation_id, host) for operation_id, _ in running)


def inventories_of(report: HostReport, settings: ComputeSettings) -> dict[str, Inventory]:
    """What the host offers, as placement counts it: CPUs that guests share, and those that one has for itself."""
    shared, cpus = report.vcpus - report.pcpus, {}
    if shared > 0:
        cpus["VCPU"] = Inventory(shared, max_unit=shared, allocation_ratio=settings.cpu_allocation_ratio)
    if report.pcpus:
        cpus["PCPU"] = Inventory(report.pcpus, max_unit=report.pcpus)
    return cpus | {
        "MEMORY_MB": Inventory(
            report.memory_mb,
            reserved=settings.reserved_memory_mb,
            max_unit=report.memory_mb,
            allocation_ratio=settings.memory_allocation_ratio,
        ),
        "DISK_GB": Inventory(
            max(report.disk_gb, 1), max_unit=max(report.disk_gb, 1), allocation_ratio=settings.disk_allocation_ratio
        ),
    }
