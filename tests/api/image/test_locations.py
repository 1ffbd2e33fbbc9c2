"""Locations: data at URLs that users give, patched or added; what is there is not replaced or lost."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from kilonova.http.client import AsgiTransport, Client
from kilonova.image.client import ImageClient
from tests.api.image.door import QCOW2, WholeImage, whole_image

PATCH = "application/openstack-images-v2.1-json-patch"
DATA = b"the data of an image" * 500


@pytest.fixture
async def image(tmp_path: Path) -> Any:
    async with whole_image(tmp_path, show_multiple_locations=True, show_image_direct_url=True) as made:
        yield made


async def patch(image: WholeImage, image_id: str, *changes: Any, status: int = 200, who: str = "member") -> Any:
    reply = await image.api.as_(who).send("PATCH", f"/v2/images/{image_id}", list(changes), content_type=PATCH)
    assert reply.status == status, reply.content
    return reply.json()


def add(url: str, **more: Any) -> dict[str, Any]:
    return {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}, **more}}


async def test_uploaded_data_has_one_location(image: WholeImage) -> None:
    image_id = await image.create()
    assert (await image.show(image_id))["locations"] == []
    await image.put(image_id, DATA)
    shown = await image.show(image_id)
    assert [place["metadata"] for place in shown["locations"]] == [{"store": "first"}]
    assert shown["direct_url"] == shown["locations"][0]["url"] == f"file:///{image_id}"


async def test_locations_are_added_and_only_their_metadata_changes(image: WholeImage) -> None:
    image_id = await image.create()
    url = image.web.url("/i", DATA)
    shown = await patch(image, image_id, add(url, metadata={"foo": "bar"}))
    assert (shown["status"], shown["size"], shown["os_hash_value"]) == ("active", len(DATA), None)
    assert shown["locations"] == [{"url": url, "metadata": {"foo": "bar", "store": "web"}}]
    assert await image.api.get(f"/v2/images/{image_id}/file") == DATA
    part = await image.api.send("GET", f"/v2/images/{image_id}/file", range="bytes=4-7")
    assert part.content == DATA[4:8]
    await patch(image, image_id, add(url), status=400)
    places = (await patch(image, image_id, add(url + "#2")))["locations"]
    places[0]["metadata"]["speed"] = "fast"
    replaced = await patch(image, image_id, {"op": "replace", "path": "/locations", "value": places})
    assert replaced["locations"] == places
    other = [places[0], {"url": url + "#3", "metadata": {}}]
    for wrong in (places[:1], other):
        await patch(image, image_id, {"op": "replace", "path": "/locations", "value": wrong}, status=400)
    await patch(image, image_id, {"op": "replace", "path": "/locations", "value": []}, status=403)
    await patch(image, image_id, {"op": "remove", "path": "/locations/0"}, status=403)
    left = await patch(image, image_id, {"op": "remove", "path": "/locations/0"}, who="admin")
    assert [place["url"] for place in left["locations"]] == [url + "#2"]
    await patch(image, image_id, {"op": "remove", "path": "/locations/0"}, status=403, who="admin")
    await image.put(image_id, b"other data", "file", 409)


async def test_validation_data_stands_on_the_image_and_must_agree(image: WholeImage) -> None:
    image_id = await image.create()
    url = image.web.url("/i", DATA)
    said = {"checksum": "1" * 32, "os_hash_algo": "sha512", "os_hash_value": "deadbeef" * 16}
    shown = await patch(image, image_id, add(url, validation_data=said))
    assert {name: shown[name] for name in said} == said
    await patch(image, image_id, add(url + "#2", validation_data=said))
    for name, value in (("checksum", "2" * 32), ("os_hash_value", "beefdead" * 16), ("os_hash_algo", "sha256")):
        await patch(image, image_id, add(url + "#3", validation_data=said | {name: value}), status=409)
    assert len((await image.show(image_id))["locations"]) == 2


async def test_added_locations_are_hashed_or_verified_by_a_task(image: WholeImage) -> None:
    url = image.web.url("/i", DATA)
    path = "/v2/images/{}/locations"
    image_id = await image.create()
    good = {"os_hash_algo": "sha256", "os_hash_value": hashlib.sha256(DATA).hexdigest()}
    for wrong in (
        {"os_hash_algo": "sha512", "os_hash_value": "dbc9e0f8"},
        {"os_hash_value": good["os_hash_value"]},
        {"os_hash_algo": "sha123", "os_hash_value": good["os_hash_value"]},
        {"os_hash_algo": "sha512", "os_hash_value": good["os_hash_value"]},
    ):
        await image.api.post(path.format(image_id), {"url": url, "validation_data": wrong}, 400)
    await image.api.post(path.format(image_id), {"url": url, "validation_data": good}, 202)
    assert (await image.ended(image_id))["status"] == "success"
    shown = await image.show(image_id)
    assert (shown["status"], shown["os_hash_algo"], shown["stores"]) == ("active", "sha256", "web")
    assert (shown["checksum"], shown["size"]) == (hashlib.md5(DATA).hexdigest(), len(DATA))

    lying = await image.create()
    bad = {"os_hash_algo": "sha512", "os_hash_value": "beefdead" * 16}
    await image.api.post(path.format(lying), {"url": url, "validation_data": bad}, 202)
    assert "does not have the hash" in (await image.ended(lying))["message"]
    shown = await image.show(lying)
    assert (shown["status"], shown["os_hash_algo"], shown["stores"]) == ("queued", None, "web")
    await image.put(lying, DATA)  # other data may come, and nothing of the first is beside it
    assert [place["metadata"]["store"] for place in (await image.show(lying))["locations"]] == ["first"]

    unsaid = await image.create()
    await image.api.post(path.format(unsaid), {"url": url}, 202)
    assert (await image.ended(unsaid))["status"] == "success"
    assert (await image.show(unsaid))["os_hash_value"] == hashlib.sha512(DATA).hexdigest()

    listed = await image.api.as_("service").get(path.format(unsaid))
    assert listed == [{"url": url, "metadata": {"store": "web"}}]
    await image.api.get(path.format(unsaid), 403)


@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
async def test_data_at_a_location_that_lies_takes_the_image_out_of_use(image: WholeImage, method: str) -> None:
    image_id = await image.create()
    await image.api.post(f"/v2/images/{image_id}/locations", {"url": image.web.url("/q", QCOW2)}, 202)
    assert "is qcow2, not raw" in (await image.ended(image_id))["message"]
    assert (await image.show(image_id))["status"] == "queued"
    if method == "glance-direct":
        await image.put(image_id, DATA, "stage")
        await image.import_(image_id, method)
    else:
        await image.import_(image_id, method, uri=image.web.url("/right", DATA))
    assert (await image.ended(image_id))["status"] == "success"
    assert len((await image.show(image_id))["locations"]) == 1, "the refused place must not be read for the new data"


async def test_locations_that_users_do_not_see_are_not_changed(tmp_path: Path) -> None:
    async with whole_image(tmp_path) as image:
        image_id = await image.create()
        await patch(image, image_id, add(image.web.url("/i", DATA)), status=403)
        await patch(image, image_id, add(image.web.url("/i")), status=403, who="admin")
        assert "locations" not in await image.show(image_id)


async def test_peers_see_properties_only(image: WholeImage) -> None:
    """Locations and stores are no properties of the image: compute would give them to its guests."""
    image_id = await image.create(kernel_id=None, hw_disk_bus="virtio")
    await image.put(image_id, DATA)
    peer = ImageClient(image.service.world, Client(AsgiTransport(image.app)))
    assert (await peer.show("member", image_id)).properties == {"hw_disk_bus": "virtio"}
