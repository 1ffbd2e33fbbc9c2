"""Extend a volume: the quota grows first, the backend then, the record last."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.block_storage.quota import store as quota_store
from kilonova.block_storage.schema import journal
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.operation import Services, backend_at, end, ends_in, show
from kilonova.db.database import says
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation


@says("UPDATE volumes SET size")
def grown(connection: Connection, volume_id: str, operation_id: str, size_gib: int) -> None:
    """The volume has its new size."""
    end(connection, volume_id, operation_id, {"status": "available", "size_gib": size_gib})


async def extend(op: Operation[Services], services: Services, volume_id: str, host: str, size_gib: int) -> None:
    """Extend a volume. A step that fails leaves the old size or the new: a backend never shrinks what it grew."""
    await op.step("the backend grows it", backend_at(host).extend_volume, volume_id, size_gib)
    await op.finish("the volume is larger", grown, volume_id, op.id, size_gib)


def begin(connection: Connection, row: OperationRow, size_gib: int, defaults: Mapping[str, int]) -> None:
    """The API's write: status, quota and operation in one transaction."""
    volume = store.get(connection, row.resource_id)
    if volume.status != "available":
        raise invalid(
            f"Invalid volume: Volume {volume.id} status must be 'available' to extend, currently {volume.status}.",
            hint="Detach the volume first.",
        )
    if size_gib <= volume.size_gib:
        raise invalid(
            "Invalid input received: New size for extend must be greater than current size. "
            f"(current: {volume.size_gib}, extended: {size_gib})."
        )
    quota_store.require_size(connection, volume.project_id, defaults, size_gib)
    more = size_gib - volume.size_gib
    quota_store.require_volume(connection, volume.project_id, defaults, volume.volume_type, more, 0)
    row.args = {"volume_id": volume.id, "host": volume.host, "size_gib": size_gib}
    values = {"status": "extending", "quota_gib": size_gib, "operation_id": row.id, "updated_at": row.created_at}
    store.change(connection, volume.id, values)
    journal.insert(connection, row)


_told = ends_in("error_extending", "VOLUME_VOLUME_007_001")


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The quota counts the old size again."""
    if row.resource_id in store.known(connection, [row.resource_id]):
        size_gib = store.get(connection, row.resource_id).size_gib
        store.change_mine(connection, row.resource_id, row.id, {"quota_gib": size_gib})
    _told(connection, row, fault)


EXTEND: Kind[Services] = Kind("extend", extend, failed, show)
