"""What the volume agent makes of the scheduler's word that nobody wants a connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kilonova.block_storage.contract import Connected, Connector, VolumeSpec
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.node.agents.volume import Peers, VolumeHostAgent
from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld


class NobodyWants:
    """A scheduler that wants no connection, and takes its time to say so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def connections_seen(self, host: str, seen: list[Connected]) -> list[Connected]:
        self.asked.set()
        await asyncio.sleep(1)
        return seen


def test_a_connection_that_is_asked_for_while_the_scheduler_answers_stays() -> None:
    async def main() -> dict[str, set[str]]:
        world, pool = SimWorld("agent", 1), FakePool()
        backend = FakeVolumeBackend(world, pool)
        for volume_id in ("again", "unwanted"):
            await backend.ensure_volume(VolumeSpec(volume_id, 1), None)
            await backend.connect(volume_id, Connector("node1"))
        bus = MemoryBus(world, MemoryBroker(), "cinder-volume.node1@files")
        agent = VolumeHostAgent(world, bus, "node1@files", backend, cast(Peers, None))
        scheduler = NobodyWants()
        agent.scheduler = cast(Any, scheduler)
        undoing = asyncio.create_task(agent.disconnect_unwanted())
        await scheduler.asked.wait()
        await agent.initialize_connection("again", Connector("node1"))
        await undoing
        return dict(pool.connectors)

    assert run(main(), 1) == {"again": {"node1"}}


def test_connecting_waits_for_the_end_of_undoing() -> None:
    async def main() -> dict[str, set[str]]:
        world, pool = SimWorld("agent", 1), FakePool()
        backend = FakeVolumeBackend(world, pool)
        await backend.ensure_volume(VolumeSpec("one", 1), None)
        bus = MemoryBus(world, MemoryBroker(), "cinder-volume.node1@files")
        agent = VolumeHostAgent(world, bus, "node1@files", backend, cast(Peers, None))
        pool.verb_seconds = 5.0
        undoing = asyncio.create_task(agent.terminate_connection("one", Connector("node1")))
        await asyncio.sleep(1)
        pool.verb_seconds = 0.0
        await agent.initialize_connection("one", Connector("node1"))
        await undoing
        return dict(pool.connectors)

    assert run(main(), 1) == {"one": {"node1"}}
