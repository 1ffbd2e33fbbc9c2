"""Extend a volume: the quota grows first, the backend then, the record last."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.block_storage.attachment import store as attachment_store
from kilonova.block_storage.backend import store as backend_store
from kilonova.block_storage.quota import store as quota_store
from kilonova.block_storage.schema import journal
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.operation import Services, backend_at, end, ends_in, show
from kilonova.db.database import says
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step

log = logging.getLogger(__name__)


@says("UPDATE volumes SET size")
def grown(connection: Connection, volume_id: str, operation_id: str, size_gib: int) -> None:
    """The volume has its new size."""
    end(connection, volume_id, operation_id, {"status": _resting(connection, volume_id), "size_gib": size_gib})


def _resting(connection: Connection, volume_id: str) -> str:
    """The status of a volume that nothing is done to."""
    held = attachment_store.of_volumes(connection, [volume_id]).get(volume_id, [])
    return "in-use" if any(one.status == "attached" for one in held) else "available"


async def extend(
    op: Operation[Services],
    services: Services,
    volume_id: str,
    host: str,
    size_gib: int,
    server_ids: tuple[str, ...] = (),
) -> None:
    """Extend a volume. A step that fails leaves the old size or the new: a backend never shrinks what it grew."""
    await op.step("the backend grows it", backend_at(host).extend_volume, volume_id, size_gib)
    for server_id in server_ids:
        await op.step("compute is told of the larger disk", tell_server, server_id, volume_id)
    await op.finish("the volume is larger", grown, volume_id, op.id, size_gib)


async def tell_server(step: Step[Services], server_id: str, volume_id: str) -> None:
    """The server's guest sees the new size at once; when compute does not answer, at its next start."""
    if step.services.events is None:
        return None
    for pause_seconds in (1.0, 5.0, 0.0):
        try:
            return await step.services.events.volume_extended(server_id, volume_id)
        except Fault as fault:
            log.warning("server %s was not told that volume %s is larger: %r", server_id, volume_id, fault)
        await step.world.clock.sleep(pause_seconds)
    return None


def begin(
    connection: Connection, row: OperationRow, size_gib: int, defaults: Mapping[str, int], *, online: bool
) -> None:
    """The API's write: status, quota and operation in one transaction. `online`: a volume in use too."""
    store.lock(connection, row.resource_id)
    volume = store.get(connection, row.resource_id)
    if volume.status != "available" and not (online and volume.status == "in-use"):
        raise invalid(
            f"Invalid volume: Volume {volume.id} status must be 'available' to extend, currently {volume.status}.",
            hint="Detach the volume first, or ask with microversion 3.42.",
        )
    if volume.status == "in-use" and not _grows_online(connection, volume.host):
        raise invalid(
            f"Invalid volume: Volume {volume.id} is in use, and its backend cannot extend it meanwhile.",
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
    servers = sorted({one.instance_id for one in volume.attachments if one.instance_id and one.status == "attached"})
    row.args = {"volume_id": volume.id, "host": volume.host, "size_gib": size_gib, "server_ids": servers}
    values = {"status": "extending", "quota_gib": size_gib, "operation_id": row.id, "updated_at": row.created_at}
    store.change(connection, volume.id, values)
    journal.insert(connection, row)


def _grows_online(connection: Connection, host: str) -> bool:
    found = backend_store.listed(connection, backend_store.VOLUME_BINARY, host)
    return any(one.capabilities is not None and one.capabilities.online_extend for one in found)


_told = ends_in("error_extending", "VOLUME_VOLUME_007_001")
_told_in_use = ends_in("in-use", "VOLUME_VOLUME_007_001")


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The quota counts the old size again. A volume that a guest has stays in use: nothing of it was changed."""
    in_use = _resting(connection, row.resource_id) == "in-use"
    if row.resource_id in store.known(connection, [row.resource_id]):
        size_gib = store.get(connection, row.resource_id).size_gib
        store.change_mine(connection, row.resource_id, row.id, {"quota_gib": size_gib})
    (_told_in_use if in_use else _told)(connection, row, fault)


EXTEND: Kind[Services] = Kind("extend", extend, failed, show)
