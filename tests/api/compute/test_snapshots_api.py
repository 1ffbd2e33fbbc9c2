"""createImage as clients see it."""

from __future__ import annotations

from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door
from tests.laws.test_snapshots import snap


def test_an_image_of_a_server_and_what_is_refused() -> None:
    async def main(door: Door) -> None:
        server_id = await door.create()
        await door.cloud.settle()
        action = f"/v2.1/servers/{server_id}/action"
        image_id = await snap(door, server_id, metadata={"purpose": "backup"})
        shown = (await door.client.get(f"/v2.1/servers/{server_id}"))["server"]
        assert shown["OS-EXT-STS:task_state"] == "image_snapshot"
        await door.client.post(action, {"createImage": {"name": "again"}}, 409)
        assert len(door.cloud.books.images) == 2  # what was refused left no image
        await door.cloud.settle()
        image = door.cloud.books.images[image_id]
        assert (image.name, image.status, image.min_disk_gb) == ("copy", "active", 1)
        assert image.properties["purpose"] == "backup" and image.properties["image_type"] == "snapshot"
        old = await door.client.at("compute 2.44").send("POST", action, {"createImage": {"name": "old"}})
        assert old.status == 202 and "/images/" in old.headers["location"]
        await door.cloud.settle()
        for body in ({}, {"name": ""}, {"name": "a" * 256}, {"name": "a", "metadata": {"k": 1}}, {"name": "a", "x": 1}):
            await door.client.post(action, {"createImage": body}, 400)
        await door.client.as_("reader").post(action, {"createImage": {"name": "a"}}, 403)
        await door.client.as_("other").post(action, {"createImage": {"name": "a"}}, 404)
        many = {str(number): "" for number in range(200)}
        await door.client.post(action, {"createImage": {"name": "a", "metadata": many}}, 403)

    in_cloud(main)
