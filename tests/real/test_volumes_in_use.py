"""What is done to volumes, and to servers on volumes, while a real guest uses them, through the `openstack` client."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real import cloud_rig
from tests.real.test_hot_plug import Guest

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.full,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
NEWEST = ("--os-volume-api-version", "3.71")
ONCE = b"""#!/bin/sh
if [ -e /etc/proof ]; then
  echo "proof: $(cat /etc/proof)" > /dev/console
else
  echo written before > /etc/proof
  sync
  echo "proof is written" > /dev/console
fi
"""


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with cloud_rig.real_cloud() as cloud:
        yield Guest(cloud)


def test_a_disk_grows_while_the_guest_has_files_on_it(guest: Guest) -> None:
    volume, disk = guest.plugged("grown")
    assert guest.run(f"lsblk -bndo SIZE /dev/{disk}").strip() == str(1 << 30)
    guest.openstack(*NEWEST, "volume", "set", "--size", "2", "grown")
    guest.until(f"lsblk -bndo SIZE /dev/{disk}", str(2 << 30))
    guest.status_is(volume, "in-use")
    guest.run("sudo umount /mnt/grown")
    guest.run(f"sudo e2fsck -fy /dev/{disk} >/dev/null; sudo resize2fs /dev/{disk}")
    guest.run(f"sudo mount /dev/{disk} /mnt/grown")
    assert guest.run("cat /mnt/grown/kept").strip() == "here"
    assert int(guest.run("df -k /mnt/grown | tail -1 | awk '{print $2}'")) > 1_500_000
    guest.run("sudo umount /mnt/grown")
    guest.openstack("server", "remove", "volume", "first", "grown")
    guest.status_is(volume, "available")


def test_backups_of_a_running_server_rotate(guest: Guest) -> None:
    for name in ("monday", "tuesday"):
        words = ("server", "backup", "create", "--name", name, "--type", "daily", "--rotate", "1", "--wait", "first")
        guest.openstack(*words)
        guest.sdk.compute.wait_for_server(guest.server, wait=60)
    end = time.monotonic() + 30
    while guest.sdk.image.find_image("monday") is not None:
        assert time.monotonic() < end, "the older backup stayed"
        time.sleep(0.5)
    kept = guest.sdk.image.find_image("tuesday", ignore_missing=False)
    assert (kept.status, kept.instance_uuid, kept.disk_format) == ("active", guest.server.id, "qcow2")
    assert kept.properties["image_type"] == "backup"
    assert guest.run("echo alive").strip() == "alive"


def said(guest: Guest, server: Any, wanted: str, seconds: float = 120) -> None:
    """Returns when the server's console has said so."""
    end = time.monotonic() + seconds
    while wanted not in (console := guest.sdk.compute.get_server_console_output(server)["output"]):
        assert time.monotonic() < end, console[-2000:]
        time.sleep(0.5)


def test_an_image_of_a_running_server_on_volumes_boots_with_its_files(guest: Guest) -> None:
    network = next(guest.sdk.network.ports(device_id=guest.server.id)).network_id
    base = guest.sdk.image.find_image("cirros", ignore_missing=False)
    root = {"boot_index": 0, "uuid": base.id, "source_type": "image", "destination_type": "volume", "volume_size": 1}
    common = {"flavor_id": "1", "networks": [{"uuid": network}], "user_data": base64.b64encode(ONCE).decode()}
    compute = guest.sdk.compute
    first = compute.create_server(
        name="on-volume", block_device_mapping=[root | {"delete_on_termination": True}], **common
    )
    compute.wait_for_server(first, wait=120)
    said(guest, first, "proof is written")
    guest.openstack("server", "image", "create", "--name", "of-volumes", "--wait", "on-volume")
    compute.wait_for_server(first, wait=60)  # it went on
    image = guest.sdk.image.find_image("of-volumes", ignore_missing=False)
    assert (image.status, image.size) == ("active", 0)
    second = compute.create_server(name="from-snapshots", image_id=image.id, **common)
    compute.wait_for_server(second, wait=120)
    said(guest, second, "proof: written before")
    for server in (second, first):
        compute.delete_server(server)
        compute.wait_for_delete(server, wait=60)
    guest.sdk.image.delete_image(image)
    storage = guest.sdk.block_storage
    for snapshot in list(storage.snapshots()):
        storage.delete_snapshot(snapshot)
        storage.wait_for_delete(snapshot, wait=60, interval=0.5)
    left = list(storage.volumes())  # what its snapshots needed stayed when its server was deleted
    assert [(one.status, one.attachments) for one in left if one.size == 1 and one.is_bootable] == [("available", [])]
    for volume in left:
        storage.delete_volume(volume)
        storage.wait_for_delete(volume, wait=60, interval=0.5)
    assert "books    balance" in guest.cloud.run("doctor", check=False).stdout
