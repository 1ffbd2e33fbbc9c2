"""Rescue through the API's door: what the guest boots from, what is refused, and what comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.block_storage.contract import VolumeRef
from kilonova.compute.contract import Disk
from kilonova.sim.peers import IMAGE, sample_image
from tests.api.compute.test_daily_verbs import guest_of, on_a_server, shown
from tests.api.compute.test_servers import in_cloud
from tests.laws.servers import Door

RESCUE_IMAGE = "00000000-0000-4000-8000-0000000000bd"
VOLUME = "00000000-0000-4000-8000-000000000001"


def with_rescue_image(door: Door, **properties: str) -> None:
    door.cloud.books.images[RESCUE_IMAGE] = msgspec.structs.replace(sample_image(RESCUE_IMAGE), properties=properties)


def disks_of(door: Door, server_id: str) -> tuple[Disk, ...]:
    return tuple(guest_of(door, server_id).spec.disks)


async def refused(door: Door, server_id: str, body: Any, status: int = 400, version: str = "2.90") -> str:
    client = door.client.at(f"compute {version}")
    reply = await client.send("POST", f"/v2.1/servers/{server_id}/action", {"rescue": body})
    assert reply.status == status, (body, reply.json())
    return str(next(iter(reply.json().values()))["message"])


def test_a_rescued_guest_boots_from_the_image_and_has_its_root_second() -> None:
    async def main(door: Door, server_id: str) -> None:
        with_rescue_image(door)
        own = disks_of(door, server_id)
        told = await door.act(server_id, "rescue", 200, {"rescue_image_ref": RESCUE_IMAGE, "adminPass": "secret"})
        assert told == {"adminPass": "secret"}
        assert (await shown(door, server_id))["OS-EXT-STS:task_state"] == "rescuing"
        await door.cloud.settle()
        seen = await shown(door, server_id)
        assert (seen["status"], seen["OS-EXT-STS:vm_state"], seen["OS-EXT-STS:power_state"]) == ("RESCUE", "rescued", 1)
        first, second = disks_of(door, server_id)
        assert (first.serial, first.target, first.boot_order) == ("rescue", "vda", 1)
        assert (second.path, second.target, second.boot_order) == (own[0].path, "vdb", 0)
        await door.act(server_id, "rescue", 409)
        await door.act(server_id, "os-stop", 409)
        await door.act(server_id, "unrescue")
        await door.cloud.settle()
        assert (await shown(door, server_id))["status"] == "ACTIVE"
        assert disks_of(door, server_id) == own
        await door.act(server_id, "unrescue", 409)

    on_a_server(main)


def test_without_an_image_it_is_the_one_that_the_server_was_made_from() -> None:
    async def main(door: Door, server_id: str) -> None:
        assert len((await door.act(server_id, "rescue", 200))["adminPass"]) >= 9
        await door.cloud.settle()
        assert door.state_of(server_id).rescue == {"image_id": IMAGE, "device": "", "bus": ""}
        await door.delete(server_id)
        await door.cloud.settle()

    on_a_server(main)


@pytest.mark.parametrize(
    ("properties", "device", "bus", "target"),
    [
        ({"hw_rescue_device": "disk", "hw_rescue_bus": "scsi"}, "disk", "scsi", "sda"),
        ({"hw_rescue_device": "cdrom"}, "cdrom", "ide", "hda"),
        ({"hw_rescue_bus": "virtio"}, "disk", "virtio", "vdb"),
    ],
)
def test_a_stable_rescue_leaves_every_disk_in_its_place(
    properties: dict[str, str], device: str, bus: str, target: str
) -> None:
    async def main(door: Door, server_id: str) -> None:
        with_rescue_image(door, **properties)
        own = disks_of(door, server_id)
        await door.act(server_id, "rescue", 200, {"rescue_image_ref": RESCUE_IMAGE})
        await door.cloud.settle()
        *rest, last = disks_of(door, server_id)
        assert (last.device, last.bus, last.target, last.boot_order) == (device, bus, target, 1)
        assert [msgspec.structs.replace(one, boot_order=0) for one in own] == rest

    on_a_server(main)


def test_what_cannot_rescue_is_refused_before_anything_happens() -> None:
    async def main(door: Door, server_id: str) -> None:
        await refused(door, server_id, {"rescue_image_ref": "x"})
        await refused(door, server_id, {"rescue_image_ref": VOLUME})
        await refused(door, server_id, {"adminPass": ""})
        await refused(door, server_id, {"unknown": 1})
        with_rescue_image(door, hw_rescue_device="floppy")
        assert "floppy" in await refused(door, server_id, {"rescue_image_ref": RESCUE_IMAGE})
        with_rescue_image(door, hw_rescue_device="cdrom", hw_rescue_bus="virtio")
        await refused(door, server_id, {"rescue_image_ref": RESCUE_IMAGE})
        queued = msgspec.structs.replace(sample_image(RESCUE_IMAGE), status="queued")
        door.cloud.books.images[RESCUE_IMAGE] = queued
        await refused(door, server_id, {"rescue_image_ref": RESCUE_IMAGE})
        path = f"/v2.1/servers/{server_id}/action"
        await door.client.as_("reader").post(path, {"rescue": None}, 403)
        await door.client.as_("other").post(path, {"rescue": None}, 404)
        assert guest_of(door, server_id).boots == 1

    on_a_server(main)


def test_a_server_on_a_volume_is_rescued_with_a_stable_device_since_2_87() -> None:
    async def main(door: Door) -> None:
        door.cloud.books.volumes[VOLUME] = VolumeRef(VOLUME, "v", "available", 2, True, False, "nova")
        mapping = {"source_type": "volume", "uuid": VOLUME, "destination_type": "volume", "boot_index": 0}
        server_id = await door.create(imageRef="", block_device_mapping_v2=[mapping])
        await door.cloud.settle()
        await refused(door, server_id, None)
        with_rescue_image(door)
        wanted = {"rescue_image_ref": RESCUE_IMAGE}
        assert "hw_rescue" not in await refused(door, server_id, wanted, version="2.86")
        await refused(door, server_id, wanted)
        with_rescue_image(door, hw_rescue_device="disk", hw_rescue_bus="virtio")
        await door.act(server_id, "rescue", 200, wanted)
        await door.cloud.settle()
        root, rescue = disks_of(door, server_id)
        assert (root.serial, root.target, root.boot_order) == (VOLUME, "vda", 0)
        assert (rescue.target, rescue.boot_order) == ("vdb", 1)
        await door.act(server_id, "unrescue")
        await door.cloud.settle()
        assert door.state(server_id) == "active"

    in_cloud(main)
