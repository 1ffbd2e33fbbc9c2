"""Deactivation, copies, discovery, limits: what an image's owner and the operator do with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kilonova.image.core import ImageService
from tests.api.image.door import WholeImage, door, image_service, whole_image
from tests.api.support import PROJECT


@pytest.fixture
async def image(tmp_path: Path) -> Any:
    async with whole_image(tmp_path) as made:
        yield made


async def test_deactivated_images_are_read_by_admins_only(image: WholeImage) -> None:
    image_id = await image.create(visibility="community")
    path = f"/v2/images/{image_id}"
    await image.api.post(f"{path}/actions/deactivate", None, 403)  # it has no data yet
    await image.put(image_id, b"data")
    await image.api.as_("other").post(f"{path}/actions/deactivate", None, 403)
    for _ in range(2):
        await image.api.post(f"{path}/actions/deactivate", None, 204)
    assert (await image.show(image_id))["status"] == "deactivated"
    await image.api.get(f"{path}/file", 403)
    assert await image.api.as_("admin").get(f"{path}/file") == b"data"
    await image.put(image_id, b"other", "file", 409)
    for _ in range(2):
        await image.api.post(f"{path}/actions/reactivate", None, 204)
    assert await image.api.get(f"{path}/file") == b"data"


async def test_discovery(image: WholeImage, tmp_path: Path) -> None:
    versions = (await image.api.as_("").get("/versions"))["versions"]
    assert [one["id"] for one in versions if one["status"] == "CURRENT"] == ["v2.18"]
    assert {"v2.17", "v2.12", "v2.0"} <= {one["id"] for one in versions}
    methods = (await image.api.get("/v2/info/import"))["import-methods"]["value"]
    assert methods == ["glance-direct", "web-download", "copy-image", "glance-download"]
    stores = (await image.api.get("/v2/info/stores"))["stores"]
    assert [one["id"] for one in stores] == ["first", "second", "web"]
    assert (stores[0]["default"], stores[2]["read-only"], stores[0]["weight"]) == ("true", "true", 20)
    await image.api.get("/v2/info/stores/detail", 403)
    detail = (await image.api.as_("admin").get("/v2/info/stores/detail"))["stores"]
    assert [one["type"] for one in detail] == ["file", "memory", "http"]
    made = await image.api.send("POST", "/v2/images", {"name": "n"})
    assert made.headers["openstack-image-store-ids"] == "first,second"
    async with image_service(tmp_path / "single") as single:
        await door(single).get("/v2/info/stores", 404)
        assert "stores" not in await door(single).post("/v2/images", {"name": "n"}, 201)


async def test_uploads_choose_a_store(image: WholeImage) -> None:
    image_id = await image.create()
    send = image.api.send
    path, kind = f"/v2/images/{image_id}/file", "application/octet-stream"
    assert (await send("PUT", path, b"x", content_type=kind, x_image_meta_store="nowhere")).status == 400
    assert (await send("PUT", path, b"x", content_type=kind, x_image_meta_store="second")).status == 204
    assert (await image.show(image_id))["stores"] == "second"
    assert image.kept() == {"first": [], "second": [image_id]}
    await image.api.delete(f"/v2/images/{image_id}")
    assert image.kept() == {"first": [], "second": []}


async def test_copies_are_kept_on_request(image: WholeImage) -> None:
    admin = image.api.as_("admin")
    await image.api.get("/v2/cache", 403)
    await admin.put("/v2/cache/nothing", None, 404)
    image_id = await image.create()
    await admin.put(f"/v2/cache/{image_id}", None, 400)
    await image.put(image_id, b"data" * 1000)
    assert (await admin.send("PUT", f"/v2/cache/{image_id}")).status == 202
    for _ in range(200):
        listed = await admin.get("/v2/cache")
        if listed["cached_images"]:
            break
        await asyncio.sleep(0.01)
    assert (listed["cached_images"][0]["image_id"], listed["cached_images"][0]["size"]) == (image_id, 4000)
    (image.service.data._directory / image_id).unlink()  # type: ignore[attr-defined]
    assert await image.api.get(f"/v2/images/{image_id}/file") == b"data" * 1000  # from the copy
    assert (await admin.get("/v2/cache"))["cached_images"][0]["hits"] == 1
    bad = await admin.send("DELETE", "/v2/cache", x_image_cache_clear_target="invalid")
    assert bad.status == 400
    await admin.delete("/v2/cache")
    assert await admin.get("/v2/cache") == {"cached_images": [], "queued_images": []}
    await admin.delete(f"/v2/cache/{image_id}", 404)


class Limits:
    """Limits of every project."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits

    async def of(self, token: str, project_id: str) -> dict[str, int]:
        assert project_id == PROJECT
        return self.limits


def limited(service: ImageService, **limits: int) -> None:
    service.parts = replace(service.parts, limits=Limits(**limits))


async def test_unified_limits_are_kept(image: WholeImage) -> None:
    limited(image.service, image_count_total=2, image_size_total=1, image_stage_total=1, image_count_uploading=1)
    first, second = await image.create(), await image.create()
    refused = await image.api.post("/v2/images", {"name": "third"}, 413)
    assert "image_count_total" in refused["message"]
    await image.put(first, bytes(1 << 20), "stage")
    assert "image_stage_total" in (await image.put(second, b"x", "stage", 413)).json()["message"]
    assert "image_count_uploading" in (await image.put(second, b"x", "file", 413)).json()["message"]
    usage = (await image.api.get("/v2/info/usage"))["usage"]
    assert usage == {
        "image_size_total": {"limit": 1, "usage": 0},
        "image_stage_total": {"limit": 1, "usage": 1},
        "image_count_total": {"limit": 2, "usage": 2},
        "image_count_uploading": {"limit": 1, "usage": 1},
    }
    await image.api.post(f"/v2/images/{first}/import", {"method": {"name": "glance-direct"}}, 202)
    await image.ended(first)
    assert "image_size_total" in (await image.put(second, b"x", "file", 413)).json()["message"]


async def test_racing_creates_do_not_pass_the_limit(image: WholeImage) -> None:
    limited(image.service, image_count_total=5)
    replies = await asyncio.gather(*(image.api.send("POST", "/v2/images", {"name": "r"}) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [201] * 5 + [413] * 15


async def test_patches_cannot_touch_what_imports_note(image: WholeImage) -> None:
    image_id = await image.create(kernel_id=None)
    assert (await image.show(image_id))["kernel_id"] is None
    await image.api.post("/v2/images", {"name": "n", "kernel_id": "not an id"}, 400)
    await image.put(image_id, b"x", "stage")
    await image.import_(image_id, "glance-direct")
    await image.ended(image_id)
    kind = "application/openstack-images-v2.1-json-patch"
    for change in (
        {"op": "remove", "path": "/os_glance_failed_import"},
        {"op": "replace", "path": "/os_glance_failed_import", "value": "x"},
        {"op": "add", "path": "/os_glance_x", "value": "x"},
    ):
        assert (await image.api.send("PATCH", f"/v2/images/{image_id}", [change], content_type=kind)).status == 403
    assert len((await image.api.get("/v2/images?size=1"))["images"]) == 1
