"""One of several schedulers, each a process of its own: `python -m tests.contract.scheduler_process` with, on stdin,
{"placement": URL, "nova": URL, "servers": [id, …], "at_once": n}. It waits for a line "go", asks for a place for each
server, and prints how many were placed and refused as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Flavor, RequestSpec
from kilonova.compute.scheduler.kept import DatabaseRecorder
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.db.server import server_database
from tests.api.placement.doors import placement_client, placement_door

WANTED = {"VCPU": 1, "MEMORY_MB": 512}
FLAVOR = Flavor("1", "m1.tiny", 1, 512, 0)


async def run(asked: dict[str, Any]) -> Counter[str]:
    """(placed, refused) in a counter; anything else that happened is in it, too."""
    world = LiveWorld(f"scheduler-{asked['servers'][0]}")
    books = await server_database("placement", asked["placement"], world)
    nova = await server_database("nova", asked["nova"], world)
    placement = placement_client(await placement_door(world, books), world)
    hosts = DatabaseHosts(world, nova, lambda _: lambda _host: "nova")
    worker = SchedulerWorker(world, placement, hosts, recorder=DatabaseRecorder(nova))
    ended: Counter[str] = Counter()
    waiting = asyncio.Semaphore(asked["at_once"])

    async def place(server_id: str) -> None:
        async with waiting:
            try:
                await worker.select_destinations(RequestSpec(server_id, "project", "user", FLAVOR, dict(WANTED)))
                ended["placed"] += 1
            except Fault as fault:
                ended["refused" if fault.kind is Kind.NO_CAPACITY else repr(fault)] += 1

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*map(place, asked["servers"]))
    await worker.close()
    await books.close()
    await nova.close()
    await world.close()
    return ended


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.stdin.readline())))), flush=True)
