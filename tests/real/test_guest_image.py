"""The guest image boots under QEMU's own emulation and does what a cloud's users and test suites expect of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.faults import Fault
from kilonova.node.guest.build import GuestImage, build_guest, missing_tools
from tests.real.guest_rig import BASE_MAC, Guest, config_drive, metadata_service

PROGRAMS = ("qemu-system-x86_64", "genisoimage", "sshpass", "ssh", "ssh-keygen")
LACKING = [name for name in PROGRAMS if shutil.which(name) is None] + [name for name, _package in missing_tools()]
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(bool(LACKING), reason=f"needs QEMU and the guest builder's tools: {' '.join(LACKING)}"),
]
CACHE = Path(os.environ.get("KILONOVA_GUEST_CACHE", "~/.cache/kilonova/guest")).expanduser()
USER_DATA = "#!/bin/sh\nset -eu -o pipefail\necho ran | tee /root/user-data-ran\n"
NETWORK = {
    "links": [{"id": "tap1", "type": "ovs", "ethernet_mac_address": f"{BASE_MAC}1", "mtu": 1400}],
    "networks": [
        {
            "id": "network0",
            "type": "ipv4",
            "link": "tap1",
            "ip_address": "10.9.0.7",
            "netmask": "255.255.252.0",
            "routes": [{"network": "10.11.0.0", "netmask": "255.255.0.0", "gateway": "10.9.0.1"}],
        },
        {
            "id": "network1",
            "type": "ipv6",
            "link": "tap1",
            "ip_address": "fd00:9::7",
            "netmask": "ffff:ffff:ffff:ffff::",
        },
    ],
    "services": [{"type": "dns", "address": "10.9.0.2"}],
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    try:
        return build_guest(tmp_path_factory.mktemp("image"), CACHE)
    except Fault as fault:
        raise AssertionError(f"{fault.told}\n{fault.inside}") from fault


@pytest.fixture(scope="module")
def guest(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    guest = Guest(tmp_path_factory.mktemp("guest"), image.disk)
    about = {
        "uuid": "6b696c6f-6e6f-7661-0000-00000000000a",
        "hostname": "web-1.example.org",
        "public_keys": {"mine": guest.key.with_suffix(".pub").read_text()},
        "admin_pass": "it's \\ $ecret",
        "files": [{"path": "/etc/personal/note", "content_path": "/content/0000"}],
    }
    drive = config_drive(
        guest.folder,
        {
            "openstack/latest/meta_data.json": json.dumps(about),
            "openstack/latest/network_data.json": json.dumps(NETWORK),
            "openstack/latest/user_data": USER_DATA,
            "openstack/content/0000": "a personal note\n",
        },
    )
    guest.start(
        *("-drive", f"file={guest.disk},if=virtio,cache=unsafe"),
        *("-drive", f"file={drive},if=ide,media=cdrom,readonly=on"),
        *(*guest.card(0), *guest.card(1), "-netdev", "user,id=n2,restrict=on,net=10.7.0.0/24"),
    )
    try:
        guest.wait_for("### cloud done", 90)
        yield guest
    finally:
        guest.stop()


def test_unchanged_build_is_reused_at_once(image: GuestImage, tmp_path: Path) -> None:
    started = time.monotonic()
    again = build_guest(tmp_path, CACHE)
    assert again.reused and again.sha256 == image.sha256
    assert time.monotonic() - started < 1


def test_console_tells_the_boot_to_its_end(guest: Guest) -> None:
    said = guest.said()
    assert "source: config-drive" in said and "user data ended with status 0" in said
    assert "### cloud done web-1" in said
    guest.ssh("sudo sh -c 'echo written by a test > /dev/console'")
    guest.wait_for("written by a test", 120)
    guest.wait_for(" login:", 120)


def test_config_drive_makes_the_server(guest: Guest) -> None:
    assert guest.ssh("hostname").strip() == "web-1"
    assert guest.ssh("cat /etc/personal/note").strip() == "a personal note"
    assert guest.ssh("sudo cat /root/user-data-ran").strip() == "ran"
    assert guest.ssh("sudo id -u").strip() == "0"
    assert guest.ssh("id -un", password="it's \\ $ecret").strip() == "cirros"


def test_addresses_by_dhcp_and_from_network_data(guest: Guest) -> None:
    assert " 10.0.2.15/24 " in guest.ssh("ip -o addr show dev eth0")
    static = guest.ssh("ip -o addr show dev eth1")
    assert " 10.9.0.7/22 " in static and " fd00:9::7/64 " in static
    assert "mtu 1400" in guest.ssh("ip -o link show dev eth1")
    assert "10.11.0.0/16 via 10.9.0.1" in guest.ssh("ip route")
    assert "nameserver 10.9.0.2" in guest.ssh("cat /etc/resolv.conf")
    assert " 1 received" in guest.ssh("ping -c 1 127.0.0.1 && ping6 -c 1 ::1")
    renewed = guest.ssh("sudo kill -USR1 $(cat /var/run/udhcpc.eth0.pid); sleep 1; ip -o addr show eth0")
    assert " 10.0.2.15/24 " in renewed


def test_tools_that_test_suites_call(guest: Guest) -> None:
    assert "SIZE" in guest.ssh("lsblk")
    assert "curl 7" in guest.ssh("curl --version")
    assert "cirros-rootfs" in guest.ssh("sudo blkid")
    for kind in ("ext4", "vfat"):
        guest.ssh(f"set -eu -o pipefail; truncate -s 40M /tmp/d; mkfs.{kind} /tmp/d >/dev/null 2>&1; rm /tmp/d")
    size_kb = int(guest.ssh("df -k / | tail -n 1 | awk '{print $2}'"))
    assert size_kb > 900_000, "the root fills the 1 GB disk"


@pytest.mark.parametrize("flags", ["-lk", "-ll"])
def test_nc_serves_a_program_again_and_again(guest: Guest, flags: str) -> None:
    guest.ssh(f'nc {flags} -p 8080 -e echo "it\'s  me" >/dev/null 2>&1 </dev/null & echo $! > /tmp/nc.pid; sleep 1')
    try:
        for _again in range(2):
            assert guest.ssh("nc 127.0.0.1 8080 </dev/null").strip() == "it's  me"
        guest.ssh("nc -z -w 2 127.0.0.1 8080")
    finally:
        guest.ssh("kill $(cat /tmp/nc.pid); sleep 1")


def test_nc_answers_datagrams(guest: Guest) -> None:
    guest.ssh("nc -u -p 8081 -lk -e echo pong >/dev/null 2>&1 </dev/null & echo $! > /tmp/nc.pid; sleep 1")
    assert guest.ssh("echo ping | nc -u -w 2 127.0.0.1 8081").strip() == "pong"
    guest.ssh("kill $(cat /tmp/nc.pid)")


def test_guest_agent_sets_passwords_freezes_and_runs(guest: Guest) -> None:
    agent = guest.agent()
    agent.ask("guest-ping")
    word = base64.b64encode(b"new & pass").decode()
    agent.ask("guest-set-user-password", username="cirros", password=word, crypted=False)
    assert guest.ssh("id -un", password="new & pass").strip() == "cirros"
    assert agent.ask("guest-fsfreeze-freeze") >= 1
    assert agent.ask("guest-fsfreeze-thaw") >= 1
    assert agent.ask("guest-exec", path="/bin/true")["pid"] > 0


def test_disks_and_cards_come_while_it_runs(guest: Guest) -> None:
    monitor = guest.monitor
    node = {"driver": "null-co", "node-name": "extra", "size": 64 << 20, "read-zeroes": True}
    monitor.ask("blockdev-add", **node)
    monitor.ask("device_add", driver="virtio-blk-pci", drive="extra", id="d1", serial="extra-disk")
    monitor.ask("device_add", driver="virtio-net-pci", netdev="n2", id="c2", mac=f"{BASE_MAC}2")
    guest.ssh_until("lsblk -n -o NAME,SIZE; cat /sys/block/vd?/serial", "extra-disk")
    guest.ssh_until("ip -o addr show", " 10.7.0.15/24 ")
    assert guest.ssh("cat /var/run/udhcpc.eth2.pid").strip().isdigit()
    monitor.ask("device_del", id="d1")
    guest.ssh_until("lsblk -n -o NAME | grep vdb || echo gone", "gone")


def test_power_button_shuts_down_cleanly(guest: Guest) -> None:
    guest.ssh("echo kept > /home/cirros/kept")
    deadline = time.monotonic() + 40
    guest.monitor.ask("system_powerdown")
    while guest.process.poll() is None:
        assert time.monotonic() < deadline, guest.said()[-2000:]
        time.sleep(0.1)
    assert guest.process.returncode == 0


def test_metadata_service_and_direct_kernel_boot_from_scsi(
    image: GuestImage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    guest = Guest(tmp_path_factory.mktemp("guest"), image.disk)
    about = {
        "uuid": "6b696c6f-6e6f-7661-0000-00000000000b",
        "name": "db-1",
        "public_keys": {"mine": guest.key.with_suffix(".pub").read_text()},
        "files": [{"path": "/etc/note", "content_path": "/content/0000"}],
    }
    service = metadata_service(
        guest.folder,
        {
            "openstack/latest/meta_data.json": json.dumps(about),
            "openstack/latest/user_data": USER_DATA,
            "openstack/content/0000": "from the service\n",
        },
    )
    guest.start(
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.command_line),
        *("-device", "virtio-scsi-pci", "-drive", f"file={guest.disk},if=none,id=d0,cache=unsafe"),
        *("-device", "scsi-hd,drive=d0", *guest.card(0, options=service)),
    )
    try:
        guest.wait_for("### cloud done", 90)
        assert "source: openstack" in guest.said()
        assert guest.ssh("hostname; cat /etc/note; sudo cat /root/user-data-ran").split("\n")[:3] == [
            "db-1",
            "from the service",
            "ran",
        ]
        assert "sda1" in guest.ssh("lsblk")
    finally:
        guest.stop()
