"""Does the record agree with what the hypervisor sees? A guest that shut itself down is stopped, one that runs is not.

What hosts see is written by the conductor when they tell it; this loop draws the conclusions, and only about servers
that no operation owns.
"""

from __future__ import annotations

from datetime import timedelta

from kilonova.compute.contract import Power
from kilonova.compute.core import Compute
from kilonova.compute.server import seen_store, states
from kilonova.saga.loops import Loop

SETTLED_SECONDS = 10.0
_OFF = (Power.SHUTDOWN, Power.CRASHED)

# (vm_state, power_state) that do not agree → the vm_state that is true
TRUTH = {
    **{(state, str(off)): states.STOPPED for state in (states.ACTIVE, states.PAUSED) for off in _OFF},
    (states.STOPPED, str(Power.RUNNING)): states.ACTIVE,
    (states.ACTIVE, str(Power.PAUSED)): states.PAUSED,
    (states.PAUSED, str(Power.RUNNING)): states.ACTIVE,
}


async def run(compute: Compute) -> int:
    """Set vm_state to what is true; returns how many servers were mended."""
    now = compute.world.clock.now()
    return await compute.db.write(seen_store.correct_states, TRUTH, now - timedelta(seconds=SETTLED_SECONDS), now)


LOOP = Loop("power_sync", 10.0, run)
