"""The volume agent: makes, removes, grows and connects the volumes of one backend, and reports what it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import World
from kilonova.block_storage.contract import (
    EXCHANGE,
    SCHEDULER_TOPIC,
    VOLUME_TOPIC,
    Connected,
    Connection,
    Connector,
    ImageSource,
    SnapshotSpec,
    StepSecrets,
    VolumeAgent,
    VolumeBackend,
    VolumeHost,
    VolumeScheduler,
    VolumeSpec,
)
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription, Target
from kilonova.db.database import Database
from kilonova.image.contract import NOT_ASKED, Images, RemoteImage, Trust
from kilonova.node.images.asked import AskedImage
from kilonova.node.images.cache import CachedImage
from kilonova.node.ledger import StepServer, current_step

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
FULL_SECONDS = 60.0


class ImageFiles(Protocol):
    """Where images lie on this host, checked and in a form that disks are made of: node/images/cache.py."""

    async def ensure(self, image: RemoteImage) -> CachedImage: ...


@dataclass(frozen=True)
class Peers:
    """What the agent asks of others."""

    images: Images
    files: ImageFiles
    own_token: Callable[[], Awaitable[str]]
    trust: Trust = NOT_ASKED  # what images must prove before volumes are made from them


class VolumeHostAgent:
    """Implements `VolumeHost` (journalled) and `VolumeAgent` (plain). `host` is HOST@BACKEND."""

    def __init__(self, world: World, bus: Bus, host: str, backend: VolumeBackend, peers: Peers) -> None:
        self.world = world
        self.host = host
        self.backend = backend
        self.peers = peers
        self.scheduler = rpc.client(VolumeScheduler, bus, Target(EXCHANGE, SCHEDULER_TOPIC))
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # volume id → while somebody has it
        self._connected_again: set[Connected] = set()  # since the scheduler was last asked what nobody wants

    # ── steps

    async def create_volume(self, volume_id: str, spec: VolumeSpec) -> None:
        source = await self._image(spec.image_id) if spec.image_id else None
        await self.backend.ensure_volume(spec, source)

    async def delete_volume(self, volume_id: str) -> None:
        await self.backend.ensure_gone(volume_id)

    async def extend_volume(self, volume_id: str, size_gib: int) -> None:
        await self.backend.extend(volume_id, size_gib)

    async def create_snapshot(self, snapshot_id: str, spec: SnapshotSpec) -> None:
        await self.backend.ensure_snapshot(spec)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        await self.backend.ensure_snapshot_gone(snapshot_id)

    async def _image(self, image_id: str) -> ImageSource:
        image = AskedImage(self.peers.images, await self._token(), image_id, self.peers.trust)
        found = await self.peers.files.ensure(image)
        await image.settle()
        return ImageSource(found.path, found.format, found.virtual_size_bytes)

    async def _token(self) -> str:
        """The user's token, or our own when nothing was sealed."""
        step = current_step()
        secrets = StepSecrets()
        try:
            secrets = await self.scheduler.step_secrets(self.host, step.operation, step.epoch)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise
        return secrets.token or await self.peers.own_token()

    # ── plain calls

    async def initialize_connection(self, volume_id: str, connector: Connector) -> Connection:
        async with self._only_one(volume_id):
            self._connected_again.add(Connected(volume_id, connector.host))
            return await self.backend.connect(volume_id, connector)

    async def terminate_connection(self, volume_id: str, connector: Connector) -> None:
        async with self._only_one(volume_id):
            await self.backend.disconnect(volume_id, connector)

    async def disconnect_unwanted(self) -> None:
        """Undo connections that were made for an attachment that was gone when they came to be, or whose end was
        lost. One that is asked for again meanwhile stays."""
        self._connected_again.clear()
        seen = await self.backend.connections()
        for one in await self.scheduler.connections_seen(self.host, seen):
            async with self._only_one(one.volume_id):
                if one not in self._connected_again:
                    log.warning("nobody wants volume %s connected to %s: disconnecting it", one.volume_id, one.host)
                    await self.backend.disconnect(one.volume_id, Connector(host=one.host))

    def _only_one(self, volume_id: str) -> asyncio.Lock:
        """What connects and disconnects the volume does so alone."""
        return self._locks.setdefault(volume_id, asyncio.Lock())


class VolumeWorker:
    """Serves `cinder-volume.HOST@BACKEND` and reports the backend's capabilities and volumes."""

    def __init__(self, world: World, bus: Bus, ledger: Database, agent: VolumeHostAgent) -> None:
        self.world = world
        self.bus = bus
        self.agent = agent
        self.steps = StepServer(world, bus, ledger, VolumeHost, agent)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Open the ledger, take messages, report."""
        await self.steps.start(self.agent.host)
        handlers = {**self.steps.handlers(), **rpc.handlers(VolumeAgent, self.agent)}
        self._subscription = await self.bus.serve(EXCHANGE, VOLUME_TOPIC, self.agent.host, handlers)
        self.world.spawn(self._forever(self.report, REPORT_SECONDS), "volume report")
        self.world.spawn(self._forever(self.volumes, FULL_SECONDS), "volume orphans")
        self.world.spawn(self._forever(self.agent.disconnect_unwanted, FULL_SECONDS), "volume connections")

    async def close(self) -> None:
        """Take no more messages; volumes stay."""
        if self._subscription is not None:
            await self._subscription.close()
        await self.steps.close()

    async def report(self) -> None:
        """Tell the scheduler what the backend has."""
        await self.agent.scheduler.report_capabilities(self.agent.host, await self.agent.backend.capabilities())

    async def volumes(self) -> None:
        """Tell the scheduler every volume; remove those that were deleted while this host was away."""
        seen = await self.agent.backend.volumes()
        for volume_id in await self.agent.scheduler.volumes_seen(self.agent.host, seen):
            log.warning("volume %s was deleted: removing it", volume_id)
            await self.agent.backend.ensure_gone(volume_id)

    async def _forever(self, tell: Callable[[], Awaitable[None]], every_seconds: float) -> None:
        while True:
            pause = every_seconds
            try:
                await tell()
            except Fault as fault:
                log.warning("%s did not %s: %r", self.agent.host, tell.__name__, fault)
                pause = 1.0
            await self.world.clock.sleep(pause)
