"""Has a resize waited for its user's word for longer than the operator lets it? Then it is confirmed."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.core import Compute
from kilonova.compute.server import migration_store
from kilonova.compute.server.migration_store import Migration
from kilonova.compute.server.resize_confirm import decide
from kilonova.saga.journal import OperationRow
from kilonova.saga.loops import Loop


async def run(compute: Compute) -> int:
    """Confirm what waits longer than `resize_confirm_seconds`; 0 lets it wait for ever. Returns how many."""
    window = compute.settings.resize_confirm_seconds
    if not window:
        return 0
    now = compute.world.clock.now()
    mended = 0
    for migration in await compute.db.read(migration_store.finished_before, now - timedelta(seconds=window)):
        row = _confirm(compute, migration, now)
        if await compute.db.write(_begin, row):
            await compute.conductor.run_operation(row.id)
            mended += 1
    return mended


def _confirm(compute: Compute, migration: Migration, now: datetime) -> OperationRow:
    """A confirmation that nobody asked for: it has no user."""
    return OperationRow(
        id=compute.world.ids.uuid(),
        kind="confirmResize",
        version=1,
        resource_id=migration.server_id,
        args={"server_id": migration.server_id},
        user_id="",
        project_id=migration.project_id,
        request_id=f"req-{compute.world.ids.uuid()}",
        created_at=now,
        sealed=compute.sealer.seal({}),
    )


def _begin(connection: Connection, row: OperationRow) -> bool:
    """False when its user said a word meanwhile, or deleted it."""
    try:
        decide(connection, row, True)
    except Fault as fault:
        if fault.kind in (FaultKind.CONFLICT, FaultKind.NOT_FOUND, FaultKind.INVALID):
            return False
        raise
    return True


LOOP = Loop("confirm_old_resizes", 30.0, run)
