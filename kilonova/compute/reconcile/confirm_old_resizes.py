"""Has a resize waited for its user's word for longer than the operator lets it? Then it is confirmed."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.core import Compute
from kilonova.compute.server import migration_store
from kilonova.compute.server.resize_confirm import decide
from kilonova.saga.begin import Wanted, unasked
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
        confirm = Wanted("confirmResize", migration.server_id, {"server_id": migration.server_id})
        row = unasked(compute.world, compute.sealer, migration.project_id, confirm)
        if await compute.db.write(_begin, row):
            await compute.conductor.run_operation(row.id)
            mended += 1
    return mended


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
