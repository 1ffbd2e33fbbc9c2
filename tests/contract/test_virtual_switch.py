"""What every VirtualSwitch, DhcpServers and Routers does, fake or real."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from kilonova.base.world import LiveWorld
from kilonova.network import contract
from kilonova.network.contract import Rule, Segment, Vtep, WantedDhcp, WantedGroup, WantedL2, WantedPort, WantedRouter
from kilonova.node.vswitch import hosts, namespace
from kilonova.node.vswitch.dhcp import LinuxDhcpServers
from kilonova.node.vswitch.fake import FakeDhcpServers, FakeRouters, FakeVirtualSwitch
from kilonova.node.vswitch.linux import LinuxVirtualSwitch
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads
from kilonova.node.vswitch.router import LinuxRouters
from tests.real.wires import needs_root, new_port

Ports = tuple[contract.VirtualSwitch, contract.DhcpServers, contract.Routers]

GROUP = WantedGroup("default", True, (Rule("egress", "IPv4"), Rule("ingress", "IPv4", "tcp", 22, 22)), ("10.66.0.11",))


@pytest.fixture(params=["fake", pytest.param("linux", marks=[pytest.mark.root, needs_root])])
async def ports(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    if request.param == "fake":
        yield FakeVirtualSwitch(), FakeDhcpServers(), FakeRouters()
        return
    prefix, world = f"z{secrets.token_hex(2)[:3]}", LiveWorld("test")
    host = hosts.host_namespace(prefix, 1)
    await world.blocking(hosts.connect, prefix, {host: "10.255.0.1/24"})
    threads, names = NamespaceThreads(host), Names(prefix, host)
    switch = LinuxVirtualSwitch(threads, names, tunnel_ip="10.255.0.1", tap_owner=65534)
    servers = LinuxDhcpServers(world, threads, names, switch, Path("/run") / f"kilonova-test-{prefix}")
    routers = LinuxRouters(world, threads, names, switch)
    try:
        yield switch, servers, routers
        for port in (servers, routers, switch):
            await port.purge()
        assert namespace.names(prefix) == [host, f"{prefix}u"], "purge leaves a namespace"
    finally:
        threads.close()
        await world.blocking(hosts.purge, prefix)
        await world.close()


def test_tap_names_fit_and_differ(ports: Ports) -> None:
    names = {ports[0].tap_name(new_port(n).id) for n in range(1, 100)}
    assert len(names) == 99
    assert max(map(len, names)) <= 15


async def test_ports_come_up_again_and_again(ports: Ports) -> None:
    switch = ports[0]
    a, b = new_port(11), new_port(12)
    for _ in range(2):
        up, gone = await switch.apply(WantedL2(ports=(a, b), groups=(GROUP,), full=True))
        assert (sorted(up), gone) == (sorted([a.id, b.id]), [])
    c = new_port(13)
    vtep = Vtep(c.network_id, c.segment, "10.255.0.9", ("fa:16:3e:00:99:99",))
    up, gone = await switch.apply(WantedL2(ports=(c,), gone_ports=(b.id,), vteps=(vtep,)))
    assert (up, gone) == ([c.id], [b.id])
    up, gone = await switch.apply(WantedL2(ports=(c,), groups=(GROUP,), full=True))
    assert (up, gone) == ([c.id], [a.id])


async def test_a_port_that_is_down_is_told_so(ports: Ports) -> None:
    port = new_port(11, admin_state_up=False)
    assert await ports[0].apply(WantedL2(ports=(port,), groups=(GROUP,))) == ([], [port.id])
    up, _ = await ports[0].apply(WantedL2(ports=(replace(port, admin_state_up=True),)))
    assert up == [port.id]


async def test_gone_before_it_was_there_is_fine(ports: Ports) -> None:
    assert await ports[0].apply(WantedL2(gone_ports=(new_port(11).id,))) == ([], [new_port(11).id])


async def test_dhcp_and_routers_come_and_go(ports: Ports) -> None:
    switch, servers, routers = ports
    port = replace(new_port(2), device_owner="network:dhcp", port_security=False, security_groups=())
    server = WantedDhcp(port.network_id, port, (), ())
    leg = replace(new_port(1), device_owner="network:router_interface", port_security=False, security_groups=())
    router = WantedRouter("router-1", True, (contract.RouterInterface(leg, ("10.66.0.1/24",)),))
    up, _ = await switch.apply(WantedL2(ports=(port, leg), full=True))
    assert sorted(up) == sorted([port.id, leg.id])
    for full in (True, False):
        await servers.apply([server], [], full=full)
        await routers.apply([router], [], full=full)
    await servers.apply([], [port.network_id, "never-seen"], full=False)
    await routers.apply([], [], full=True)


@pytest.mark.root
@needs_root
async def test_a_port_that_cannot_be_built_harms_no_other() -> None:
    prefix, world = f"z{secrets.token_hex(2)[:3]}", LiveWorld("test")
    host = hosts.host_namespace(prefix, 1)
    await world.blocking(hosts.connect, prefix, {host: "10.255.0.1/24"})
    threads = NamespaceThreads(host)
    switch = LinuxVirtualSwitch(threads, Names(prefix, host), tunnel_ip="10.255.0.1")
    try:
        nowhere: WantedPort = replace(new_port(12, vni=7), segment=Segment("flat", 0, "nowhere"))
        up, _ = await switch.apply(WantedL2(ports=(new_port(11), nowhere), groups=(GROUP,), full=True))
        assert up == [new_port(11).id]
    finally:
        threads.close()
        await world.blocking(hosts.purge, prefix)
        await world.close()
