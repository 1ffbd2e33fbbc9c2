"""Are volumes reserved for servers that will never be? An API that died while it reserved them is made good here."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kilonova.compute.core import Compute
from kilonova.compute.server import hold_store
from kilonova.compute.server.hold_request import give_back
from kilonova.saga.loops import Loop

PATIENCE_SECONDS: Final = 300  # longer than a create request takes; one that takes longer is refused


async def run(compute: Compute) -> int:
    """Give back what is held for long without a record."""
    moment = compute.world.clock.now() - timedelta(seconds=PATIENCE_SECONDS)
    abandoned = await compute.db.write(hold_store.give_back_before, moment)
    for server_id in abandoned:
        await give_back(compute, server_id)
        await compute.db.write(hold_store.end, server_id)
    return len(abandoned)


LOOP = Loop("abandoned_holds", 60.0, run)
