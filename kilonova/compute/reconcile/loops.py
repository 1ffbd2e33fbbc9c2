"""Every reconcile loop of compute; a conductor runs them."""

from __future__ import annotations

from kilonova.compute.reconcile import (
    abandoned_holds,
    addresses,
    confirm_old_resizes,
    orphan_allocations,
    power_sync,
    reclaim,
    retention,
)
from kilonova.saga.loops import Loop

LOOPS: tuple[Loop, ...] = (
    power_sync.LOOP,
    addresses.LOOP,
    confirm_old_resizes.LOOP,
    orphan_allocations.LOOP,
    abandoned_holds.LOOP,
    reclaim.LOOP,
    *retention.LOOPS,
)
