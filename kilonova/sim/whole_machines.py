"""What survives every process of the whole cloud: hosts with their guests, wires, volumes and ledgers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

from kilonova.base.world import World
from kilonova.compute.contract.pci import HostPart
from kilonova.db.inline import InlineDatabase
from kilonova.http.client import Client
from kilonova.image.client import ImageClient
from kilonova.image.contract import NOT_ASKED, RemoteImage, Trust
from kilonova.node.hypervisor.fake import FakeMachine
from kilonova.node.images.cache import CachedImage
from kilonova.node.volumes.fake import FakePool
from kilonova.node.vswitch.fake import FakeDhcpServers, FakeRouters, FakeVirtualSwitch

IMAGE_BYTES = 1 << 16


class WholeHost:
    """One host's machinery and its agents' ledgers."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.machine = FakeMachine(name, vcpus=64, memory_mb=256 << 10, disk_gb=10_000)
        self.machine.verb_seconds = 0.2
        self.part = HostPart()
        self.pool = FakePool("files", total_gib=500)
        self.pool.verb_seconds = 0.2
        self._wire()
        self._empty_ledgers(world)

    def _wire(self) -> None:
        self.switch = FakeVirtualSwitch(host=self.name)
        self.dhcp = FakeDhcpServers()
        self.routers = FakeRouters()

    def _empty_ledgers(self, world: World) -> None:
        self.ledger = InlineDatabase(f"ledger {self.name}", world.clock)
        self.volume_ledger = InlineDatabase(f"ledger volume {self.name}", world.clock)

    def lose_power(self, world: World, chance: random.Random) -> None:
        """Its guests are off, its wires gone; what the ledgers say may have been on no disk yet."""
        self.machine.lose_power()
        self._wire()
        if chance.random() < 0.5:
            self._empty_ledgers(world)


class SimImages(ImageClient):
    """Image over REST; what is downloaded is read to its end and kept nowhere."""

    def __init__(self, world: World, client: Client) -> None:
        super().__init__(world, client)
        self._reader = client

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        """All bytes came, or a fault."""
        async for _ in self._reader.stream(f"/v2/images/{image_id}/file", token=token):
            pass

    async def upload(self, token: str, image_id: str, path: str) -> None:
        """A few bytes, as a guest's disk has none here."""

        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(1024)

        await self._reader.upload(f"/v2/images/{image_id}/file", chunks(), token=token)


class SimImageFiles:
    """Images as files for a backend without bytes: fetched every time."""

    async def ensure(self, image: RemoteImage) -> CachedImage:
        """What the image would be as a file."""
        await image.fetch("/nonexistent")
        return CachedImage("/nonexistent", "raw", IMAGE_BYTES, "")
