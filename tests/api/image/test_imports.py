"""Imports through the door: staged data, the web, copies; several stores; tasks; what fails leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import too_large
from kilonova.image.schema import journal
from tests.api.image.door import BACKED, QCOW2, WholeImage, whole_image


@pytest.fixture
async def image(tmp_path: Path) -> Any:
    async with whole_image(tmp_path) as made:
        yield made


async def test_staged_data_is_imported_into_all_stores(image: WholeImage) -> None:
    image_id = await image.create()
    data = bytes(range(256)) * 5000
    await image.put(image_id, data, "stage")
    shown = await image.show(image_id)
    assert (shown["status"], shown["size"], shown.get("stores")) == ("uploading", len(data), None)
    assert (await image.api.send("GET", f"/v2/images/{image_id}/file")).status == 204
    await image.put(image_id, data, "file", 409)
    await image.import_(image_id, "glance-direct", all_stores=True)
    task = await image.ended(image_id)
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id})
    assert task["input"]["import_req"]["method"]["name"] == "glance-direct"
    shown = await image.show(image_id)
    assert (shown["status"], shown["stores"]) == ("active", "first,second")
    assert shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert (shown["os_glance_importing_to_stores"], shown["os_glance_failed_import"]) == ("", "")
    assert "os_glance_import_task" not in shown
    assert await image.api.get(f"/v2/images/{image_id}/file") == data
    assert image.kept() == {"first": [image_id], "second": [image_id]}
    await image.import_(image_id, "glance-direct", 409)


async def test_images_keep_the_hash_that_the_operator_chose_when_they_came(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    async with whole_image(tmp_path, hashing_algorithm="sha256") as image:
        there, staged = await image.create(), await image.create()
        await image.put(there, data)
        await image.put(staged, data, "stage")
        await image.import_(staged, "glance-direct", stores=["first"])
        await image.ended(staged)
        wanted = ("sha256", hashlib.sha256(data).hexdigest())
        for image_id in (there, staged):
            shown = await image.show(image_id)
            assert (shown["os_hash_algo"], shown["os_hash_value"]) == wanted
        image.service.settings = replace(image.service.settings, hashing_algorithm="sha512")  # a restart with another
        await image.import_(there, "copy-image", stores=["second"])
        assert (await image.ended(there))["status"] == "success"
        shown = await image.show(there)
        assert (shown["os_hash_algo"], shown["os_hash_value"]) == wanted and shown["stores"] == "first,second"


async def test_an_image_comes_from_the_web(image: WholeImage) -> None:
    image_id = await image.create(disk_format="qcow2")
    image.web.redirects["/latest"] = "/cirros.qcow2"
    image.web.url("/cirros.qcow2", QCOW2)
    await image.import_(image_id, "web-download", uri=image.web.url("/latest"), stores=["second"])
    assert (await image.ended(image_id))["status"] == "success"
    shown = await image.show(image_id)
    assert (shown["status"], shown["stores"], shown["virtual_size"]) == ("active", "second", 1 << 20)
    assert image.kept() == {"first": [], "second": [image_id]}


@pytest.mark.parametrize("data", [QCOW2, BACKED], ids=["another format", "with a backing file"])
async def test_data_that_lies_is_refused_and_leaves_nothing(image: WholeImage, data: bytes) -> None:
    image_id = await image.create(disk_format="raw" if data is QCOW2 else "qcow2")
    await image.import_(image_id, "web-download", uri=image.web.url("/x", data))
    task = await image.ended(image_id)
    assert task["status"] == "failure" and "was refused" in task["message"]
    shown = await image.show(image_id)
    assert (shown["status"], shown["size"], shown["os_glance_failed_import"]) == ("queued", None, "first")
    assert image.kept() == {"first": [], "second": []}
    await image.import_(image_id, "web-download", uri=image.web.url("/y", b"raw" if data is QCOW2 else QCOW2))
    assert (await image.ended(image_id))["status"] == "success"  # and may be tried again


async def test_what_the_server_does_not_give_fails_the_task(image: WholeImage) -> None:
    image_id = await image.create()
    await image.import_(image_id, "web-download", uri=image.web.url("/missing"))
    task = await image.ended(image_id)
    assert task["status"] == "failure" and "answered 404" in task["message"]
    image.web.url("/large", bytes((1 << 24) + 1))
    await image.import_(image_id, "web-download", uri=image.web.url("/large"))
    assert "larger than the limit" in (await image.ended(image_id))["message"]
    assert image.kept() == {"first": [], "second": []}


async def test_active_images_are_copied_to_more_stores_and_leave_them(image: WholeImage) -> None:
    image_id = await image.create()
    await image.put(image_id, b"data" * 1000)
    assert (await image.show(image_id))["stores"] == "first"
    await image.api.post(f"/v2/images/{image_id}/import", {"method": {"name": "copy-image"}, "all_stores": True}, 403)
    await image.import_(image_id, "copy-image", all_stores=True, all_stores_must_succeed=False)
    assert (await image.ended(image_id))["status"] == "success"
    shown = await image.show(image_id)
    assert (shown["status"], shown["stores"], shown["os_glance_importing_to_stores"]) == ("active", "first,second", "")
    await image.import_(image_id, "copy-image", 400, stores=["second"])
    admin = image.api.as_("admin")
    await image.api.delete(f"/v2/stores/first/{image_id}", 403)
    await admin.delete(f"/v2/stores/first/{image_id}")
    assert image.kept() == {"first": [], "second": [image_id]}
    assert await image.api.get(f"/v2/images/{image_id}/file") == b"data" * 1000
    await admin.delete(f"/v2/stores/first/{image_id}", 404)
    await admin.delete(f"/v2/stores/second/{image_id}", 403)  # the last one stays
    await admin.delete(f"/v2/stores/nowhere/{image_id}", 400)


async def test_one_store_may_fail_when_all_need_not_succeed(image: WholeImage) -> None:
    image.second.save = _full  # type: ignore[method-assign]
    image_id = await image.create()
    await image.put(image_id, b"data", "stage")
    await image.import_(image_id, "glance-direct", all_stores=True, all_stores_must_succeed=False)
    assert (await image.ended(image_id))["status"] == "success"
    shown = await image.show(image_id)
    assert (shown["status"], shown["stores"], shown["os_glance_failed_import"]) == ("active", "first", "second")
    other = await image.create()
    await image.put(other, b"data", "stage")
    await image.import_(other, "glance-direct", all_stores=True)
    task = await image.ended(other)
    assert task["status"] == "failure" and "full" in task["message"]
    shown = await image.show(other)
    assert (shown["status"], shown["os_glance_failed_import"]) == ("queued", "second")
    assert image.kept() == {"first": [image_id], "second": []}


async def _full(image_id: str, chunks: Any) -> None:
    raise too_large("The store is full.")


async def test_an_image_deleted_while_it_is_imported_leaves_nothing(image: WholeImage) -> None:
    image_id = await image.create()
    await image.put(image_id, bytes(3 << 20), "stage")
    await image.import_(image_id, "glance-direct", all_stores=True)
    await image.api.delete(f"/v2/images/{image_id}")
    for _ in range(300):
        if await image.service.db.read(journal.under_way) == (0, 0):
            break
        await asyncio.sleep(0.02)
    assert image.kept() == {"first": [], "second": []}


@pytest.mark.parametrize(
    ("method", "body", "status", "word"),
    [
        ("teleport", {}, 400, "Unknown import method"),
        ("web-download", {}, 400, "URI is required"),
        ("web-download", {"uri": "http://127.0.0.1:22/x"}, 400, "does not pass filtering"),
        ("web-download", {"uri": "http://does-not.invalid/x"}, 400, "does not pass filtering"),
        ("glance-direct", {}, 409, "uploading"),
        ("copy-image", {}, 409, "active"),
        ("glance-download", {"glance_image_id": "foo", "glance_region": "r"}, 400, "does not look like a UUID"),
        ("glance-download", {}, 400, "required"),
        ("web-download", {"uri": "http://x/", "stores": ["nowhere"]}, 400, "no store"),
        ("web-download", {"uri": "http://x/", "stores": ["web"]}, 400, "read-only"),
        ("web-download", {"uri": "http://x/", "stores": ["first"], "all_stores": True}, 400, "all_stores"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_recorded(
    image: WholeImage, method: str, body: Any, status: int, word: str
) -> None:
    image_id = await image.create()
    assert word in (await image.import_(image_id, method, status, **body))["message"]
    assert (await image.api.get(f"/v2/images/{image_id}/tasks"))["tasks"] == []
    assert (await image.show(image_id))["status"] == "queued"


async def test_an_image_of_another_region(image: WholeImage) -> None:
    source = image.elsewhere(QCOW2, disk_format="qcow2", container_format="bare", os_distro="debian", owner="x",
                             hw_disk_bus="scsi", secret="not copied", os_glance_x="nor this")  # fmt: skip
    image_id = await image.create(disk_format="raw")
    await image.import_(image_id, "glance-download", glance_image_id=source, glance_region="other")
    assert (await image.ended(image_id))["status"] == "success"
    shown = await image.show(image_id)
    assert (shown["status"], shown["disk_format"], shown["size"]) == ("active", "qcow2", len(QCOW2))
    assert (shown["os_distro"], shown["hw_disk_bus"]) == ("debian", "scsi")
    assert "secret" not in shown and shown["owner"] != "x"
    assert await image.api.get(f"/v2/images/{image_id}/file") == QCOW2


@pytest.mark.parametrize("region", ["other", "nowhere"])
async def test_a_region_that_has_it_not_or_sends_too_little(image: WholeImage, region: str) -> None:
    source = image.elsewhere(b"short", size=1000)
    image_id = await image.create()
    await image.import_(image_id, "glance-download", glance_image_id=source, glance_region=region)
    task = await image.ended(image_id)
    assert task["status"] == "failure" and ("less data" in task["message"] or "nowhere" in task["message"])
    assert (await image.show(image_id))["status"] == "queued"
    assert image.kept() == {"first": [], "second": []}


async def test_an_admin_imports_by_a_task(image: WholeImage) -> None:
    admin = image.api.as_("admin")
    properties = {"name": "t", "disk_format": "qcow2", "container_format": "bare", "visibility": "public"}
    wanted = {"import_from": image.web.url("/t", QCOW2), "import_from_format": "qcow2", "image_properties": properties}
    body = {"type": "import", "input": wanted}
    await image.api.post("/v2/tasks", body, 403)
    await admin.post("/v2/tasks", {"type": "import", "input": {**wanted, "import_from": "file:///etc/passwd"}}, 403)
    await admin.post("/v2/tasks", {"type": "import", "input": {**wanted, "import_from": "http://10.0.0.1/"}}, 400)
    task = await admin.post("/v2/tasks", body, 201)
    image_id = (await admin.get("/v2/images"))["images"][0]["id"]
    await image.ended(image_id)
    shown = await admin.get(f"/v2/tasks/{task['id']}")
    assert (shown["status"], shown["result"]) == ("success", {"image_id": image_id})
    assert [one["id"] for one in (await admin.get("/v2/tasks?status=success"))["tasks"]] == [task["id"]]
    assert (await admin.get("/v2/tasks?status=pending"))["tasks"] == []


async def test_the_operator_injects_properties_into_what_users_import(tmp_path: Path) -> None:
    async with whole_image(tmp_path, inject_properties={"origin": "import"}) as image:
        image_id = await image.create()
        await image.put(image_id, b"data", "stage")
        await image.api.post(f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}}, 202)
        await image.ended(image_id)
        assert (await image.show(image_id))["origin"] == "import"
        theirs = await image.create()
        await image.put(theirs, b"data", "stage")
        await image.import_(theirs, "glance-direct")  # an admin's are left alone
        await image.ended(theirs)
        assert "origin" not in await image.show(theirs)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
async def test_imported_disks_become_the_operators_format() -> None:
    with tempfile.TemporaryDirectory(prefix="kn-convert-") as folder:
        directory = Path(folder)
        directory.chmod(0o711)  # the converting child is nobody: it must reach its file
        disk = directory / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4M"], check=True)
        async with whole_image(directory, convert_to="raw") as image:
            image_id = await image.create(disk_format="qcow2")
            await image.put(image_id, disk.read_bytes(), "stage")
            await image.import_(image_id, "glance-direct", all_stores=True)
            task = await image.ended(image_id)
            assert task["status"] == "success", task
            shown = await image.show(image_id)
            assert (shown["disk_format"], shown["size"], shown["virtual_size"]) == ("raw", 4 << 20, 4 << 20)
            assert await image.api.get(f"/v2/images/{image_id}/file") == bytes(4 << 20)
            assert image.kept() == {"first": [image_id], "second": [image_id]}
            assert list((directory / "scratch").rglob("*.in")) == []
