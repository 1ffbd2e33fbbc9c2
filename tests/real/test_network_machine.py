"""A whole host's network put together, left by its process, taken away by another; and the way out by an uplink."""

from __future__ import annotations

import os
import secrets

import pytest
from msgspec.structs import replace

from kilonova.base.faults import Fault
from kilonova.base.world import LiveWorld
from kilonova.network.contract import WantedDhcp, WantedL2, WantedSubnet
from kilonova.node.vswitch import dhcp, hosts, namespace
from kilonova.node.vswitch.external import Uplink, connect_root
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.machine import HostNetwork, host_of_machine, left_behind, purge, run_directory
from kilonova.node.vswitch.metadata_proxy import MetadataAnswer, MetadataRequest

from .wires import needs_root, new_port

pytestmark = [pytest.mark.root, needs_root]
NET = f"198.19.{os.getpid() % 250}"  # another run of these tests on this machine has another range
RANGE = f"{NET}.0/24"


async def nobody(_: MetadataRequest) -> MetadataAnswer:
    return MetadataAnswer(404)


async def test_what_a_dead_process_left_is_purged_by_another() -> None:
    prefix, world = f"z{secrets.token_hex(2)[:3]}", LiveWorld("test")
    place = host_of_machine(prefix, 1, "10.255.1.1")
    try:
        await world.blocking(hosts.connect, prefix, {place.namespace: "10.255.1.1/24"})
        await world.blocking(connect_root, prefix, place.namespace, RANGE, f"{NET}.1")
        network = HostNetwork(world, place, nobody, "secret")
        port = replace(new_port(2), device_owner="network:dhcp", port_security=False)
        subnet = WantedSubnet("s4", "10.66.0.0/24", "10.66.0.1", True)
        await network.switch.apply(WantedL2(ports=(port, new_port(11)), full=True))
        await network.dhcp.apply([WantedDhcp(port.network_id, port, (subnet,), ())], [], full=True)
        await network.close()
        (home,) = (run_directory(prefix) / place.namespace).iterdir()
        assert dhcp.running(home), "it goes on without its process"
        assert any(line.startswith("DHCP server") for line in left_behind(prefix))
    finally:
        await purge(world, prefix, RANGE)
    assert left_behind(prefix) == []
    assert not run_directory(prefix).exists()
    await world.blocking(_assert_no_links, prefix)
    await world.close()


def _assert_no_links(prefix: str) -> None:
    with Links() as links:
        assert links.all(prefix) == {}


async def test_an_uplink_leads_out_under_an_address_of_its_own() -> None:
    prefix, world = f"z{secrets.token_hex(2)[:3]}", LiveWorld("test")
    host, outside = hosts.host_namespace(prefix, 1), f"{prefix}o"
    try:
        await world.blocking(hosts.connect, prefix, {host: "10.255.1.1/24"})
        await world.blocking(_wire, prefix, outside)
        with pytest.raises(Fault, match="needs an address"):
            await world.blocking(connect_root, prefix, host, RANGE, f"{NET}.1", f"{prefix}w0")
        uplink = Uplink(f"{prefix}w0", "203.0.113.9/24", "203.0.113.1")
        for _ in range(2):
            await world.blocking(connect_root, prefix, host, RANGE, f"{NET}.1", uplink)
        await world.blocking(_guestlike, prefix, host)
        assert await world.blocking(_pings, host, "203.0.113.1")
    finally:
        await purge(world, prefix, RANGE)
        await world.close()


def _wire(prefix: str, outside: str) -> None:
    """An interface of the machine, with a network behind it."""
    namespace.create(outside)
    with Links() as links:
        links.veth(f"{prefix}w0", f"{prefix}w1")
        links.move(f"{prefix}w1", outside)
        links.shape(f"{prefix}w0")
    with namespace.visiting(outside), Links() as links:
        links.shape(f"{prefix}w1")
        links.addresses(f"{prefix}w1", ["203.0.113.1/24"])


def _guestlike(prefix: str, host: str) -> None:
    """An address on the external bridge, in place of a router's gateway leg."""
    with namespace.visiting(host), Links() as links:
        links.addresses(f"{prefix}ex", [f"{NET}.20/24"])
        links.routes([("0.0.0.0/0", f"{NET}.1")])


def _pings(name: str, address: str) -> bool:
    with namespace.visiting(name):
        return os.spawnvp(os.P_WAIT, "ping", ["ping", "-c1", "-W2", "-q", address]) == 0
