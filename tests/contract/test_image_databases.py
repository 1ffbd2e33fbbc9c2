"""Image's SQL says the same on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.image.core import ImageParts, ImageService
from kilonova.image.service import MIGRATIONS, RULES, image_app
from kilonova.image.settings import ImageSettings
from kilonova.node.images.inspector import InlineInspector
from kilonova.node.images.store import MemoryStore
from kilonova.policy.rules import Policy
from tests.api.support import ApiClient, FakeAuthenticator, api_client


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.cluster),
        pytest.param("mariadb", marks=pytest.mark.cluster),
    ]
)
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ApiClient]:
    """The service's API over each kind of database."""
    world = LiveWorld("image-databases")
    if request.param == "sqlite":
        yield await _client(world, SqliteDatabase("image", tmp_path / "image.db", world.clock))
        await world.close()
        return
    with request.getfixturevalue(request.param).database() as url:
        yield await _client(world, await server_database("image", url, world))
        await world.close()


async def _client(world: LiveWorld, db: Database) -> ApiClient:
    await ensure_current(db, MIGRATIONS)
    service = ImageService(world, db, MemoryStore(), ImageSettings(), ImageParts(inspector=InlineInspector()))
    return api_client(image_app(service, FakeAuthenticator(), Policy(RULES, {})))


async def test_lists_show_what_single_images_show(api: ApiClient) -> None:
    """Whatever narrows or sorts them: name, tag, property, size, and nothing at all."""
    shape = {"disk_format": "raw", "container_format": "bare"}
    made = {}
    for number in range(3):
        body = {"name": f"img{number}", "tags": ["all", f"t{number}"], "os_distro": f"d{number}", "min_ram": number}
        made[f"img{number}"] = (await api.post("/v2/images", body | shape, 201))["id"]
    await api.send("PUT", f"/v2/images/{made['img1']}/file", b"data", content_type="application/octet-stream")
    for query, names in (
        ("", {"img0", "img1", "img2"}),
        ("?name=img1", {"img1"}),
        ("?name=in:img0,img2", {"img0", "img2"}),
        ("?tag=all&sort=name:asc", {"img0", "img1", "img2"}),
        ("?os_distro=d2", {"img2"}),
        ("?size_min=1", {"img1"}),
        (f"?marker={made['img1']}&sort=name:asc", {"img2"}),
        ("?status=queued&visibility=shared", {"img0", "img2"}),
    ):
        for _ in range(2):  # how an image looks is remembered
            found = (await api.get(f"/v2/images{query}"))["images"]
            assert {one["name"] for one in found} == names, query
            assert found == [await api.get(f"/v2/images/{one['id']}") for one in found], query
