"""Does placement hold anything for servers that are not there? A claim whose answer was lost is given back here."""

from __future__ import annotations

from sqlalchemy import Connection

from kilonova.compute.core import Compute
from kilonova.compute.host import store as hosts
from kilonova.compute.server import migration_store, seen_store
from kilonova.saga.loops import Loop


async def run(compute: Compute) -> int:
    """Release every allocation whose consumer is no server on a host, no migration, and not worked on."""
    mended = 0
    placement = compute.peers.placement
    for host in await compute.db.read(hosts.every):
        held = await placement.consumers_on(host.provider_id)
        # Asked only after placement answered: a server that began meanwhile is seen.
        here = await compute.db.read(seen_store.live_on_host, host.name)
        for consumer in held:
            if consumer in here or await compute.db.read(_may_hold_room, consumer):
                continue
            await placement.release(consumer)
            mended += 1
    return mended


def _may_hold_room(connection: Connection, consumer: str) -> bool:
    return seen_store.may_hold_room(connection, consumer) or migration_store.may_hold_room(connection, consumer)


LOOP = Loop("orphan_allocations", 60.0, run)
