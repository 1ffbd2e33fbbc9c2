"""Images through the door: metadata, data, visibility, sharing, and bytes that lie."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kilonova.http.client import AsgiTransport, Client
from kilonova.image.client import ImageClient
from kilonova.image.core import ImageService
from kilonova.image.image import store
from kilonova.image.service import RULES, image_app
from kilonova.node.images.inspector import ConfinedInspector
from kilonova.policy.rules import Policy
from tests.api.image.door import image_service
from tests.api.support import OTHER_PROJECT, PROJECT, ApiClient, FakeAuthenticator, api_client

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 20).to_bytes(8, "big") + bytes(200)


@pytest.fixture
async def service(tmp_path: Path) -> Any:
    async with image_service(tmp_path) as made:
        yield made


@pytest.fixture
def app(service: ImageService) -> Any:
    return image_app(service, FakeAuthenticator(), Policy(RULES))


@pytest.fixture
def api(app: Any) -> ApiClient:
    return api_client(app)


async def create(api: ApiClient, **fields: Any) -> Any:
    body = {"name": "img", "disk_format": "raw", "container_format": "bare", **fields}
    return await api.post("/v2/images", body, 201)


async def upload(api: ApiClient, image_id: str, data: bytes, status: int = 204) -> Any:
    reply = await api.send("PUT", f"/v2/images/{image_id}/file", data, content_type="application/octet-stream")
    assert reply.status == status, reply.content
    return reply


async def test_create_upload_download(api: ApiClient) -> None:
    image = await create(api, os_distro="debian", tags=["b", "a"])
    assert (image["status"], image["visibility"], image["owner"]) == ("queued", "shared", PROJECT)
    assert image["os_distro"] == "debian"
    assert image["tags"] == ["a", "b"]
    assert (await api.send("GET", f"/v2/images/{image['id']}/file")).status == 204
    data = bytes(range(256)) * 9000
    await upload(api, image["id"], data)
    shown = await api.get(f"/v2/images/{image['id']}")
    assert (shown["status"], shown["size"], shown["virtual_size"]) == ("active", len(data), len(data))
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert await api.get(f"/v2/images/{image['id']}/file") == data
    part = await api.send("GET", f"/v2/images/{image['id']}/file", range="bytes=10-19")
    assert (part.status, part.content, part.headers["content-range"]) == (206, data[10:20], f"bytes 10-19/{len(data)}")
    assert (await api.send("GET", f"/v2/images/{image['id']}/file", range=f"bytes={len(data)}-")).status == 416


async def test_data_cannot_be_replaced_and_lies_are_refused(api: ApiClient, service: ImageService) -> None:
    image = await create(api)
    refused = await upload(api, image["id"], QCOW2, 400)
    assert "is qcow2, not raw" in refused.json()["message"]
    assert (await api.get(f"/v2/images/{image['id']}"))["status"] == "queued"
    assert list(service.data._directory.glob("*-*")) == []  # type: ignore[attr-defined]
    await upload(api, image["id"], b"fine")
    await upload(api, image["id"], b"other", 409)
    assert await api.get(f"/v2/images/{image['id']}/file") == b"fine"


async def test_too_large_data_leaves_nothing(api: ApiClient, service: ImageService) -> None:
    image = await create(api)
    await upload(api, image["id"], b"x" * ((1 << 24) + 1), 413)
    assert list(service.data._directory.glob("*-*")) == []  # type: ignore[attr-defined]


async def test_upload_needs_formats_and_type(api: ApiClient) -> None:
    image = await api.post("/v2/images", {"name": "bare"}, 201)
    await upload(api, image["id"], b"x", 400)
    assert (await api.send("PUT", f"/v2/images/{image['id']}/file", b"x")).status == 415


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"visibility": "secret"}, 400, "visibility"),
        ({"min_ram": -1}, 400, "min_ram"),
        ({"min_ram": True}, 400, "min_ram"),
        ({"status": "active"}, 403, "read-only"),
        ({"id": "not-a-uuid"}, 400, "UUID"),
        ({"disk_format": "floppy"}, 400, "disk_format"),
        ({"my": 1}, 400, "strings"),
        ({"name": "x" * 256}, 400, "255"),
        ({"os_glance_x": "1"}, 403, "reserved"),
        ({"visibility": "public"}, 403, "publicize_image"),
        ({"owner": OTHER_PROJECT}, 403, "add_image"),
    ],
)
async def test_bad_images_are_refused_by_name(api: ApiClient, body: Any, status: int, word: str) -> None:
    assert word in (await api.post("/v2/images", body, status))["message"]
    assert (await api.get("/v2/images"))["images"] == []


async def test_who_sees_what(api: ApiClient) -> None:
    private = await create(api, visibility="private")
    community = await create(api, visibility="community")
    shared = await create(api)
    public = await create(api.as_("admin"), visibility="public")
    other = api.as_("other")
    assert [i["id"] for i in (await other.get("/v2/images"))["images"]] == [public["id"]]
    await other.get(f"/v2/images/{private['id']}", 404)
    await other.get(f"/v2/images/{community['id']}")
    await other.get(f"/v2/images/{shared['id']}", 404)
    assert "empty" in str(await api.post(f"/v2/images/{shared['id']}/members", {"member": " "}, 400))
    await api.post(f"/v2/images/{shared['id']}/members", {"member": OTHER_PROJECT}, 200)
    await other.get(f"/v2/images/{shared['id']}")
    assert len((await other.get("/v2/images"))["images"]) == 1
    await other.put(f"/v2/images/{shared['id']}/members/{OTHER_PROJECT}", {"status": "accepted"})
    assert {i["id"] for i in (await other.get("/v2/images"))["images"]} == {public["id"], shared["id"]}
    await other.delete(f"/v2/images/{shared['id']}", 403)
    await other.delete(f"/v2/images/{public['id']}", 403)
    await api.as_("").get("/v2/images", 401)
    await api.as_("reader").post("/v2/images", {"name": "no"}, 403)


async def test_patch(api: ApiClient) -> None:
    image = await create(api, color="red")
    kind = "application/openstack-images-v2.1-json-patch"
    path = f"/v2/images/{image['id']}"
    changes = [
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/size_class", "value": "s"},
        {"op": "remove", "path": "/color"},
    ]
    shown = (await api.send("PATCH", path, changes, content_type=kind)).json()
    assert (shown["name"], shown["size_class"], "color" in shown) == ("new", "s", False)
    for change, status in [
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "add", "path": "/a/b", "value": "x"}, 400),
        ({"op": "move", "path": "/name", "from": "/x"}, 400),
    ]:
        assert (await api.send("PATCH", path, [change], content_type=kind)).status == status, change
    assert (await api.send("PATCH", path, changes, content_type="application/json")).status == 415
    older = [{"replace": "/name", "value": "old"}, {"add": "/shape", "value": "round"}, {"remove": "/size_class"}]
    kind = "application/openstack-images-v2.0-json-patch"
    shown = (await api.send("PATCH", path, older, content_type=kind)).json()
    assert (shown["name"], shown["shape"], "size_class" in shown) == ("old", "round", False)
    assert (await api.send("PATCH", path, [{"add": "/a", "remove": "/b"}], content_type=kind)).status == 400


async def test_an_image_is_given_away_by_admins_only(api: ApiClient) -> None:
    kind, image = "application/openstack-images-v2.1-json-patch", await create(api)
    path, change = f"/v2/images/{image['id']}", [{"op": "replace", "path": "/owner", "value": OTHER_PROJECT}]
    refused = await api.send("PATCH", path, change, content_type=kind)
    assert refused.status == 403 and "Owner" in refused.json()["message"]
    assert (await api.get(path))["owner"] == PROJECT
    assert (await api.as_("admin").send("PATCH", path, change, content_type=kind)).json()["owner"] == OTHER_PROJECT


async def test_patches_that_race_lose_nothing_of_each_other(api: ApiClient, service: ImageService) -> None:
    kind, image = "application/openstack-images-v2.1-json-patch", await create(api)
    path, data = f"/v2/images/{image['id']}", b"raw bytes" * 100

    def patch(name: str, value: str) -> Any:
        return api.send("PATCH", path, [{"op": "add", "path": f"/{name}", "value": value}], content_type=kind)

    replies = await asyncio.gather(*(patch(f"color{number}", "red") for number in range(6)))
    assert {reply.status for reply in replies} == {200}
    assert {f"color{number}" for number in range(6)} <= set(await api.get(path))
    read = await service.db.read(store.get_image, image["id"])
    was = store.patchable(read)
    read.disk_format = "qcow2"
    await upload(api, image["id"], data)  # checked as raw while the patch was on its way
    assert await service.db.write(store.update_image, read, was) is None
    assert (await api.get(path))["disk_format"] == "raw"


async def test_lists_filter_sort_and_page(api: ApiClient) -> None:
    for number in range(5):
        await create(api, name=f"n{number}", tags=["even"] if number % 2 == 0 else [], rank=str(number))
    names = [i["name"] for i in (await api.get("/v2/images?sort_key=name&sort_dir=asc"))["images"]]
    assert names == [f"n{n}" for n in range(5)]
    first = await api.get("/v2/images?sort=name:desc&limit=2")
    second = await api.get(first["next"])
    assert [i["name"] for i in first["images"] + second["images"]] == ["n4", "n3", "n2", "n1"]
    assert len((await api.get("/v2/images?tag=even"))["images"]) == 3
    assert [i["name"] for i in (await api.get("/v2/images?rank=3"))["images"]] == ["n3"]
    assert len((await api.get("/v2/images?name=in:n1,n2"))["images"]) == 2
    await api.get("/v2/images?marker=gone", 400)
    await api.get("/v2/images?sort_key=colour", 400)
    await api.get("/v2/images?limit=-1", 400)


async def test_protected_images_stay(api: ApiClient, service: ImageService) -> None:
    image = await create(api, protected=True)
    await api.delete(f"/v2/images/{image['id']}", 403)
    gone = await create(api)
    await upload(api, gone["id"], b"bytes")
    await api.delete(f"/v2/images/{gone['id']}")
    await api.get(f"/v2/images/{gone['id']}", 404)
    assert not (service.data._directory / gone["id"]).exists()  # type: ignore[attr-defined]


async def test_peers_download_verified_bytes(app: Any, api: ApiClient, tmp_path: Path, service: ImageService) -> None:
    image = await create(api, hw_rng_model="virtio")
    await upload(api, image["id"], b"d" * 3_000_000)
    peer = ImageClient(service.world, Client(AsgiTransport(app)), inspector=ConfinedInspector(service.world))
    ref = await peer.show("member", image["id"])
    assert (ref.size, ref.properties) == (3_000_000, {"hw_rng_model": "virtio"})
    await peer.download("member", image["id"], str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"d" * 3_000_000
    (service.data._directory / image["id"]).write_bytes(b"D" * 3_000_000)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="does not match its checksum"):
        await peer.download("member", image["id"], str(tmp_path / "bad"))
    assert not (tmp_path / "bad").exists()


async def test_idempotency_key_makes_one_image(api: ApiClient) -> None:
    first = await api.send("POST", "/v2/images", {"name": "one"}, idempotency_key="op/step/0")
    second = await api.send("POST", "/v2/images", {"name": "one"}, idempotency_key="op/step/0")
    assert first.json()["id"] == second.json()["id"]
    assert len((await api.get("/v2/images"))["images"]) == 1


async def test_an_empty_id_names_nothing(api: ApiClient) -> None:
    await api.get("/v2/images/", 404)
    await api.delete("/v2/images/", 404)


async def test_readers_read_no_data_and_tokens_of_the_system_see_no_images(app: Any, api: ApiClient) -> None:
    image = await create(api, visibility="community")
    await upload(api, image["id"], b"data")
    await api.as_("reader").get(f"/v2/images/{image['id']}")
    await api.as_("reader").get(f"/v2/images/{image['id']}/file", 403)
    assert await api.as_("other").get(f"/v2/images/{image['id']}/file") == b"data"
    admin = FakeAuthenticator().callers["admin"]
    system = replace(admin, project_id="", project_name="", system="all", token="system")
    authenticator = app.authenticator
    authenticator.callers["system"] = system
    for method, path in (("GET", ""), ("PATCH", ""), ("GET", "/file"), ("GET", "/members"), ("DELETE", "")):
        kind = "application/openstack-images-v2.1-json-patch"
        target = f"/v2/images/{image['id']}{path}"
        assert (await api.as_("system").send(method, target, [], content_type=kind)).status == 404, (method, path)
