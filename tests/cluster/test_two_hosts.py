"""A cluster of machines with real guests: two hosts, DHCP, metadata, floating IPs, everything through HAProxy."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.__main__ import guest
from tests.cluster.machines import Machines, Shape, machines
from tests.real import cloud_rig

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.cluster,
    pytest.mark.full,
    pytest.mark.skipif(bool(cloud_rig.missing()), reason=f"needs a machine for real clouds: {cloud_rig.missing()}"),
]
QUEUES = {
    *("conductor", "scheduler", "scheduler.ctl1", "compute", "compute.node1", "compute.node2"),
    *("q-plugin", "q-plugin.ctl1", "l2_agent.node1", "l2_agent.net1", "l3_agent.net1", "dhcp_agent.net1"),
    *("cinder-scheduler", "cinder-volume", "cinder-volume.net1@files", "trace"),
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Machines]:
    with machines(Shape(real=True, hosts=2, copies=1)) as made:
        made.furnish(*guest(made.directory, real=True))
        yield made


def test_servers_on_two_hosts_reach_each_other_and_are_reached(cloud: Machines) -> None:
    member, admin = cloud.sdk("demo"), cloud.sdk("admin")
    wait("two hosts", 60, lambda: len([one for one in admin.compute.services() if one.binary == "nova-compute"]) == 2)
    key = member.compute.create_keypair(name="first")
    (cloud.directory / "first.key").write_text(key.private_key)
    (cloud.directory / "first.key").chmod(0o600)
    network, group = furnish_project(member)
    near, far = (boot(member, admin, network.id, group.id, host) for host in ("node1", "node2"))
    floating = associate(member, near)
    wait("ssh from outside", 150, lambda: ssh(cloud, floating, "true").returncode == 0)
    fixed = far.addresses["private"][0]["addr"]
    wait("a ping from host to host", 90, lambda: ssh(cloud, floating, f"ping -c 2 -W 2 {fixed}").returncode == 0)
    told = ssh(
        cloud,
        floating,
        "curl -s -m 9 http://169.254.169.254/openstack/latest/meta_data.json || "
        "timeout 9 wget -qO- http://169.254.169.254/openstack/latest/meta_data.json",
    )
    assert json.loads(told.stdout)["uuid"] == near.id
    assert near.addresses["private"][0]["addr"] in ssh(cloud, floating, "ip address").stdout


def test_queues_have_the_names_that_operators_know(cloud: Machines) -> None:
    names = set(cloud.broker.queues())
    assert names >= QUEUES
    assert any(name.startswith("compute_fanout_") for name in names)
    assert any(name.startswith("reply_") for name in names)


def furnish_project(member: Any) -> tuple[Any, Any]:
    """A network with a router to the outside, and a group that lets ssh and ping in."""
    network = member.network.create_network(name="private")
    subnet = member.network.create_subnet(network_id=network.id, cidr="10.9.0.0/24", ip_version=4)
    public = member.network.find_network("public")
    router = member.network.create_router(name="edge", external_gateway_info={"network_id": public.id})
    member.network.add_interface_to_router(router, subnet_id=subnet.id)
    group = member.network.create_security_group(name="open")
    for protocol in ("tcp", "icmp"):
        member.network.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol=protocol)
    return network, group


def boot(member: Any, admin: Any, network_id: str, group_id: str, host: str) -> Any:
    """A server with the member's key on the member's network, on a host that only an admin may name."""
    image, flavor = member.image.find_image("cirros"), member.compute.find_flavor("tiny")
    for name in ("node1", "node2"):
        service = next(admin.compute.services(binary="nova-compute", host=name))
        change = admin.compute.enable_service if name == host else admin.compute.disable_service
        change(service)
    port = member.network.create_port(network_id=network_id, security_group_ids=[group_id])
    made = member.compute.create_server(
        name=f"on-{host}", image_id=image.id, flavor_id=flavor.id, networks=[{"port": port.id}], key_name="first"
    )
    server = member.compute.wait_for_server(made, interval=1, wait=240)
    assert admin.compute.get_server(server.id).hypervisor_hostname == host
    return server


def associate(member: Any, server: Any) -> str:
    """A floating IP of the server."""
    port = next(member.network.ports(device_id=server.id))
    public = member.network.find_network("public")
    return str(member.network.create_ip(floating_network_id=public.id, port_id=port.id).floating_ip_address)


def ssh(cloud: Machines, address: str, command: str) -> subprocess.CompletedProcess[str]:
    """A command in a guest, from the street."""
    quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    key = ["-i", str(cloud.directory / "first.key"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    line = cloud.land.street.inside("ssh", *key, *quiet, f"cirros@{address}", command)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def wait(what: str, seconds: float, look: Callable[[], Any]) -> Any:
    """What `look` answers once it is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(1)
    return found
