"""Two compute hosts on one machine: guests on both, one network over VXLAN, filtered by their group on both sides."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from tests.real import cloud_rig
from tests.real.cloud_rig import Cloud

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.full,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]


def ssh(cloud: Cloud, address: str, command: str) -> subprocess.CompletedProcess[str]:
    quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    line = ["ssh", "-i", str(cloud.directory / "first.key"), "-o", "ConnectTimeout=5", *quiet, f"cirros@{address}"]
    return subprocess.run([*line, command], capture_output=True, text=True, check=False, timeout=60)


def test_guests_on_two_hosts_reach_each_other() -> None:
    with cloud_rig.real_cloud("--hosts", "2") as cloud:
        address = cloud.run("first-server").stdout.split("floating IP ", 1)[1].split()[0]
        admin = cloud.sdk("kilonova-admin")
        member = cloud.sdk()
        here = admin.compute.get_server(member.compute.find_server("first").id).hypervisor_hostname
        there = {"node1": "node2", "node2": "node1"}[here]
        network = member.network.find_network("first")
        far = boot_as_member_on(admin, member, there, network.id)
        fixed = far.addresses["first"][0]["addr"]
        deadline = time.monotonic() + 60
        while (ping := ssh(cloud, address, f"ping -c 2 -W 2 {fixed}")).returncode:
            assert time.monotonic() < deadline, ping.stdout + ping.stderr
            time.sleep(1)
        assert " 0% packet loss" in ping.stdout
        closed = ssh(cloud, address, f"nc -w 3 {fixed} 23 < /dev/null")
        assert closed.returncode != 0, "a port that no rule opens must not answer"


def boot_as_member_on(admin: Any, member: Any, host: str, network_id: str) -> Any:
    """A member's server on a chosen host: the admin may name one, so it makes the server on the member's port."""
    group = member.network.find_security_group("first")
    port = member.network.create_port(network_id=network_id, security_group_ids=[group.id])
    image = admin.image.find_image("cirros")
    made = admin.compute.create_server(
        name="far", image_id=image.id, flavor_id="1", networks=[{"port": port.id}], availability_zone=f"nova:{host}"
    )
    server = admin.compute.wait_for_server(made, wait=180)
    assert server.hypervisor_hostname == host
    return server
