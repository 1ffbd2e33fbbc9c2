"""Create a volume: choose a backend, have its agent make the volume; a backend that fails gives way to the next."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.faults import Kind as FaultKind
from kilonova.block_storage.backend import store as backend_store
from kilonova.block_storage.backend.choose import Wanted, choose
from kilonova.block_storage.contract import VolumeSpec
from kilonova.block_storage.quota import store as quota_store
from kilonova.block_storage.schema import idempotency, journal
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.operation import Services, backend_at, end, ends_in, show
from kilonova.db.database import says
from kilonova.db.idempotency import earlier, remember
from kilonova.saga.journal import OperationRow, Superseded
from kilonova.saga.operation import Kind, Operation, Step

log = logging.getLogger(__name__)

BACKENDS_TRIED = 3
_GO_ON = (FaultKind.NO_CAPACITY, FaultKind.UNAVAILABLE, FaultKind.BUG)


async def choose_backend(step: Step[Services], wanted: Wanted, tried: list[str]) -> str:
    """The host of the backend that gets the volume."""
    services, used = await step.services.db.read(_backends)
    try:
        return choose(services, wanted, used, tried, step.world.clock.now())
    except Fault as fault:
        log.warning("volume %s: %r", step.row.resource_id, fault)
        raise


def _backends(connection: Connection) -> tuple[list[backend_store.Service], dict[str, int]]:
    return backend_store.listed(connection, backend_store.VOLUME_BINARY), store.provisioned(connection)


@says("UPDATE volumes SET host")
def note_host(connection: Connection, volume_id: str, operation_id: str, host: str) -> None:
    """The volume's backend."""
    if not store.change_mine(connection, volume_id, operation_id, {"host": host}):
        raise Superseded(operation_id)


@says("UPDATE volumes SET status = available")
def available(connection: Connection, volume_id: str, operation_id: str, values: dict[str, Any]) -> None:
    """The volume is there."""
    end(connection, volume_id, operation_id, {"status": "available", **values})


async def create(op: Operation[Services], services: Services, spec: VolumeSpec, wanted: Wanted) -> None:
    """Create a volume."""
    tried: list[str] = []
    shows = "downloading" if spec.image_id else None
    while True:
        mark = op.mark()
        host = await op.step("the scheduler chooses a backend", choose_backend, wanted, tried)
        await op.write("the backend is noted", note_host, spec.id, op.id, host)
        there = backend_at(host)
        try:
            await op.step(
                "the backend makes the volume",
                there.create_volume,
                spec.id,
                spec,
                undo=there.delete_volume,
                shows=shows,
            )
            break
        except Fault as fault:
            tried.append(host)
            hopeless = fault.code == "HostSilent" or fault.kind not in _GO_ON or len(tried) >= BACKENDS_TRIED
            if hopeless or not await _others(services, wanted, tried):
                raise
            await op.undo_since(mark)
    values = {"updated_at": services.world.clock.now()}
    await op.finish("the volume is available", available, spec.id, op.id, values)


async def _others(services: Services, wanted: Wanted, tried: list[str]) -> bool:
    """Whether another backend could have it: when not, the last one's reason tells more than "no backend"."""
    known, used = await services.db.read(_backends)
    try:
        choose(known, wanted, used, tried, services.world.clock.now())
    except Fault:
        return False
    return True


def args(spec: VolumeSpec, wanted: Wanted) -> dict[str, Any]:
    """The operation's arguments, as they are journalled."""
    return {"spec": msgspec.to_builtins(spec), "wanted": msgspec.to_builtins(wanted)}


def begin(connection: Connection, request: NewRow) -> store.Volume:
    """The API's write: quota, volume and operation in one transaction. A repeat with the same key finds the first."""
    volume, row = request.volume, request.row
    if known := earlier(connection, idempotency, request.key, volume.user_id):
        return store.get(connection, known)
    quota_store.require_size(connection, volume.project_id, request.defaults, volume.size_gib)
    quota_store.require_volume(connection, volume.project_id, request.defaults, volume.volume_type, volume.size_gib)
    store.insert(connection, volume)
    journal.insert(connection, row)
    remember(connection, idempotency, request.key, volume.user_id, volume.id, volume.created_at)
    return volume


class NewRow(msgspec.Struct, frozen=True):
    """What the API records of a new volume."""

    volume: store.Volume
    row: OperationRow
    defaults: dict[str, int]
    key: str


_told = ends_in("error", "VOLUME_VOLUME_001_001")


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """Nothing of it is left on a backend."""
    store.change_mine(connection, row.resource_id, row.id, {"host": ""})
    _told(connection, row, fault)


CREATE: Kind[Services] = Kind("create", create, failed, show)
