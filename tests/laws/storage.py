"""Block storage in simulation: its API, schedulers, and the real volume agent on a backend without bytes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.scheduler import Scheduler
from kilonova.block_storage.schema import journal
from kilonova.block_storage.service import MIGRATIONS, RULES, block_storage_app
from kilonova.block_storage.snapshot.store import snapshots
from kilonova.block_storage.volume.store import volumes
from kilonova.bus.memory import MemoryBroker, MemoryBus, SeededFaults
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.image.contract import NOT_ASKED, ImageRef, RemoteImage, Trust
from kilonova.node.agents.volume import Peers, VolumeHostAgent, VolumeWorker
from kilonova.node.images.cache import CachedImage
from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend
from kilonova.policy.rules import Policy
from kilonova.saga.seal import Sealer
from kilonova.sim.laws import LawSeams, Plan
from kilonova.sim.world import SimWorld
from tests.api.support import ApiClient, FakeAuthenticator, api_client

SEALER = Sealer([Sealer.new_key()])
GIB = 1 << 30
IMAGE = ImageRef("0a1b2c3d-0000-4000-8000-000000000001", "debian", "active", "qcow2", "bare", 5000, 0, 2, "p", "public",
                 virtual_size=3 * GIB)  # fmt: skip


class OneImage:
    """Implements `Images` and the agent's image files: one image, and who asked for it."""

    def __init__(self) -> None:
        self.image = IMAGE
        self.tokens: list[str] = []

    async def show(self, token: str, image_id: str) -> ImageRef:
        self.tokens.append(token)
        return replace_id(self.image, image_id)

    async def download(self, token: str, image_id: str, path: str, trust: Trust = NOT_ASKED) -> None:
        self.tokens.append(token)

    async def places(self, token: str, image_id: str) -> list[str]:
        return []

    async def prove(self, token: str, image_id: str, trust: Trust = NOT_ASKED) -> None:
        self.tokens.append(token)

    async def ensure(self, image: RemoteImage) -> CachedImage:
        await image.fetch("/nonexistent")
        return CachedImage("/nonexistent", "qcow2", self.image.virtual_size or 0, "")


def replace_id(image: ImageRef, image_id: str) -> ImageRef:
    """The image; any other id is NOT_FOUND."""
    from kilonova.base.faults import not_found

    if image.id != image_id:
        raise not_found("Image", image_id)
    return image


async def own_token() -> str:
    return "service"


class Storage:
    """One cloud's block storage; `crash_*` and `start_*` end and begin its processes."""

    def __init__(self, seed: int, plan: Plan | None = None, *, faulty: bool = False) -> None:
        self.seed, self.born = seed, 0
        faults = SeededFaults(random.Random(seed), loss=0.05, delay=0.3, double=0.1) if faulty else None
        self.broker = MemoryBroker(faults=faults)
        self.world = SimWorld("api", seed)
        self.db = InlineDatabase("cinder", self.world.clock)
        self.pools = {"node1@files": FakePool("files", total_gib=500)}
        self.ledgers = {name: InlineDatabase(f"ledger {name}", self.world.clock) for name in self.pools}
        for pool in self.pools.values():
            pool.verb_seconds = 0.5
        self.images = OneImage()
        self.seams = LawSeams(plan or Plan(""), self.crash_schedulers)
        self.schedulers: list[SimWorld] = []
        self.agents: dict[str, SimWorld] = {}
        self.service = BlockStorage(
            self.world, self.db, MemoryBus(self.world, self.broker, "cinder-api"), SEALER, self.images
        )
        callers = dict(FakeAuthenticator().callers)
        callers["server"] = replace(callers["member"], service_roles=("service",), token="server")
        callers["bare service"] = replace(callers["service"], roles=("service",), token="bare service")
        self.app = block_storage_app(self.service, FakeAuthenticator(callers), Policy(RULES))

    def api(self, token: str = "member", version: str = "3.71") -> ApiClient:
        return api_client(self.app, token).at(f"volume {version}")

    def add_pool(self, name: str, total_gib: int) -> FakePool:
        """Another backend, with an agent when started."""
        self.pools[name] = FakePool(name.split("@")[1], total_gib=total_gib)
        self.ledgers[name] = InlineDatabase(f"ledger {name}", self.world.clock)
        return self.pools[name]

    async def start(self) -> None:
        await self.db.write(upgrade, MIGRATIONS)
        await self.start_scheduler()
        for name in self.pools:
            await self.start_agent(name)
        await self.world.clock.sleep(3)

    async def start_scheduler(self) -> None:
        self.born += 1
        world = SimWorld(f"scheduler{self.born}", self.seed)
        self.schedulers.append(world)
        bus = MemoryBus(world, self.broker, "cinder-scheduler")
        await Scheduler(world, self.db.seen_by(world.seam, world.seam), bus, SEALER, seams=self.seams).start()

    async def start_agent(self, name: str = "node1@files") -> None:
        self.born += 1
        self.agents[name] = world = SimWorld(f"agent{self.born}", self.seed)
        bus = MemoryBus(world, self.broker, f"cinder-volume.{name}")
        backend = FakeVolumeBackend(world, self.pools[name])
        agent = VolumeHostAgent(world, bus, name, backend, Peers(self.images, self.images, own_token))
        await VolumeWorker(world, bus, self.ledgers[name].seen_by(world.seam, world.seam), agent).start()

    def crash_schedulers(self) -> None:
        for world in self.schedulers:
            world.crash()
            self.broker.lose(world)
        self.schedulers.clear()

    def crash_agent(self, name: str = "node1@files") -> None:
        self.agents[name].crash()
        self.broker.lose(self.agents[name])

    # ── what users do and see

    async def create(self, token: str = "member", **fields: Any) -> str:
        made = await self.api(token).post("/v3/volumes", {"volume": {"size": 4, "name": "v"} | fields}, 202)
        return str(made["volume"]["id"])

    async def available(self, **fields: Any) -> str:
        """The id of a volume that is ready."""
        volume_id = await self.create(**fields)
        await self.settle()
        assert await self.status(volume_id) == "available"
        return volume_id

    async def status(self, volume_id: str) -> str:
        return str((await self.api("admin").get(f"/v3/volumes/{volume_id}"))["volume"]["status"])

    async def settle(self, limit_seconds: float = 1200) -> None:
        """Until no operation is unfinished; a scheduler is there again whenever none is."""
        end = self.world.clock.monotonic() + limit_seconds
        unfinished = sa.select(sa.func.count()).where(journal.operations.c.state.not_in(("done", "failed")))
        while self.world.clock.monotonic() < end:
            await self.world.clock.sleep(1)
            if not self.schedulers:
                await self.start_scheduler()
            if not await self.db.read(lambda c: c.scalar(unfinished)):
                return
        raise AssertionError(f"unfinished after {limit_seconds} s: {self.statuses()}")

    def statuses(self) -> dict[str, str]:
        with self.db.engine.connect() as connection:
            return {row.id: row.status for row in connection.execute(sa.select(volumes.c.id, volumes.c.status))}

    def check_books(self) -> None:
        """What the records say and what the backends hold agree; no operation holds a volume."""
        with self.db.engine.connect() as connection:
            rows = connection.execute(sa.select(volumes)).mappings().all()
        assert {row["status"] for row in rows} <= {"available", "error"}
        assert {row["operation_id"] for row in rows} <= {""}
        for name, pool in self.pools.items():
            mine = {row["id"]: row["size_gib"] for row in rows if row["host"] == name and row["status"] == "available"}
            assert pool.sizes == mine, name
        self._check_snapshots()

    def _check_snapshots(self) -> None:
        with self.db.engine.connect() as connection:
            rows = connection.execute(sa.select(snapshots)).mappings().all()
        assert {row["status"] for row in rows} <= {"available", "error"}
        assert {row["operation_id"] for row in rows} <= {""}
        for name, pool in self.pools.items():
            mine = {row["id"] for row in rows if row["host"] == name and row["status"] == "available"}
            assert set(pool.snapshots) == mine, name
            held = sum(pool.sizes.values()) + sum(one.size_gib for one in pool.snapshots.values())
            assert pool.used_gib == held, name
