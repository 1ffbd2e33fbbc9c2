"""Disks and NICs come and go while a real guest runs, through the unmodified `openstack` client."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real import cloud_rig
from tests.real.cloud_rig import Cloud
from tests.real.test_first_light import first_address, ssh_line

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
LOOK = "ip addr; ps | tail -20; dmesg | tail -12"
FIND_DISK = 'for d in /sys/block/vd*; do [ "$(cat $d/serial)" = {serial} ] && basename $d; done; true'


class Guest:
    """The first server, talked to over ssh, and the client that users have."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.address = first_address(cloud)
        self.sdk = cloud.sdk()
        self.server = self.sdk.compute.find_server("first", ignore_missing=False)

    def run(self, command: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ssh_line(self.cloud, self.address, command), capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr, self.cloud.log())
        return done.stdout

    def until(self, command: str, wanted: str, seconds: float = 40) -> str:
        """What the guest says once it says `wanted`; "" waits for silence."""
        end = time.monotonic() + seconds
        while True:
            said = self.run(command, check=False)
            if wanted in said if wanted else not said.strip():
                return said
            assert time.monotonic() < end, f"{command}: {said}\n{self.run(LOOK, check=False)}\n{self.cloud.log(8)}"
            time.sleep(0.3)

    def openstack(self, *words: str) -> Any:
        """`openstack WORDS`."""
        done = subprocess.run(
            ["openstack", "--os-cloud", "kilonova", *words],
            capture_output=True, text=True, timeout=90, env=self.cloud.environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.cloud.log())
        return json.loads(done.stdout) if "json" in words else done.stdout

    def volume(self, name: str) -> Any:
        """A volume that is ready."""
        made = self.sdk.block_storage.create_volume(name=name, size=1)
        return self.sdk.block_storage.wait_for_status(made, "available", wait=60)

    def plugged(self, name: str) -> tuple[Any, str]:
        """A volume in the guest, mounted on /mnt/NAME with the file `kept` there; and the name of its disk."""
        volume = self.volume(name)
        self.openstack("server", "add", "volume", "first", name)
        self.status_is(volume, "in-use")
        disk = self.until(FIND_DISK.format(serial=volume.id[:20]), "vd").split()[0]
        self.run(f"sudo mke2fs -q /dev/{disk} && sudo mkdir -p /mnt/{name} && sudo mount /dev/{disk} /mnt/{name}")
        self.run(f"echo here | sudo tee /mnt/{name}/kept && sudo sync")
        return volume, disk

    def status_is(self, volume: Any, wanted: str, seconds: float = 60) -> None:
        self.sdk.block_storage.wait_for_status(volume, wanted, wait=seconds, interval=0.3)


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with cloud_rig.real_cloud() as cloud:
        yield Guest(cloud)


def test_a_disk_comes_by_its_serial_holds_a_file_system_and_goes_even_when_mounted(guest: Guest) -> None:
    volume, _ = guest.plugged("plugged")
    listed = guest.openstack("server", "volume", "list", "first", "-f", "json")
    assert [one["Volume ID"] for one in listed] == [volume.id]
    refused = guest.sdk.session.delete(
        f"/attachments/{guest.sdk.block_storage.get_volume(volume.id).attachments[0]['attachment_id']}",
        endpoint_filter={"service_type": "block-storage", "interface": "public"},
        headers={"OpenStack-API-Version": "volume 3.71"},
        raise_exc=False,
    )
    assert refused.status_code == 409  # a guest's disk is taken through compute only
    guest.openstack("server", "remove", "volume", "first", "plugged")  # mounted: the guest loses it, as with a cable
    guest.status_is(volume, "available")
    guest.until(FIND_DISK.format(serial=volume.id[:20]), "")
    guest.run("sudo umount -l /mnt/plugged", check=False)
    guest.openstack("server", "add", "volume", "first", "plugged")
    guest.status_is(volume, "in-use")
    disk = guest.until(FIND_DISK.format(serial=volume.id[:20]), "vd").split()[0]
    assert guest.run(f"sudo mount /dev/{disk} /mnt/plugged && cat /mnt/plugged/kept").strip() == "here"
    guest.run("sudo umount /mnt/plugged")
    guest.openstack("server", "remove", "volume", "first", "plugged")
    guest.status_is(volume, "available")


def test_a_volume_from_a_snapshot_has_what_was_there_then_and_not_what_came_later(guest: Guest) -> None:
    volume = guest.volume("original")

    def write(words: str) -> None:
        guest.openstack("server", "add", "volume", "first", "original")
        guest.status_is(volume, "in-use")
        disk = guest.until(FIND_DISK.format(serial=volume.id[:20]), "vd").split()[0]
        guest.run(f"echo {words} | sudo dd of=/dev/{disk} bs=512 seek=1000000 conv=sync && sudo sync")
        guest.openstack("server", "remove", "volume", "first", "original")
        guest.status_is(volume, "available")

    write("then")
    guest.openstack("volume", "snapshot", "create", "--volume", "original", "moment")
    snapshot = guest.sdk.block_storage.find_snapshot("moment", ignore_missing=False)
    guest.status_is(snapshot, "available")
    write("later")
    guest.openstack("volume", "create", "--snapshot", "moment", "restored")
    restored = guest.sdk.block_storage.find_volume("restored", ignore_missing=False)
    guest.status_is(restored, "available")
    listed = guest.openstack("volume", "snapshot", "list", "-f", "json")
    assert [(one["Name"], one["Status"]) for one in listed] == [("moment", "available")]
    guest.openstack("volume", "snapshot", "delete", "moment")
    guest.openstack("server", "add", "volume", "first", "restored")
    guest.status_is(restored, "in-use")
    disk = guest.until(FIND_DISK.format(serial=restored.id[:20]), "vd").split()[0]
    assert guest.run(f"sudo dd if=/dev/{disk} bs=512 skip=1000000 count=1 | tr -d '\\0'").strip() == "then"
    guest.openstack("server", "remove", "volume", "first", "restored")
    guest.status_is(restored, "available")


def test_a_nic_comes_gets_an_address_and_goes(guest: Guest) -> None:
    network = guest.sdk.network.create_network(name="second")
    guest.sdk.network.create_subnet(network_id=network.id, name="second", ip_version=4, cidr="10.99.0.0/24")
    port = guest.sdk.network.create_port(network_id=network.id, name="plugged")
    guest.openstack("server", "add", "port", "first", "plugged")
    wanted = port.fixed_ips[0]["ip_address"]
    guest.until("ip -4 addr", wanted)
    assert wanted in json.dumps(guest.sdk.compute.get_server(guest.server.id).addresses)
    guest.openstack("server", "remove", "port", "first", "plugged")
    guest.until(f"ip link | grep {port.mac_address}; true", "")
    end = time.monotonic() + 30
    while guest.sdk.network.get_port(port.id).device_id:
        assert time.monotonic() < end
        time.sleep(0.3)
    guest.openstack("server", "add", "network", "first", "second")
    made = [one for one in guest.sdk.network.ports(device_id=guest.server.id) if one.network_id == network.id]
    assert [one.status for one in made] == ["ACTIVE"]
    guest.until("ip -4 addr", made[0].fixed_ips[0]["ip_address"])
    guest.openstack("server", "remove", "network", "first", "second")
    while guest.sdk.network.find_port(made[0].id) is not None:  # made for the server, so it goes with its NIC
        assert time.monotonic() < end + 30
        time.sleep(0.3)
    assert guest.run("echo alive").strip() == "alive"


def test_an_image_of_a_running_server_boots_and_has_its_file(guest: Guest) -> None:
    guest.run("echo written before | sudo tee /etc/proof && sudo sync")
    guest.openstack("server", "image", "create", "--name", "copied", "--wait", "first")
    guest.run("test -e /etc/proof")  # the guest went on
    image = guest.sdk.image.find_image("copied", ignore_missing=False)
    assert (image.status, image.instance_uuid) == ("active", guest.server.id)
    script = base64.b64encode(b"#!/bin/sh\necho proof: $(cat /etc/proof) > /dev/console\n").decode()
    network = next(guest.sdk.network.ports(device_id=guest.server.id)).network_id
    made = guest.sdk.compute.create_server(
        name="again", image_id=image.id, flavor_id="1", networks=[{"uuid": network}], user_data=script
    )
    guest.sdk.compute.wait_for_server(made, wait=90)
    end = time.monotonic() + 90
    while "proof: written before" not in (said := guest.sdk.compute.get_server_console_output(made)["output"]):
        assert time.monotonic() < end, said[-2000:]
        time.sleep(0.5)
    guest.sdk.compute.delete_server(made)
    guest.sdk.compute.wait_for_delete(made, wait=60)


def test_a_stopped_server_gets_its_disk_at_the_next_start(guest: Guest) -> None:
    volume = guest.volume("cold")
    guest.sdk.compute.stop_server(guest.server)
    guest.sdk.compute.wait_for_server(guest.server, status="SHUTOFF", wait=90)
    guest.openstack("server", "add", "volume", "first", "cold")
    guest.status_is(volume, "in-use")
    guest.sdk.compute.start_server(guest.server)
    guest.sdk.compute.wait_for_server(guest.server, status="ACTIVE", wait=90)
    guest.until(FIND_DISK.format(serial=volume.id[:20]), "vd", 90)
    guest.openstack("server", "remove", "volume", "first", "cold")
    guest.status_is(volume, "available")
