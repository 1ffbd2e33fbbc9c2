"""A server whose root disk is a new volume, made from a snapshot of another volume."""

from __future__ import annotations

from kilonova.block_storage.contract import SnapshotRef, VolumeRef
from tests.api.compute.test_servers import BODY, in_cloud
from tests.laws.servers import Door

VOLUME, SNAPSHOT = "00000000-0000-4000-8000-0000000000e1", "00000000-0000-4000-8000-0000000000e2"
MAPPING = {"uuid": SNAPSHOT, "source_type": "snapshot", "destination_type": "volume", "boot_index": 0,
           "delete_on_termination": True}  # fmt: skip


def _stock(door: Door, *, status: str = "available", bootable: bool = True) -> None:
    books = door.cloud.books
    books.volumes[VOLUME] = VolumeRef(VOLUME, "v", "available", 3, bootable, False, "nova")
    books.snapshots[SNAPSHOT] = SnapshotRef(SNAPSHOT, status, 3, VOLUME)


def test_a_server_boots_from_a_volume_made_of_a_snapshot_that_goes_with_it() -> None:
    async def main(door: Door) -> None:
        _stock(door)
        server_id = await door.create(imageRef="", block_device_mapping_v2=[MAPPING])
        await door.cloud.settle()
        assert door.state(server_id) == "active"
        (made,) = set(door.cloud.books.volumes) - {VOLUME}
        assert door.cloud.books.volumes[made].size_gib == 3
        held = (await door.client.get(f"/v2.1/servers/{server_id}/os-volume_attachments"))["volumeAttachments"]
        assert [one["volumeId"] for one in held] == [made]
        await door.client.delete(f"/v2.1/servers/{server_id}", 204)
        await door.cloud.settle()
        assert set(door.cloud.books.volumes) == {VOLUME}
        door.balance()

    in_cloud(main)


def test_a_snapshot_that_cannot_be_booted_from_is_refused_at_once() -> None:
    async def main(door: Door) -> None:
        def body(**more: object) -> dict[str, object]:
            asked = {key: value for key, value in BODY.items() if key != "imageRef"}
            return {"server": asked | {"block_device_mapping_v2": [MAPPING | more]}}

        await door.client.post("/v2.1/servers", body(), 400)  # there is none
        _stock(door, status="creating")
        await door.client.post("/v2.1/servers", body(), 400)
        _stock(door, bootable=False)
        await door.client.post("/v2.1/servers", body(), 400)
        _stock(door)
        await door.client.post("/v2.1/servers", body(volume_size=2), 400)
        assert set(door.cloud.books.volumes) == {VOLUME}

    in_cloud(main)
