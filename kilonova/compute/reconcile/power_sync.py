"""Does the record agree with what the hypervisor sees? A guest that shut itself down is stopped in the record; one that
runs although its user stopped it is stopped again: https://docs.openstack.org/nova/latest/admin/ (power state sync).

What hosts see is written by the conductor when they tell it; this loop draws the conclusions, and only about servers
that no operation owns.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from kilonova.base.faults import Fault
from kilonova.compute.contract import Power
from kilonova.compute.core import Compute
from kilonova.compute.schema import journal
from kilonova.compute.server import seen_store, states, store
from kilonova.compute.server.start_stop import grace_of
from kilonova.compute.server.store import Server
from kilonova.db.database import says
from kilonova.saga.begin import Wanted, unasked
from kilonova.saga.journal import OperationRow
from kilonova.saga.loops import Loop

log = logging.getLogger(__name__)
SETTLED_SECONDS = 10.0
_OFF = (Power.SHUTDOWN, Power.CRASHED)
RUNS = (str(Power.RUNNING), str(Power.PAUSED))

# (vm_state, power_state) that do not agree → the vm_state that is true
TRUTH = {
    **{(state, str(off)): states.STOPPED for state in (states.ACTIVE, states.PAUSED) for off in _OFF},
    (states.ACTIVE, str(Power.PAUSED)): states.PAUSED,
    (states.PAUSED, str(Power.RUNNING)): states.ACTIVE,
}


async def run(compute: Compute) -> int:
    """Set vm_state to what is true, stop what should not run; returns how many servers were mended."""
    now = compute.world.clock.now()
    settled = now - timedelta(seconds=SETTLED_SECONDS)
    mended = 0
    for server_id, host, vm_state, power in await compute.db.read(seen_store.contradicting, list(TRUTH), settled):
        if await _is_so(compute, server_id, host, power):
            pair = (vm_state, power)
            mended += await compute.db.write(seen_store.correct_state, server_id, pair, TRUTH[pair], settled, now)
    for server_id in await compute.db.read(seen_store.runs_though_stopped, RUNS, settled):
        server = await compute.db.read(store.get, server_id)
        if not await _is_so(compute, server_id, server.host, server.power_state):
            continue
        row = _stop(compute, server)
        if await compute.db.write(_begin, server_id, row, settled):
            await compute.conductor.run_operation(row.id)
            mended += 1
    return mended


async def _is_so(compute: Compute, server_id: str, host: str, power: str) -> bool:
    """Whether the host still sees what is recorded: its word may have been overtaken by a later one. Silence: no."""
    try:
        seen = str(await compute.agent(host).get_power(server_id))
    except Fault as fault:
        log.info("power of %s on %s is not known: %r", server_id, host, fault)
        return False
    if seen != power:
        await compute.db.write(seen_store.set_power, server_id, seen)
    return seen == power


def _stop(compute: Compute, server: Server) -> OperationRow:
    """A stop that nobody asked for: it has no user."""
    stop = Wanted("stop", server.id, {"server_id": server.id, "grace_seconds": grace_of(compute, server)})
    return unasked(compute.world, compute.sealer, server.project_id, stop)


@says("servers: runs though stopped; task_state = powering-off, operation stop recorded")
def _begin(connection: Connection, server_id: str, row: OperationRow, settled: datetime) -> bool:
    """False when it does not run any more, or somebody works on it."""
    if not seen_store.admit_that_it_runs(connection, server_id, RUNS, settled, row.created_at):
        return False
    row.args["host"] = store.take(connection, server_id, "stop", row, admin=True).host
    journal.insert(connection, row)
    return True


LOOP = Loop("power_sync", 10.0, run)
