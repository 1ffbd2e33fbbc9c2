"""An image service behind its door, with its worker, two stores, and a web of one server: for this folder's tests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.faults import not_found
from kilonova.base.world import LiveWorld
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.image.cache.copies import Copies
from kilonova.image.certificates import DirectoryCertificates
from kilonova.image.contract import WebRules
from kilonova.image.core import ImageParts, ImageService, Workers
from kilonova.image.service import MIGRATIONS, RULES, image_app
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Store
from kilonova.image.worker import ImageWorker
from kilonova.node.images.convert import FileConverter
from kilonova.node.images.inspector import ConfinedInspector
from kilonova.node.images.store import FileStore, MemoryStore
from kilonova.node.images.web import WebReader
from kilonova.policy.rules import Policy
from kilonova.saga.seal import Sealer
from tests.api.image.web_server import WebServer, web_server
from tests.api.support import ApiClient, FakeAuthenticator, api_client

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 20).to_bytes(8, "big") + bytes(200)
BACKED = QCOW2[:8] + (512).to_bytes(8, "big") + (12).to_bytes(4, "big") + QCOW2[20:]


@asynccontextmanager
async def image_service(
    directory: Path, *, inspector_seconds: float = 10.0, **settings: Any
) -> AsyncIterator[ImageService]:
    """The service with its files in `directory`, and nothing beside."""
    world = LiveWorld("image")
    db = InlineDatabase("image", world.clock)
    await db.write(upgrade, MIGRATIONS)
    choices = ImageSettings(**{"image_size_cap_bytes": 1 << 24, **settings})
    parts = ImageParts(inspector=ConfinedInspector(world, seconds=inspector_seconds))
    yield ImageService(world, db, FileStore(world, directory / "images"), choices, parts)
    await world.close()


class OtherRegion:
    """Implements `image.contract.OtherClouds`: region `other`, whose image service is on the web server."""

    def __init__(self, web: WebServer) -> None:
        self._web = web

    async def endpoint(self, token: str, region: str, interface: str) -> str:
        """Where it is."""
        if region != "other":
            raise not_found("Image service of region", region)
        return self._web.url("/region/v2")


class WholeImage:
    """The service with workers, stores `first` (files) and `second` (memory), a web, and copies."""

    def __init__(self, service: ImageService, web: WebServer, second: MemoryStore, app: Any) -> None:
        self.service, self.web, self.second = service, web, second
        self.app = app
        self.api = api_client(app)

    async def create(self, **fields: Any) -> str:
        """The id of a new image."""
        body = {"name": "img", "disk_format": "raw", "container_format": "bare", **fields}
        return str((await self.api.post("/v2/images", body, 201))["id"])

    async def put(self, image_id: str, data: bytes, door: str = "file", status: int = 204) -> Any:
        """Upload or stage."""
        path = f"/v2/images/{image_id}/{door}"
        reply = await self.api.send("PUT", path, data, content_type="application/octet-stream")
        assert reply.status == status, reply.content
        return reply

    async def show(self, image_id: str) -> Any:
        """The image as its owner sees it."""
        return await self.api.get(f"/v2/images/{image_id}")

    async def import_(self, image_id: str, method: str, status: int = 202, **more: Any) -> Any:
        """Import by a method; `uri` and the like belong to the method."""
        inside = {name: more.pop(name) for name in list(more) if name.startswith(("uri", "glance_"))}
        body = {"method": {"name": method, **inside}, **more}
        return await self.api.as_("admin").post(f"/v2/images/{image_id}/import", body, status)

    def elsewhere(self, data: bytes, **fields: Any) -> str:
        """The id of an image with that data in region `other`."""
        image_id = str(uuid.uuid4())
        image = {"id": image_id, "disk_format": "raw", "container_format": "bare", "size": len(data), **fields}
        self.web.files[f"/region/v2/images/{image_id}"] = msgspec.json.encode(image)
        self.web.files[f"/region/v2/images/{image_id}/file"] = data
        return image_id

    async def ended(self, image_id: str) -> Any:
        """The image's last task, once it has ended."""
        for _ in range(400):
            tasks = (await self.api.as_("admin").get(f"/v2/images/{image_id}/tasks"))["tasks"]
            if tasks and tasks[-1]["status"] in ("success", "failure"):
                return tasks[-1]
            await asyncio.sleep(0.02)
        raise AssertionError(tasks)

    def kept(self) -> dict[str, list[str]]:
        """What each store keeps, staged data too."""
        directory = self.service.data._directory  # type: ignore[attr-defined]
        files = [path.name for path in directory.iterdir() if path.is_file()]
        return {"first": sorted(files), "second": sorted(self.second.images)}


@asynccontextmanager
async def whole_image(
    directory: Path, second: MemoryStore | None = None, *, inspector_seconds: float = 10.0, **settings: Any
) -> AsyncIterator[WholeImage]:
    """All of image in one process, as `up` makes it."""
    world = LiveWorld("image")
    db = InlineDatabase("image", world.clock)
    await db.write(upgrade, MIGRATIONS)
    with web_server() as web:
        first, second = FileStore(world, directory / "images"), second or MemoryStore()
        broker, sealer = MemoryBroker(), Sealer([Sealer.new_key()])
        rules = WebRules(allowed_ports=(web.port,), allowed_networks=("127.0.0.0/8",))
        stores = (
            Store("first", "file", first, weight=20, default=True),
            Store("second", "memory", second, weight=10),
            Store("web", "http", None),
        )
        parts = ImageParts(
            stores=stores,
            workers=Workers(MemoryBus(world, broker, "glance-api"), sealer),
            web=WebReader(world, rules),
            inspector=ConfinedInspector(world, seconds=inspector_seconds),
            converter=FileConverter(world, directory / "scratch"),
            regions=OtherRegion(web),
            certificates=DirectoryCertificates(world, directory / "certificates"),
            copies=Copies(world, db, FileStore(world, directory / "copies"), "here", 1 << 22),
        )
        choices = ImageSettings(**{"image_size_cap_bytes": 1 << 24, **settings})
        service = ImageService(world, db, first, choices, parts)
        worker = ImageWorker(service, MemoryBus(world, broker, "image-worker"))
        await worker.start()
        app = image_app(service, FakeAuthenticator(), Policy(RULES))
        yield WholeImage(service, web, second, app)
        await worker.close()
        await world.close()


def door(service: ImageService) -> ApiClient:
    """Its API, as the member."""
    return api_client(image_app(service, FakeAuthenticator(), Policy(RULES)))
