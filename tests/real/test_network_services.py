"""DHCP, routers, floating IPs and metadata as a guest and the machine see them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from kilonova.base.faults import Fault
from kilonova.base.world import LiveWorld
from kilonova.network.contract import (
    DhcpHost,
    FixedIp,
    FloatingIp,
    RouterGateway,
    RouterInterface,
    Segment,
    WantedDhcp,
    WantedPort,
    WantedRouter,
    WantedSubnet,
)
from kilonova.node.vswitch import dhcp, namespace
from kilonova.node.vswitch.dhcp import LinuxDhcpServers
from kilonova.node.vswitch.external import connect_root, disconnect_root, external_bridge
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.metadata_proxy import MetadataAnswer, MetadataProxy, MetadataRequest, sign
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.router import LinuxRouters

from .wires import Guest, MachineRoom, group, needs_root, new_port, tcp

pytestmark = [pytest.mark.root, needs_root]

NET = f"198.18.{os.getpid() % 250}"  # another run of these tests on this machine has another range
EXTERNAL, GATEWAY, ROUTER_IP, FLOATING, FLOATING_2 = (
    f"{NET}.0/24",
    f"{NET}.1",
    f"{NET}.10",
    f"{NET}.50",
    f"{NET}.51",
)
SECRET = "only the proxy and the metadata API know"
ROUTER, NETWORK = "aaaa0000-0000-4000-8000-000000000001", new_port(1).network_id


@dataclass
class Services:
    """A host with DHCP, routers and a metadata API that tells what it was asked."""

    room: MachineRoom
    world: LiveWorld
    dhcp: LinuxDhcpServers
    routers: LinuxRouters
    proxy: MetadataProxy
    asked: list[MetadataRequest]
    directory: Path


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    room, world, asked = MachineRoom(), LiveWorld("test"), []

    async def metadata_api(request: MetadataRequest) -> MetadataAnswer:
        asked.append(request)
        return MetadataAnswer(200, [("Content-Type", "text/plain")], b"i-am-metadata")

    async def find(network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
        known = (network_id or router_id) in (NETWORK, ROUTER) and ip == "10.66.0.11"
        return ("server-11", "project-1") if known else None

    directory = Path("/run") / f"kilonova-test-{room.prefix}"
    try:
        await room.add_hosts(1, {"public": external_bridge(room.prefix)})
        room.groups = {"default": group("default", tcp(22), tcp(68))}
        names = Names(room.prefix, room.hosts[0].name)
        proxy = MetadataProxy(metadata_api, SECRET, find)
        switch, threads = room.switches[0], room.hosts[0]
        servers = LinuxDhcpServers(world, threads, names, switch, directory, proxy)
        routers = LinuxRouters(world, threads, names, switch, proxy)
        yield Services(room, world, servers, routers, proxy, asked, directory)
        await servers.purge()
        await routers.purge()
        await proxy.close()
    finally:
        await world.blocking(disconnect_root, room.prefix, EXTERNAL)
        await room.close()
        await world.close()


def leg(number: int, owner: str, ips: tuple[str, ...] = ()) -> WantedPort:
    return WantedPort(**{**_fields(new_port(number, ips)), "device_owner": owner, "port_security": False})


def _fields(port: WantedPort) -> dict[str, object]:
    return {name: getattr(port, name) for name in port.__struct_fields__}


def wanted_dhcp(*guests: WantedPort) -> WantedDhcp:
    v4 = WantedSubnet("s4", "10.66.0.0/24", "10.66.0.1", True, ("9.9.9.9",), (("10.77.0.0/16", "10.66.0.9"),))
    v6 = WantedSubnet("s6", "fd00:66::/64", "fd00:66::1", True, (), (), "dhcpv6-stateful", "dhcpv6-stateful")
    hosts = [DhcpHost(p.id, p.mac, tuple(f.address for f in p.fixed_ips), f"host-{p.mac[-2:]}") for p in guests]
    return WantedDhcp(NETWORK, leg(2, "network:dhcp"), (v4, v6), tuple(hosts))


async def lease(guest: Guest, tmp_path: Path) -> dict[str, str]:
    """What busybox's DHCP client is given; empty when nobody answers."""
    script, told = tmp_path / "told.sh", tmp_path / "told"
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] && env > {told}\nexit 0\n')
    script.chmod(0o755)
    told.unlink(missing_ok=True)
    command = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1", "-s", str(script)]
    await asyncio.to_thread(guest.shell, *command, "-O", "staticroutes", "-O", "mtu", "-O", "ntpsrv")
    lines = told.read_text().splitlines() if told.exists() else []
    return dict(line.partition("=")[::2] for line in lines)


async def test_dhcp_leases_and_an_added_host_after_reload(services: Services, tmp_path: Path) -> None:
    room, a, b = services.room, new_port(11), new_port(12)
    guests = [await room.add_guest(0, port, static=False) for port in (a, b)]
    await room.apply(0, a, b, leg(2, "network:dhcp"), full=True)
    await services.dhcp.apply([wanted_dhcp(a)], [], full=True)
    told = await lease(guests[0], tmp_path)
    assert told.get("ip") == "10.66.0.11"
    assert told["dns"] == "9.9.9.9"
    assert told["mtu"] == "1450"
    assert told["staticroutes"] == "10.77.0.0/16 10.66.0.9 169.254.169.254/32 10.66.0.2 0.0.0.0/0 10.66.0.1"
    assert await lease(guests[1], tmp_path) == {}, "a stranger gets no lease"

    home = next(services.directory.iterdir())
    pid = dhcp.running(home)
    await services.dhcp.apply([wanted_dhcp(a, b)], [], full=False)
    assert (await lease(guests[1], tmp_path)).get("ip") == "10.66.0.12"
    assert dhcp.running(home) == pid, "an added host needs no restart"
    assert os.getsid(pid) != os.getsid(0), "a server that shares our session would die with us"

    options = tuple(replace(host, options=(("ntp-server", "10.66.0.7"),)) for host in wanted_dhcp(a, b).hosts)
    await services.dhcp.apply([replace(wanted_dhcp(), hosts=options)], [], full=False)
    assert (await lease(guests[0], tmp_path)).get("ntpsrv") == "10.66.0.7", "a port's own option"
    await services.dhcp.apply([wanted_dhcp(a, b)], [], full=False)
    assert "ntpsrv" not in await lease(guests[0], tmp_path)

    await services.dhcp.apply([], [NETWORK], full=False)
    assert dhcp.running(home) == 0
    assert await lease(guests[0], tmp_path) == {}


async def test_dhcp_is_adopted_and_repaired(services: Services, tmp_path: Path) -> None:
    room, a = services.room, new_port(11)
    guest = await room.add_guest(0, a, static=False)
    await room.apply(0, a, leg(2, "network:dhcp"), full=True)
    await services.dhcp.apply([wanted_dhcp(a)], [], full=True)
    home = next(services.directory.iterdir())
    pid = dhcp.running(home)
    names = Names(room.prefix, room.hosts[0].name)
    again = LinuxDhcpServers(services.world, room.hosts[0], names, room.new_switch(0), services.directory)
    await again.apply([wanted_dhcp(a)], [], full=True)
    assert dhcp.running(home) == pid
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    await again.apply([wanted_dhcp(a)], [], full=True)
    assert dhcp.running(home) not in (0, pid)
    assert (await lease(guest, tmp_path)).get("ip") == "10.66.0.11"


async def get(guest: Guest, *headers: str) -> bytes:
    reader, writer = await guest.threads.connect("169.254.169.254", 80)
    head = ["GET /latest/meta-data/?a=1 HTTP/1.1", "Host: 169.254.169.254", *headers, "", ""]
    writer.write("\r\n".join(head).encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


def wanted_router(*floating: FloatingIp, guests: int = 0) -> WantedRouter:
    segment = Segment("flat", 0, "public")
    external = FixedIp(ROUTER_IP, "ext", EXTERNAL, GATEWAY)
    fields = {**_fields(leg(200, "network:router_gateway")), "segment": segment, "mtu": 1500, "fixed_ips": (external,)}
    gateway = WantedPort(**{**fields, "network_id": "eeee0000-0000-4000-8000-000000000000"})
    inside = RouterInterface(leg(1, "network:router_interface"), ("10.66.0.1/24", "fd00:66::1/64"), advertise=True)
    return WantedRouter(
        ROUTER, True, (inside,), RouterGateway(gateway, (f"{ROUTER_IP}/24",), (GATEWAY,)), tuple(floating)
    )


async def routed_guests(services: Services) -> tuple[Guest, Guest]:
    """Two guests behind a router with a gateway; the machine is joined to the external network."""
    room = services.room
    prefix = room.prefix
    await services.world.blocking(connect_root, prefix, room.hosts[0].name, EXTERNAL, GATEWAY)
    ports = [with_gateway(new_port(n)) for n in (11, 12)]
    guests = [await room.add_guest(0, port) for port in ports]
    router = wanted_router()
    assert router.gateway
    await room.apply(0, *ports, router.interfaces[0].port, router.gateway.port, full=True)
    await services.routers.apply([router], [], full=True)
    return guests[0], guests[1]


def with_gateway(port: WantedPort) -> WantedPort:
    ips = tuple(
        FixedIp(f.address, f.subnet_id, f.cidr, "" if ":" in f.address else "10.66.0.1") for f in port.fixed_ips
    )
    return WantedPort(**{**_fields(port), "fixed_ips": ips})


async def test_metadata_through_the_router_says_which_server_asked(services: Services) -> None:
    a, b = await routed_guests(services)
    answer = await get(a, "X-Instance-ID: somebody-else", "X-Forwarded-For: 1.2.3.4", "X-Mine: kept")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"i-am-metadata")
    (request,) = services.asked
    assert (request.method, request.path) == ("GET", "/latest/meta-data/?a=1")
    sent = dict(request.headers)
    assert sent["X-Instance-ID"] == "server-11"
    assert sent["X-Tenant-ID"] == "project-1"
    assert sent["X-Instance-ID-Signature"] == sign(SECRET, "server-11")
    assert sent["X-Forwarded-For"] == "10.66.0.11"
    assert sent["X-Mine"] == "kept"
    assert "somebody-else" not in sent.values()
    assert (await get(b)).startswith(b"HTTP/1.1 404"), "nobody knows this guest"


async def test_guests_learn_their_ipv6_router_from_it(services: Services) -> None:
    a, _ = await routed_guests(services)
    router = "via fe80::f816:3eff:fea1:1 "
    async with asyncio.timeout(10):
        while router not in (routes := a.shell("ip", "-6", "route", "show", "default").stdout):
            a.shell("sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
            await services.routers.advertiser.close()
            await services.routers.apply([wanted_router()], [], full=False)
            await asyncio.sleep(0.2)
    assert "proto ra" in routes
    assert a.pings("fd00:66::1")


async def test_floating_ip_from_the_machine_and_between_guests(services: Services) -> None:
    a, b = await routed_guests(services)
    await a.serve(22)
    await a.serve(80)
    await services.routers.apply([wanted_router(FloatingIp("f1", FLOATING, a.ip))], [], full=False)

    async def machine_reaches(port: int, *, tries: int = 1) -> bool:
        for _ in range(tries):
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(FLOATING, port), 2)
            except (TimeoutError, OSError):
                continue
            writer.close()
            return True
        return False

    assert await machine_reaches(22, tries=5), services.room.explain(FLOATING)  # ARP may take its time
    assert not await machine_reaches(80), f"the group opens no port 80\n{services.room.explain(FLOATING)}"
    assert await b.reaches(FLOATING, 22), "a neighbour uses the floating address too"
    reader, writer = await asyncio.open_connection(FLOATING, 22)
    more = (FloatingIp("f1", FLOATING, a.ip), FloatingIp("f2", FLOATING_2, b.ip))
    await services.routers.apply([wanted_router(*more)], [], full=False)
    writer.write(b"still")
    assert await asyncio.wait_for(reader.read(5), 2) == b"still", "another floating address disturbs nobody"
    await services.routers.apply([wanted_router()], [], full=True)
    assert not await machine_reaches(22)
    writer.write(b"gone")
    with pytest.raises((TimeoutError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(4), 1)
    writer.close()


async def test_guests_go_out_under_the_routers_address_and_do_not_reach_the_machine(services: Services) -> None:
    a, _ = await routed_guests(services)
    outside = f"{services.room.prefix}o1"
    namespace.create(outside)
    outer = new_port(90, (GATEWAY,))
    assert a.pings(GATEWAY), "the external network's gateway answers"
    threads = services.room.hosts[0]

    def plug() -> None:
        with Links() as links:
            links.veth(f"{services.room.prefix}ov", f"{services.room.prefix}oi")
            links.move(f"{services.room.prefix}oi", outside)
            links.shape(f"{services.room.prefix}ov", master=external_bridge(services.room.prefix))

    def address() -> None:
        with Links() as links:
            links.shape(f"{services.room.prefix}oi")
            links.addresses(f"{services.room.prefix}oi", [f"{NET}.99/24"])

    await threads.run(plug)
    await threads.run_in(outside, address)
    listener = await threads.listen(f"{NET}.99", 22, namespace=outside)
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not seen.done():
            seen.set_result(writer.get_extra_info("peername")[0])
        writer.close()

    await asyncio.start_server(note, sock=listener)
    assert await a.reaches(f"{NET}.99", 22, 2.0)
    assert await asyncio.wait_for(seen, 2) == ROUTER_IP

    root_ip = f"{outer.id and await services.world.blocking(_root_address, services.room.prefix)}"
    server = await asyncio.start_server(note, root_ip, 0)
    port = server.sockets[0].getsockname()[1]
    assert not await a.reaches(root_ip, port, 0.7)
    server.close()


def _root_address(prefix: str) -> str:
    from kilonova.node.vswitch.names import link_addresses

    return link_addresses(prefix)[0]


async def test_the_root_namespace_gets_one_interface_and_one_route_and_loses_both(services: Services) -> None:
    prefix = services.room.prefix

    async def root(*command: str) -> str:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode()

    before = await root("nft", "list", "ruleset"), await root("sysctl", "-a", "--pattern", "forward|rp_filter$")
    for _ in range(2):
        await services.world.blocking(connect_root, prefix, services.room.hosts[0].name, EXTERNAL, GATEWAY)
    assert [line for line in (await root("ip", "-br", "link")).splitlines() if line.startswith(prefix)] != []
    routes = [line for line in (await root("ip", "route")).splitlines() if EXTERNAL in line]
    assert len(routes) == 1
    assert "unreachable" not in routes[0]
    assert f"dev {prefix}rt" in routes[0]
    await services.world.blocking(disconnect_root, prefix, EXTERNAL)
    assert EXTERNAL not in await root("ip", "route")
    assert prefix not in await root("ip", "-br", "link")
    sysctls = await root("sysctl", "-a", "--pattern", "forward|rp_filter$")
    assert (await root("nft", "list", "ruleset"), sysctls) == before


async def test_a_range_that_leads_to_another_cloud_is_neither_taken_nor_taken_away(services: Services) -> None:
    host, other = services.room.hosts[0].name, f"y{services.room.prefix[1:]}"
    await services.world.blocking(connect_root, services.room.prefix, host, EXTERNAL, GATEWAY)
    with pytest.raises(Fault, match=f"through {services.room.prefix}rt"):
        await services.world.blocking(connect_root, other, host, EXTERNAL, GATEWAY)
    await services.world.blocking(disconnect_root, other, EXTERNAL)

    def left() -> tuple[str | None, list[str]]:
        with Links() as links:
            return links.leads(EXTERNAL), list(links.all(other))

    assert await services.world.blocking(left) == (f"{services.room.prefix}rt", [])
