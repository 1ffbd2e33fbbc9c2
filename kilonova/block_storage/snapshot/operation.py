"""The operations on snapshots: create and delete, by the agent of the volume's backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.block_storage.backend import store as backend_store
from kilonova.block_storage.contract import SnapshotSpec
from kilonova.block_storage.message import store as message_store
from kilonova.block_storage.message.store import Message
from kilonova.block_storage.quota import store as quota_store
from kilonova.block_storage.schema import idempotency, journal
from kilonova.block_storage.snapshot import store
from kilonova.block_storage.volume import store as volume_store
from kilonova.block_storage.volume.operation import Services, backend_at
from kilonova.db.database import says
from kilonova.db.idempotency import earlier, remember
from kilonova.saga.hosts import FOREVER_SECONDS
from kilonova.saga.journal import OperationRow, Superseded
from kilonova.saga.operation import Kind, Operation

DELETABLE = ("available", "error", "error_deleting")


# ── create


class NewRow(msgspec.Struct, frozen=True):
    """What the API records of a new snapshot."""

    snapshot: store.Snapshot
    row: OperationRow
    statuses: tuple[str, ...]  # of the volume
    defaults: Mapping[str, int]
    key: str
    still: bool = False


def begin_create(connection: Connection, request: NewRow) -> store.Snapshot:
    """The API's write: quota, snapshot and operation in one transaction. A repeat with the same key finds the first."""
    snapshot = request.snapshot
    if known := earlier(connection, idempotency, request.key, snapshot.user_id):
        return store.get(connection, known)
    volume_store.lock(connection, snapshot.volume_id)
    volume = volume_store.get(connection, snapshot.volume_id)
    if volume.status not in request.statuses:
        raise invalid(
            f"Invalid volume: Volume {volume.id} status must be {' or '.join(request.statuses)}, but current status "
            f"is: {volume.status}."
        )
    if volume.status == "in-use" and not request.still:
        _require_online(connection, volume)
    snapshot.host, snapshot.size_gib = volume.host, volume.size_gib
    snapshot.volume_type_id = volume.volume_type_id
    quota_store.require_snapshot(
        connection, snapshot.project_id, request.defaults, volume.volume_type, snapshot.size_gib
    )
    spec = SnapshotSpec(snapshot.id, volume.id, volume.size_gib, request.still)
    request.row.args = {"spec": msgspec.to_builtins(spec), "host": volume.host}
    store.insert(connection, snapshot)
    journal.insert(connection, request.row)
    remember(connection, idempotency, request.key, snapshot.user_id, snapshot.id, snapshot.created_at)
    return snapshot


def _require_online(connection: Connection, volume: volume_store.Volume) -> None:
    """A volume that may be written meanwhile needs a backend that takes a snapshot at one moment."""
    for one in backend_store.listed(connection, backend_store.VOLUME_BINARY, volume.host):
        if one.capabilities is not None and one.capabilities.online_snapshots:
            return
    raise invalid(
        f"Invalid volume: Volume {volume.id} is in use, and its backend cannot take a consistent snapshot meanwhile.",
        hint="Detach the volume first. A backend on a file system that shares blocks (XFS, btrfs) needs no detach.",
    )


async def create(op: Operation[Services], services: Services, spec: SnapshotSpec, host: str) -> None:
    """Create a snapshot."""
    there = backend_at(host)
    await op.step("the backend makes the snapshot", there.create_snapshot, spec.id, spec, undo=there.delete_snapshot)
    await op.finish("the snapshot is available", available, spec.id, op.id)


@says("UPDATE snapshots SET status = available")
def available(connection: Connection, snapshot_id: str, operation_id: str) -> None:
    """The snapshot is there."""
    if not store.change_mine(connection, snapshot_id, operation_id, {"status": "available", "operation_id": ""}):
        raise Superseded(operation_id)


# ── delete


def begin_delete(connection: Connection, row: OperationRow, statuses: Collection[str]) -> None:
    """The API's write. A snapshot in another status is INVALID (any will do when none is given); one that is being
    deleted stays so."""
    snapshot = store.get(connection, row.resource_id)
    if snapshot.status == "deleting" and snapshot.operation_id:
        return
    if statuses and snapshot.status not in statuses:
        raise invalid(
            f"Invalid snapshot: Snapshot status must be one of {' or '.join(statuses)}, it is {snapshot.status}.",
            hint="Wait until what is under way has ended.",
        )
    if snapshot.operation_id:
        journal.supersede(connection, snapshot.operation_id, row.created_at)
    row.args = {"snapshot_id": snapshot.id, "host": snapshot.host, "over": snapshot.operation_id}
    values = {"status": "deleting", "operation_id": row.id, "updated_at": row.created_at}
    store.change(connection, snapshot.id, values)
    journal.insert(connection, row)


async def delete(op: Operation[Services], services: Services, snapshot_id: str, host: str, over: str) -> None:
    """Delete a snapshot. `over` is the operation that this one took it from."""
    if over:
        await op.undo_superseded(over)
    there = backend_at(host)
    await op.step(
        "the backend removes the snapshot", there.delete_snapshot, snapshot_id, patience_seconds=FOREVER_SECONDS
    )
    await op.finish("the snapshot is forgotten", forget, snapshot_id, op.id)


@says("DELETE FROM snapshots")
def forget(connection: Connection, snapshot_id: str, operation_id: str) -> None:
    """The snapshot is gone."""
    if not store.change_mine(connection, snapshot_id, operation_id, {"status": "deleted"}):
        raise Superseded(operation_id)
    store.delete(connection, [snapshot_id])


# ── how they end


def _show(connection: Connection, row: OperationRow, value: str) -> None:
    if not store.change_mine(connection, row.resource_id, row.id, {"status": value}):
        raise Superseded(row.id)


def _ends_in(status: str, event_id: str) -> Callable[[Connection, OperationRow, Fault], None]:
    """How an operation of this kind ends when it failed: that status, and a message for the owner."""

    def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
        now = row.updated_at or row.created_at
        values = {"status": status, "updated_at": now, "operation_id": ""}
        if store.change_mine(connection, row.resource_id, row.id, values):
            told = Message(
                id=row.id,
                project_id=row.project_id,
                request_id=row.request_id,
                resource_id=row.resource_id,
                resource_type="VOLUME_SNAPSHOT",
                event_id=event_id,
                user_message=fault.told,
                created_at=now,
            )
            message_store.insert(connection, told)

    return failed


CREATE_SNAPSHOT: Kind[Services] = Kind(
    "create_snapshot", create, _ends_in("error", "VOLUME_VOLUME_SNAPSHOT_009_001"), _show
)
DELETE_SNAPSHOT: Kind[Services] = Kind(
    "delete_snapshot", delete, _ends_in("error_deleting", "VOLUME_VOLUME_SNAPSHOT_010_001"), _show
)
