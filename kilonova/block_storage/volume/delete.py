"""Delete a volume, whatever is being done to it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.block_storage.schema import journal
from kilonova.block_storage.snapshot import store as snapshot_store
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.operation import Services, backend_at, ends_in, show
from kilonova.db.database import says
from kilonova.saga.hosts import FOREVER_SECONDS
from kilonova.saga.journal import OperationRow, Superseded
from kilonova.saga.operation import Kind, Operation, Step

DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing", "error_deleting")


async def find_backend(step: Step[Services], volume_id: str) -> str:
    """Where the volume is; "" when no backend was chosen."""
    return (await step.services.db.read(store.get, volume_id)).host


@says("DELETE FROM volumes")
def forget(connection: Connection, volume_id: str, operation_id: str) -> None:
    """The volume is gone."""
    if not store.change_mine(connection, volume_id, operation_id, {"status": "deleted"}):
        raise Superseded(operation_id)
    snapshot_store.delete(connection, [one.id for one in snapshot_store.of_volume(connection, volume_id)])
    store.delete(connection, volume_id)


async def delete(
    op: Operation[Services], services: Services, volume_id: str, over: str, snapshot_ids: list[str] | None = None
) -> None:
    """Delete a volume, and these of its snapshots first. `over` is the operation that it was taken from."""
    if over:
        await op.undo_superseded(over)
    host = await op.step("where it is", find_backend, volume_id)
    if host:
        there = backend_at(host)
        for one in snapshot_ids or ():
            await op.step(
                "the backend removes a snapshot", there.delete_snapshot, one, patience_seconds=FOREVER_SECONDS
            )
        await op.step("the backend removes it", there.delete_volume, volume_id, patience_seconds=FOREVER_SECONDS)
    await op.finish("the volume is forgotten", forget, volume_id, op.id)


def begin(connection: Connection, row: OperationRow, statuses: Collection[str], cascade: bool = False) -> None:
    """The API's write. A volume in another status, attached, or with snapshots that do not go with it is INVALID; one
    that is being deleted stays so."""
    store.lock(connection, row.resource_id)
    volume = store.get(connection, row.resource_id)
    if volume.status == "deleting" and volume.operation_id:
        return
    held = any(one.status != "reserved" for one in volume.attachments)
    snapshots = snapshot_store.of_volume(connection, volume.id)
    kept = [one for one in snapshots if one.operation_id or not cascade]
    if held or kept or (statuses and volume.status not in statuses):
        raise invalid(
            "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
            "error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a "
            f"transfer, or be disassociated from snapshots after volume transfer. It is {volume.status}"
            + (f", and has {len(kept)} snapshots." if kept else "."),
            hint="Delete its snapshots first, or ask with cascade."
            if kept
            else "Detach it, or wait until what is under way has ended.",
        )
    if volume.operation_id:
        journal.supersede(connection, volume.operation_id, row.created_at)
    row.args |= {"over": volume.operation_id, "snapshot_ids": [one.id for one in snapshots]}
    for one in snapshots:
        snapshot_store.change(connection, one.id, {"status": "deleting", "updated_at": row.created_at})
    values = {"status": "deleting", "previous_status": volume.status, "operation_id": row.id}
    store.change(connection, volume.id, {**values, "updated_at": row.created_at})
    journal.insert(connection, row)


DELETE: Kind[Services] = Kind("delete", delete, ends_in("error_deleting", "VOLUME_VOLUME_005_001"), show)
