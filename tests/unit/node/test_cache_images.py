"""A host brings images into its cache before anybody boots them."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import not_found
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.inline import InlineDatabase
from kilonova.image.contract import NOT_ASKED, ImageRef, Trust
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.agents.compute.core import ComputeSettings, Machine, Peers
from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine
from kilonova.node.images.fake import FakeLocalDisks
from kilonova.node.vswitch.fake import FakeVirtualSwitch
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld


class Images:
    """Two images; who asked is noted."""

    def __init__(self) -> None:
        self.downloads: list[tuple[str, str]] = []
        self.proofs: list[tuple[str, str]] = []

    async def show(self, token: str, image_id: str) -> ImageRef:
        if image_id not in ("one", "two"):
            raise not_found("Image", image_id)
        return ImageRef(image_id, "i", "active", "raw", "bare", 1000, 0, 0, "p", "public")

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        self.downloads.append((token, image_id))

    async def places(self, token: str, image_id: str) -> list[str]:
        return []

    async def prove(self, token: str, image_id: str, trust: Trust = NOT_ASKED) -> None:
        self.proofs.append((token, image_id))


async def _own_token() -> str:
    raise AssertionError("the admin's token is used")


def test_images_are_cached_once_and_one_that_is_gone_stops_nothing() -> None:
    world, machine, images = SimWorld("host", 1), FakeMachine(), Images()
    nothing: Any = None
    peers = Peers(images, nothing, nothing, _own_token)
    parts = Machine(FakeHypervisor(world, machine), FakeLocalDisks(world, machine), FakeVirtualSwitch(host="node1"))
    bus = MemoryBus(world, MemoryBroker(), "compute.node1")
    ledger = InlineDatabase("ledger", world.clock)
    agent = ComputeHostAgent((world, bus, "node1", ledger), parts, peers, ComputeSettings())

    async def main() -> None:
        await agent.cache_images(["one", "gone", "two", "one"], "admin")

    run(main(), 1)
    assert images.downloads == [("admin", "one"), ("admin", "two")]
    assert images.proofs == [("admin", "one")]  # what is here already must still be the caller's to have
    assert set(machine.images) == {"one", "two"}
