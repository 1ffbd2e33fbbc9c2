"""Are there servers that were soft-deleted long enough ago? They are deleted for good."""

from __future__ import annotations

from datetime import timedelta

from kilonova.compute.core import Compute
from kilonova.compute.server import seen_store
from kilonova.compute.server.delete import delete_unasked
from kilonova.saga.loops import Loop


async def run(compute: Compute) -> int:
    """Begin to delete what is due; returns how many."""
    interval = compute.settings.reclaim_instance_interval_seconds
    if interval <= 0:
        return 0
    due = compute.world.clock.now() - timedelta(seconds=interval)
    begun = 0
    for server_id in await compute.db.read(seen_store.soft_deleted_before, due):
        begun += await delete_unasked(compute, server_id)
    return begun


LOOP = Loop("reclaim", 60.0, run)
