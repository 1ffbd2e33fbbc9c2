"""An image of a server on volumes, by every real service: made, booted from, and what is left when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kilonova.base.faults import Fault, unavailable
from kilonova.sim import whole_store
from kilonova.sim.loop import run
from tests.laws.whole import Whole


async def on_volumes(whole: Whole) -> str:
    """A server whose root is a volume made from the image, with a second volume of the user's."""
    await whole.cloud.start_all()
    await whole.sleep(2)
    volume_id = await whole.create_volume()
    await whole.sleep(5)
    server_id = await whole.create_server(volume=volume_id, volume_from_image=True)
    await whole.settle()
    return server_id


async def image_of(whole: Whole, server_id: str) -> str:
    answer = await whole.ask("compute", "POST", f"/v2.1/servers/{server_id}/action", {"createImage": {"name": "copy"}})
    await whole.settle()
    await whole.sleep(5)
    return str(answer["image_id"])


async def show(whole: Whole, mount: str, path: str) -> Any:
    return await whole.ask(mount, "GET", path)


def test_every_service_takes_part_and_a_server_is_made_from_it() -> None:
    whole = Whole(1)

    async def main() -> None:
        server_id = await on_volumes(whole)
        image_id = await image_of(whole, server_id)
        image = await show(whole, "image", f"/v2/images/{image_id}")
        assert (image["status"], image["size"], image["bdm_v2"]) == ("active", 0, "True")
        told = json.loads(image["block_device_mapping"])
        assert [(one["source_type"], one["boot_index"]) for one in told] == [("snapshot", 0), ("snapshot", -1)]
        snapshots = (await show(whole, "volume", "/v3/snapshots/detail"))["snapshots"]
        assert {one["id"] for one in snapshots} == {one["snapshot_id"] for one in told}
        assert {one["status"] for one in snapshots} == {"available"}
        flavor = {"name": "again", "flavorRef": "1", "imageRef": image_id, "networks": "none"}
        made = await whole.ask("compute", "POST", "/v2.1/servers", {"server": flavor})
        await whole.settle()
        again = (await show(whole, "compute", f"/v2.1/servers/{made['server']['id']}"))["server"]
        assert (again["status"], again["image"]) == ("ACTIVE", "")
        assert len(again["os-extended-volumes:volumes_attached"]) == 2
        await whole.ask("image", "DELETE", f"/v2/images/{image_id}")
        assert await show(whole, "image", f"/v2/images/{image_id}") is None

    run(main(), 1)


def test_a_server_goes_though_its_volume_is_needed_by_the_image_that_was_made_of_it() -> None:
    whole = Whole(4)

    async def main() -> None:
        server_id = await on_volumes(whole)
        await image_of(whole, server_id)
        await whole.delete_server(server_id)
        await whole.settle()
        assert await show(whole, "compute", f"/v2.1/servers/{server_id}") is None
        snapshots = (await show(whole, "volume", "/v3/snapshots"))["snapshots"]
        volumes = (await show(whole, "volume", "/v3/volumes/detail"))["volumes"]
        assert {one["volume_id"] for one in snapshots} == {one["id"] for one in volumes}
        assert [(one["status"], one["attachments"]) for one in volumes] == [("available", [])] * 2
        for one in snapshots:
            await whole.ask("volume", "DELETE", f"/v3/snapshots/{one['id']}")
        await whole.sleep(5)
        for one in volumes:
            await whole.ask("volume", "DELETE", f"/v3/volumes/{one['id']}")
        await whole.sleep(5)
        assert (await show(whole, "volume", "/v3/volumes"))["volumes"] == []

    run(main(), 4)


def test_a_backend_that_fails_leaves_neither_image_nor_snapshots_and_the_guest_runs() -> None:
    whole = Whole(2)

    async def main() -> None:
        server_id = await on_volumes(whole)
        whole.cloud.hosts["node1"].pool.refuse("ensure_snapshot", unavailable("The disk is broken."), 1)
        image_id = await image_of(whole, server_id)
        await whole.sleep(60)
        assert await show(whole, "image", f"/v2/images/{image_id}") is None
        assert (await show(whole, "volume", "/v3/snapshots"))["snapshots"] == []
        assert (await show(whole, "compute", f"/v2.1/servers/{server_id}"))["server"]["status"] == "ACTIVE"
        await whole.settle()

    run(main(), 2)


def test_a_user_alone_cannot_say_that_a_volume_stands_still() -> None:
    whole = Whole(3)

    async def main() -> None:
        await on_volumes(whole)
        with whole.cloud.databases["block_storage"].engine.connect() as connection:
            busy = next(one.id for one in whole_store.all_volumes(connection) if one.status == "in-use")
        client = whole.cloud.client(whole.cloud.user, "volume")
        headers = {"openstack-api-version": "volume 3.71", "x-volume-still": "true"}
        body = {"snapshot": {"volume_id": busy}}
        with pytest.raises(Fault) as refused:
            await client.request("POST", "/v3/snapshots", token="member", json=body, headers=headers)
        assert "in use" in refused.value.message

    run(main(), 3)
