"""A member of a project on a cluster of machines: a network with a way out, servers, floating IPs, a way in by ssh."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.machines import Machines


def make_key(cloud: Machines) -> None:
    """The member's key pair `first`, in `first.key`."""
    key = cloud.sdk("demo").compute.create_keypair(name="first")
    file = cloud.directory / "first.key"
    file.write_text(key.private_key)
    file.chmod(0o600)


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


def wait_for_hosts(cloud: Machines) -> None:
    """Every host may be scheduled to."""
    admin, hosts = cloud.sdk("admin"), len(cloud.land.computes)
    wait("the hosts", 60, lambda: len(list(admin.compute.services(binary="nova-compute"))) == hosts)


def boot(cloud: Machines, network_id: str, group_id: str, host: str) -> Any:
    """A server with the member's key on the member's network, on a host that only an admin may name."""
    member, admin = cloud.sdk("demo"), cloud.sdk("admin")
    image, flavor = member.image.find_image("cirros"), member.compute.find_flavor("tiny")
    others = [one for one in admin.compute.services(binary="nova-compute") if one.host != host]
    for one in others:
        admin.compute.disable_service(one)
    port = member.network.create_port(network_id=network_id, security_group_ids=[group_id])
    made = member.compute.create_server(
        name=f"on-{host}", image_id=image.id, flavor_id=flavor.id, networks=[{"port": port.id}], key_name="first"
    )
    server = member.compute.wait_for_server(made, interval=1, wait=240)
    for one in others:
        admin.compute.enable_service(one)
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


def wait(what: str, seconds: float, look: Callable[[], Any], every_seconds: float = 1.0) -> Any:
    """What `look` answers once it is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(every_seconds)
    return found
