"""A small machine room for network tests: hosts in namespaces, and guests that are namespaces with one interface."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kilonova.base.faults import Fault
from kilonova.network.contract import FixedIp, Rule, Segment, WantedGroup, WantedL2, WantedPort
from kilonova.node.vswitch import hosts, namespace
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.linux import LinuxVirtualSwitch
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("busybox"),
    reason="needs root, nftables and busybox",
)

ANY_OUT = (Rule("egress", "IPv4"), Rule("egress", "IPv6"))


def tcp(port: int, **more: str) -> Rule:
    return Rule("ingress", more.pop("ethertype", "IPv4"), "tcp", port, port, **more)  # type: ignore[arg-type]


def group(id_: str, *rules: Rule, members: tuple[str, ...] = (), stateful: bool = True) -> WantedGroup:
    return WantedGroup(id_, stateful, ANY_OUT + rules, members)


@dataclass
class Guest:
    """A namespace that plays a guest: one interface `eth0` on its port."""

    port: WantedPort
    threads: NamespaceThreads
    serving: list[socket.socket] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.threads.name

    @property
    def ip(self) -> str:
        return self.port.fixed_ips[0].address

    def shell(self, *command: str, seconds: float = 10.0) -> subprocess.CompletedProcess[str]:
        argv = ["nsenter", f"--net=/run/netns/{self.name}", *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)

    def pings(self, address: str) -> bool:
        return self.shell("ping", "-c1", "-W1", "-n", address).returncode == 0

    async def serve(self, port: int, address: str = "0.0.0.0") -> None:
        """Accept TCP connections and echo what comes."""

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(4096):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        listener = await self.threads.listen(address, port)
        await asyncio.start_server(echo, sock=listener)

    async def reaches(self, address: str, port: int, seconds: float = 0.7) -> bool:
        try:
            _, writer = await self.threads.connect(address, port, timeout_seconds=seconds)
        except Fault:
            return False
        writer.close()
        return True

    async def send_frame(self, frame: bytes) -> None:
        """Put any frame on the wire, as a guest's root can."""

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind(("eth0", 0))
                raw.send(frame)

        await self.threads.run(send)

    async def hears(self, needle: bytes, sending: asyncio.Future[None] | object, seconds: float = 0.5) -> bool:
        """Whether a frame holding `needle` arrives within `seconds` of `sending` being awaited."""

        def open_ear() -> socket.socket:
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            ear.bind(("eth0", 0))
            ear.setblocking(False)
            return ear

        ear = await self.threads.run(open_ear)
        loop = asyncio.get_running_loop()
        try:
            await sending  # type: ignore[misc]
            async with asyncio.timeout(seconds):
                while needle not in await loop.sock_recv(ear, 2048):
                    pass
            return True
        except TimeoutError:
            return False
        finally:
            ear.close()


class MachineRoom:
    """Hosts of one cloud, each with a switch; guests plugged into them. Everything goes when it closes."""

    def __init__(self) -> None:
        self.prefix = f"z{secrets.token_hex(2)[:3]}"
        self.hosts: list[NamespaceThreads] = []
        self.switches: list[LinuxVirtualSwitch] = []
        self.guests: list[Guest] = []
        self.ports: list[dict[str, WantedPort]] = []
        self.groups: dict[str, WantedGroup] = {}

    async def add_hosts(self, count: int, physical: dict[str, str] | None = None) -> None:
        named = {hosts.host_namespace(self.prefix, n + 1): f"10.255.0.{n + 1}/24" for n in range(count)}
        await asyncio.to_thread(hosts.connect, self.prefix, named)
        for n, name in enumerate(named):
            threads = NamespaceThreads(name)
            self.hosts.append(threads)
            self.switches.append(self.new_switch(n, physical))
            self.ports.append({})

    def new_switch(self, host: int, physical: dict[str, str] | None = None) -> LinuxVirtualSwitch:
        threads = self.hosts[host]
        names = Names(self.prefix, threads.name)
        return LinuxVirtualSwitch(threads, names, tunnel_ip=f"10.255.0.{host + 1}", physical=physical)

    async def add_guest(self, host: int, port: WantedPort, *, static: bool = True) -> Guest:
        """A guest on its (not yet applied) port, with its addresses set by hand when `static`."""
        name = f"{self.prefix}g{len(self.guests) + 1}"
        namespace.create(name)
        tap = self.switches[host].tap_name(port.id)

        def plug() -> None:
            with Links() as links:
                links.veth(tap, f"{self.prefix}tmp")
                links.move(f"{self.prefix}tmp", name)

        def configure() -> None:
            with Links() as links:
                index = links.need(f"{self.prefix}tmp").index
                links._route.link("set", index=index, ifname="eth0", address=port.mac)
                links.shape("eth0", mtu=port.mtu)
                if static:
                    lengths = [f"{ip.address}/{ip.cidr.split('/')[1]}" for ip in port.fixed_ips]
                    links.addresses("eth0", lengths)
                    gateways = [ip.gateway for ip in port.fixed_ips if ip.gateway and ":" not in ip.gateway]
                    links.routes([("0.0.0.0/0", gateway) for gateway in gateways])

        await self.hosts[host].run(plug)
        threads = NamespaceThreads(name, threads=2)
        await threads.run(configure)
        guest = Guest(port, threads)
        self.guests.append(guest)
        return guest

    async def apply(
        self, host: int, *ports: WantedPort, full: bool = False, **more: object
    ) -> tuple[list[str], list[str]]:
        """Apply these ports with all groups of the room."""
        wanted = WantedL2(ports=ports, groups=tuple(self.groups.values()), full=full, **more)  # type: ignore[arg-type]
        return await self.switches[host].apply(wanted)

    def explain(self, address: str) -> str:
        """What the machine and the room's namespaces do with packets for `address`, for a failure's message."""
        parts = []
        for name in ["", *namespace.names(self.prefix)]:
            inside = ["nsenter", f"--net=/run/netns/{name}"] if name else []
            parts.append(f"== {name or 'root'}")
            looks = [f"ip route get {address}", "ip route", "ip neigh show", "ip -br address"]
            for command in [*looks, "nft list ruleset"] if name else looks:
                told = subprocess.run([*inside, *command.split()], capture_output=True, text=True, check=False)
                parts.append(f"$ {command}\n{told.stdout}{told.stderr}")
        threads = Path("/proc/self/task").glob("*/ns/net")
        parts.append("threads' namespaces: " + ", ".join(sorted({os.readlink(path) for path in threads})))
        return "\n".join(parts)

    async def close(self) -> None:
        for threads in [*self.hosts, *(guest.threads for guest in self.guests)]:
            threads.close()
        await asyncio.to_thread(hosts.purge, self.prefix)


def new_port(
    number: int, ips: tuple[str, ...] = (), *, groups: tuple[str, ...] = ("default",), vni: int = 4001, **more: object
) -> WantedPort:
    """A guest's port number N: 10.66.0.N and fd00:66::N unless told otherwise."""
    addresses = ips or (f"10.66.0.{number}", f"fd00:66::{number:x}")
    return WantedPort(
        id=f"{number:08x}-0000-4000-8000-{vni:012x}",
        network_id=f"{vni:08x}-1111-4000-8000-000000000000",
        mac=f"fa:16:3e:{vni & 0xFF:02x}:00:{number:02x}",
        segment=Segment("vxlan", vni),
        mtu=1450,
        fixed_ips=tuple(
            FixedIp(a, "s6", "fd00:66::/64") if ":" in a else FixedIp(a, "s4", f"{a.rsplit('.', 1)[0]}.0/24")
            for a in addresses
        ),
        device_id=f"server-{number}",
        device_owner="compute:nova",
        security_groups=groups,
        **more,  # type: ignore[arg-type]
    )
