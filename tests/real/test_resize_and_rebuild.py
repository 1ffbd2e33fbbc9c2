"""A real guest gets another size and its old one back, keeps a third, and is rebuilt: by the unmodified client."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.real import cloud_rig
from tests.real.cloud_rig import Cloud

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]


class Guest:
    """The first server, as its user has it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.address = cloud.run("first-server").stdout.split("floating IP ", 1)[1].split()[0]

    def openstack(self, *words: str, user: str = "kilonova") -> str:
        """What the client says to `openstack WORDS`."""
        client = str(Path(sys.executable).with_name("openstack"))
        done = subprocess.run(
            [client, "--os-cloud", user, *words],
            capture_output=True, text=True, timeout=180, env=self.cloud.environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}\n{self.cloud.log()}"
        return done.stdout.strip()

    def ssh(self, command: str) -> str:
        """What the guest says, once it lets one in."""
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        key = ["-i", str(self.cloud.directory / "first.key"), "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"]
        deadline = time.monotonic() + 120
        while True:
            line = ["ssh", *key, *quiet, f"cirros@{self.address}", command]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.5)

    def memory_mb(self) -> int:
        return int(self.ssh("grep MemTotal /proc/meminfo").split()[1]) // 1024

    def disk_gib(self) -> float:
        """Size of the root disk, not of its file system."""
        return int(self.ssh("cat /sys/block/vda/size")) * 512 / 2**30

    def write(self, word: str) -> None:
        self.ssh(f"echo {word} > kept && sync")

    def addresses(self) -> str:
        return str(self.cloud.sdk().compute.find_server("first", details=True).addresses)


def test_a_guest_is_resized_reverted_confirmed_and_rebuilt() -> None:
    with cloud_rig.real_cloud() as cloud:
        guest = Guest(cloud)
        for name, memory, disk in (("grown", "576", "2"), ("grown-more", "640", "3")):
            size = ["--ram", memory, "--disk", disk, "--vcpus", "1"]
            guest.openstack("flavor", "create", *size, name, user="kilonova-admin")
        before, small, addresses = guest.disk_gib(), guest.memory_mb(), guest.addresses()
        guest.write("before")

        guest.openstack("server", "resize", "--flavor", "grown-more", "--wait", "first")
        large = guest.memory_mb()  # a little less than the flavor says: the guest's kernel keeps some
        assert large >= small + 100 and (guest.disk_gib(), guest.ssh("cat kept")) == (3, "before")
        guest.write("after")
        guest.openstack("server", "resize", "revert", "first")
        _until_active(guest)
        assert (guest.memory_mb(), guest.disk_gib(), guest.ssh("cat kept")) == (small, before, "before")

        guest.openstack("server", "resize", "--flavor", "grown", "--wait", "first")
        guest.write("grown")
        guest.openstack("server", "resize", "confirm", "first")
        _until_active(guest)
        assert (guest.disk_gib(), guest.ssh("cat kept")) == (2, "grown")
        assert "confirmed" in guest.openstack("server", "migration", "list", user="kilonova-admin")

        guest.openstack("server", "rebuild", "--image", "cirros", "--wait", "first")
        assert guest.ssh("cat kept || echo gone") == "gone"
        assert guest.addresses() == addresses and guest.disk_gib() == 2
        kept = [one.name for one in cloud.directory.glob("hosts/node1/**/*.before")]
        assert kept == []


def _until_active(guest: Guest) -> None:
    sdk = guest.cloud.sdk()
    sdk.compute.wait_for_server(sdk.compute.find_server("first"), interval=0.5, wait=120)
