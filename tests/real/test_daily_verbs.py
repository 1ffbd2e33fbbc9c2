"""The daily verbs on a real guest, by the unmodified `openstack` client: it stands still, sleeps, boots, obeys."""

from __future__ import annotations

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
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
PASSWORD = "an0ther-one"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with cloud_rig.real_cloud() as made:
        yield made


def client(cloud: Cloud, *words: str, who: str = "kilonova") -> str:
    """What `openstack WORDS` printed."""
    environment = cloud.environment | {"OS_CLOUD": who}
    done = subprocess.run(
        ["openstack", *words], capture_output=True, text=True, timeout=180, env=environment, check=False
    )
    assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stderr}\n{cloud.log()}"
    return done.stdout


def answers(cloud: Cloud, address: str, command: str) -> str | None:
    """What the guest printed; None when it does not answer."""
    try:
        done = subprocess.run(
            ssh_line(cloud, address, command), capture_output=True, text=True, timeout=15, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def wait_for(cloud: Cloud, address: str, command: str, seconds: float = 90) -> str:
    """What the guest prints, once it answers."""
    deadline = time.monotonic() + seconds
    while (said := answers(cloud, address, command)) is None:
        assert time.monotonic() < deadline, cloud.log()
        time.sleep(0.5)
    return said


def status(cloud: Cloud) -> Any:
    return cloud.sdk().compute.find_server("first", ignore_missing=False, details=True)


def until(cloud: Cloud, wanted: str, seconds: float = 60) -> None:
    """Returns when the server's status is so, and nothing is under way."""
    deadline = time.monotonic() + seconds
    while (seen := cloud.sdk().compute.get_server(status(cloud).id)).status != wanted or seen.task_state:
        assert time.monotonic() < deadline, (seen.status, seen.task_state, cloud.log())
        time.sleep(0.3)


def test_a_guest_lives_through_the_daily_verbs(cloud: Cloud) -> None:
    cloud.sdk("kilonova-admin").image.update_image(
        cloud.sdk("kilonova-admin").image.find_image("cirros").id, os_admin_user="cirros"
    )
    address = first_address(cloud)
    boot = wait_for(cloud, address, BOOT_ID)

    client(cloud, "server", "pause", "first")
    until(cloud, "PAUSED")
    assert answers(cloud, address, "true") is None
    time.sleep(12)  # power sync has looked twice: it leaves a paused guest alone
    assert cloud.sdk().compute.get_server(status(cloud).id).status == "PAUSED"
    client(cloud, "server", "unpause", "first")
    until(cloud, "ACTIVE")
    assert wait_for(cloud, address, BOOT_ID) == boot

    client(cloud, "server", "suspend", "first")
    until(cloud, "SUSPENDED")
    time.sleep(12)
    until(cloud, "SUSPENDED")
    client(cloud, "server", "resume", "first")
    until(cloud, "ACTIVE")
    assert wait_for(cloud, address, BOOT_ID) == boot
    deadline = time.monotonic() + 15
    while abs(int(wait_for(cloud, address, "date +%s")) - time.time()) > 3:
        assert time.monotonic() < deadline, "the guest's clock stayed behind"
        time.sleep(1)

    told = client(cloud, "server", "show", "--diagnostics", status(cloud).id, who="kilonova-admin")
    assert "memory" in told and "rx" in told
    client(cloud, "server", "set", "--password", PASSWORD, "first")
    until(cloud, "ACTIVE")
    assert by_password(address) == "cirros"

    client(cloud, "server", "dump", "create", "first")
    deadline = time.monotonic() + 20
    while "NMI" not in client(cloud, "console", "log", "show", "first"):
        assert time.monotonic() < deadline
        time.sleep(1)

    wait_for(cloud, address, "touch kept; sync")
    for number, how in enumerate(("--soft", "--hard"), 1):
        began = time.monotonic()
        client(cloud, "server", "reboot", how, "first")
        until(cloud, "ACTIVE", 100)
        assert time.monotonic() - began < 60, f"{how}: the guest was asked in vain"
        now = wait_for(cloud, address, f"ls kept; {BOOT_ID}")
        assert now.startswith("kept") and boot not in now, number
        boot = now.split()[-1]

    doctor = cloud.run("doctor", check=False)
    assert "books    balance" in doctor.stdout, doctor.stdout


def test_a_rescued_guest_mends_its_own_root(cloud: Cloud) -> None:
    """On the first test's server: the rescue system has the root as second disk, and what it writes there stays."""
    address = first_address(cloud)
    wait_for(cloud, address, "touch broken; sync")
    client(cloud, "server", "rescue", "first")
    until(cloud, "RESCUE", 90)
    home = wait_for(cloud, address, "ls; lsblk -n -o NAME | head -20", 120)
    assert "broken" not in home and "vda" in home and "vdb" in home
    mend = "sudo mkdir -p /mnt/own && sudo mount /dev/vdb1 /mnt/own && sudo mv /mnt/own/home/cirros/broken"
    wait_for(cloud, address, f"{mend} /mnt/own/home/cirros/mended && sudo umount /mnt/own")
    client(cloud, "server", "unrescue", "first")
    until(cloud, "ACTIVE", 90)
    home = wait_for(cloud, address, "ls; lsblk -n -o NAME | head -20", 120)
    assert "mended" in home and "broken" not in home and "vdb" not in home
    assert "books    balance" in cloud.run("doctor", check=False).stdout


def by_password(address: str) -> str:
    """Who the guest says it is to somebody with the password only."""
    quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    how = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]
    done = subprocess.run(
        ["sshpass", "-p", PASSWORD, "ssh", *how, *quiet, f"cirros@{address}", "whoami"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip()
