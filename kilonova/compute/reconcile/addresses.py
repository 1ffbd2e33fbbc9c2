"""Do servers show the addresses that network gives them? An event that was lost, or never told, is made good here.

Each run asks about a few servers; which ones, the clock says, so that all have their turn whoever runs the loop.
"""

from __future__ import annotations

from kilonova.compute.core import Compute
from kilonova.compute.server import addresses, seen_store
from kilonova.saga.loops import Loop

EVERY_SECONDS = 60.0
AT_ONCE = 20


async def run(compute: Compute) -> int:
    """How many servers showed something else than network says."""
    count = await compute.db.read(seen_store.count_placed)
    turns = -(-count // AT_ONCE) or 1
    turn = int(compute.world.clock.now().timestamp() // EVERY_SECONDS) % turns
    mended = 0
    for server_id in await compute.db.read(seen_store.placed, turn, turns):
        mended += await addresses.refresh(compute, server_id)
    return mended


LOOP = Loop("addresses", EVERY_SECONDS, run)
