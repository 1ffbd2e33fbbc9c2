"""The process `cinder-scheduler`: runs block storage's operations, hears the volume agents, and reconciles."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import Connection

from kilonova.base.faults import forbidden, not_found
from kilonova.base.world import World
from kilonova.block_storage.attachment import connection_store
from kilonova.block_storage.backend import store as backend_store
from kilonova.block_storage.contract import (
    EXCHANGE,
    SCHEDULER_TOPIC,
    VOLUME_TOPIC,
    Capabilities,
    Connected,
    ServerEvents,
    StepSecrets,
    VolumeScheduler,
)
from kilonova.block_storage.message import store as message_store
from kilonova.block_storage.schema import idempotency, journal
from kilonova.block_storage.snapshot import store as snapshot_store
from kilonova.block_storage.snapshot.operation import CREATE_SNAPSHOT, DELETE_SNAPSHOT
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.create import CREATE
from kilonova.block_storage.volume.delete import DELETE
from kilonova.block_storage.volume.extend import EXTEND
from kilonova.block_storage.volume.operation import Services
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription, Target
from kilonova.bus.steps import StepDriver
from kilonova.db import idempotency as keys
from kilonova.db.database import Database
from kilonova.saga.loops import Loop, Loops
from kilonova.saga.runner import Parts, Runner
from kilonova.saga.seal import Sealer
from kilonova.saga.seams import Seams

log = logging.getLogger(__name__)

KINDS = (CREATE, DELETE, EXTEND, CREATE_SNAPSHOT, DELETE_SNAPSHOT)
PARTICIPANT = "cinder_scheduler"
STUCK_AFTER = timedelta(minutes=10)
KEPT = timedelta(days=7)


class Flows:
    """What flows get: implements `volume.operation.Services`."""

    def __init__(self, world: World, db: Database, events: ServerEvents | None) -> None:
        self.world, self.db, self.events = world, db, events


class Scheduler:
    """Implements `VolumeScheduler`. Several may run: leases share the operations among them."""

    def __init__(
        self,
        world: World,
        db: Database,
        bus: Bus,
        sealer: Sealer,
        events: ServerEvents | None = None,
        *,
        seams: Seams | None = None,
    ) -> None:
        self.world, self.db, self.bus = world, db, bus
        self.zone = "nova"
        self._sealer = sealer
        parts = Parts(world, db, bus, journal, sealer, Target(EXCHANGE, SCHEDULER_TOPIC), PARTICIPANT)
        self.runner: Runner[Services] = Runner(parts, Flows(world, db, events), KINDS, seams)
        self.loops = Loops(world, self, LOOPS)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Take messages, run operations, reconcile."""
        handlers = {**rpc.handlers(VolumeScheduler, self), **rpc.handlers(StepDriver, self.runner)}
        self._subscription = await self.bus.serve(EXCHANGE, SCHEDULER_TOPIC, "", handlers)
        self.runner.start()
        self.loops.start()
        self.world.spawn(self.loops.once(LOOPS[0]), "first heartbeat")

    async def close(self) -> None:
        """Take no more messages; what runs is resumed by another."""
        if self._subscription is not None:
            await self._subscription.stand_back()  # a new operation is for a worker that stays
        await self.runner.close()  # while hosts can still tell it that its steps ended
        if self._subscription is not None:
            await self._subscription.close()

    # ── the contract

    async def run_operation(self, operation_id: str) -> None:
        await self.runner.wake(operation_id)

    async def report_capabilities(self, host: str, capabilities: Capabilities) -> None:
        _check_sender(host)
        now = self.world.clock.now()
        binary = backend_store.VOLUME_BINARY
        await self.db.write(backend_store.report, binary, host, self.zone, now, capabilities)

    async def step_secrets(self, host: str, operation_id: str, epoch: int) -> StepSecrets:
        _check_sender(host)
        row = await self.db.read(journal.get, operation_id)
        steps = await self.db.read(journal.steps_of, operation_id)
        mine = any(step.host == host and step.state == "running" for step in steps)
        if row is None or row.state != "running" or row.epoch != epoch or not mine:
            raise not_found("Operation", operation_id)
        return StepSecrets(str(self._sealer.open(row.sealed).get("token", "")))

    async def volumes_seen(self, host: str, volume_ids: list[str]) -> list[str]:
        _check_sender(host)
        unknown = await self.db.read(_deleted_among, volume_ids)
        for volume_id in unknown:
            log.warning("volume %s on %s was deleted here: its backend must remove it", volume_id, host)
        return unknown

    async def connections_seen(self, host: str, seen: list[Connected]) -> list[Connected]:
        _check_sender(host)
        return await self.db.read(_unwanted_among, host, seen)


def _check_sender(host: str) -> None:
    """A backend's agent speaks for itself only: nobody else gets its secrets or reports in its name."""
    if rpc.sender() != f"{VOLUME_TOPIC}.{host}":
        log.warning("refused: %r asked as host %r", rpc.sender(), host)
        raise forbidden("A host may ask about itself only.", code="NotYourHost")


def _deleted_among(connection: Connection, volume_ids: list[str]) -> list[str]:
    """Ids without a row whose deletion stands in the journal. A volume that we never heard of is not ours to delete:
    the directory may be another cloud's, or our database an older backup."""
    unknown = sorted(set(volume_ids) - store.known(connection, volume_ids))
    return [one for one in unknown if journal.ended(connection, one, "delete")]


def _unwanted_among(connection: Connection, host: str, seen: list[Connected]) -> list[Connected]:
    """Of the backend's connections those that nobody wants. A volume that is not ours on this backend is left alone."""
    ids = {one.volume_id for one in seen}
    ours = store.on_backend(connection, host, ids) | set(_deleted_among(connection, sorted(ids)))
    wanted = connection_store.wanted(connection, ids)
    return [one for one in seen if one.volume_id in ours and one not in wanted]


async def heartbeat(scheduler: Scheduler) -> int:
    """Does this scheduler live? Others see it by this row."""
    now, name = scheduler.world.clock.now(), scheduler.world.name
    await scheduler.db.write(backend_store.report, backend_store.SCHEDULER_BINARY, name, scheduler.zone, now)
    return 0


async def free_stuck(scheduler: Scheduler) -> int:
    """Does a volume or a snapshot wait for an operation that has ended? Then it is in error, and free."""
    return await scheduler.db.write(_free_stuck, scheduler)


def _free_stuck(connection: Connection, scheduler: Scheduler) -> int:
    freed, before = 0, scheduler.world.clock.now() - STUCK_AFTER
    values = {"status": "error", "operation_id": ""}
    for volume in store.stuck(connection, before):
        if _has_ended(connection, volume.operation_id):
            freed += store.change_mine(connection, volume.id, volume.operation_id, values)
    for snapshot in snapshot_store.stuck(connection, before):
        if _has_ended(connection, snapshot.operation_id):
            freed += snapshot_store.change_mine(connection, snapshot.id, snapshot.operation_id, values)
    return freed


def _has_ended(connection: Connection, operation_id: str) -> bool:
    row = journal.get(connection, operation_id)
    return row is None or row.state in ("done", "failed")


async def forget_old(scheduler: Scheduler) -> int:
    """What is too old to be of use to anyone?"""
    return await scheduler.db.write(_forget_old, scheduler)


def _forget_old(connection: Connection, scheduler: Scheduler) -> int:
    now = scheduler.world.clock.now()
    gone = journal.forget_before(connection, now - KEPT)
    gone += keys.forget_before(connection, idempotency, now - KEPT)
    return gone + message_store.forget_before(connection, now - message_store.KEPT)


LOOPS = (
    Loop("heartbeat", 10.0, heartbeat),
    Loop("stuck volumes", 60.0, free_stuck),
    Loop("old records", 3600.0, forget_old),
)
