"""Images in simulation: the API, and image workers that may crash, over two stores and a web in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa

from kilonova.base.faults import not_found
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.image.core import ImageParts, ImageService, Workers
from kilonova.image.image.store import images
from kilonova.image.schema import journal
from kilonova.image.service import MIGRATIONS, RULES, image_app
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Store
from kilonova.image.task.store import tasks
from kilonova.image.worker import ImageWorker
from kilonova.node.images.inspector import InlineInspector
from kilonova.node.images.store import MemoryStore
from kilonova.policy.rules import Policy
from kilonova.saga.seal import Sealer
from kilonova.sim.laws import LawSeams, Plan
from kilonova.sim.world import SimWorld
from tests.api.support import ApiClient, FakeAuthenticator, api_client

SEALER = Sealer([Sealer.new_key()])
DATA = b"the data of an image" * 100
URL = "http://example.com/image"


class FakeWeb:
    """Implements `WebSource`: one URL."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    async def check(self, url: str) -> None:
        """Everything may be asked for."""

    async def size(self, url: str) -> int | None:
        return len(DATA)

    async def read(self, url: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        await self._world.clock.sleep(0.5)
        if url != URL:
            raise not_found("URL", url)
        yield DATA[start:end]


class Pictures:
    """One cloud's images; `crash` ends its workers, `settle` starts one again."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed, self.born = seed, 0
        self.broker = MemoryBroker()
        self.world = SimWorld("api", seed)
        self.db = InlineDatabase("glance", self.world.clock)
        self.first, self.second = MemoryStore(), MemoryStore()
        self.seams = LawSeams(plan or Plan(""), self.crash)
        self.workers: list[SimWorld] = []
        self.service = self._service(self.world, "glance-api")
        self.app = image_app(self.service, FakeAuthenticator(), Policy(RULES))

    def _service(self, world: SimWorld, sender: str) -> ImageService:
        stores = (
            Store("first", "memory", self.first, weight=2, default=True),
            Store("second", "memory", self.second, weight=1),
            Store("web", "http", None),
        )
        workers = Workers(MemoryBus(world, self.broker, sender), SEALER)
        parts = ImageParts(stores=stores, workers=workers, web=FakeWeb(world), inspector=InlineInspector())
        db = self.db if world is self.world else self.db.seen_by(world.seam, world.seam)
        return ImageService(world, db, self.first, ImageSettings(), parts)

    def api(self, token: str = "member") -> ApiClient:
        return api_client(self.app, token)

    async def start(self) -> None:
        await self.db.write(upgrade, MIGRATIONS)
        await self.start_worker()

    async def start_worker(self) -> None:
        self.born += 1
        world = SimWorld(f"image-worker{self.born}", self.seed)
        self.workers.append(world)
        bus = MemoryBus(world, self.broker, "image-worker")
        await ImageWorker(self._service(world, "image-worker"), bus, seams=self.seams).start()

    def crash(self) -> None:
        for world in self.workers:
            world.crash()
            self.broker.lose(world)
        self.workers.clear()

    async def create(self) -> str:
        body = {"name": "i", "disk_format": "raw", "container_format": "bare"}
        return str((await self.api().post("/v2/images", body, 201))["id"])

    async def settle(self, limit_seconds: float = 1200) -> None:
        """Until no operation is unfinished; a worker is there again whenever none is."""
        end = self.world.clock.monotonic() + limit_seconds
        unfinished = sa.select(sa.func.count()).where(journal.operations.c.state.not_in(("done", "failed")))
        while self.world.clock.monotonic() < end:
            await self.world.clock.sleep(1)
            if not self.workers:
                await self.start_worker()
            if not await self.db.read(lambda connection: connection.scalar(unfinished)):
                return
        raise AssertionError(f"unfinished after {limit_seconds} s")

    def rows(self) -> tuple[list[Any], list[Any]]:
        """(images, tasks) as they stand."""
        with self.db.engine.connect() as connection:
            found = connection.execute(sa.select(images)).mappings().all()
            return list(found), list(connection.execute(sa.select(tasks)).mappings().all())

    def check_books(self) -> None:
        """What images say and what stores keep agree; nothing is staged, locked or unfinished."""
        found, asked = self.rows()
        assert {row["status"] for row in found} <= {"queued", "active"}
        assert {row["status"] for row in asked} <= {"success", "failure"}
        for name, store in (("first", self.first), ("second", self.second)):
            said = {row["id"] for row in found if name in [place["store"] for place in row["locations"] or ()]}
            assert set(store.images) == said, name
            assert set(store.images.values()) <= {DATA}
        assert not any("os_glance_import_task" in row["properties"] for row in found)
