"""Guests reach the outside through a machine: a namespace plays the machine, another the internet. Never the real one.

internet 203.0.113.1 ──── machine 203.0.113.2 [cloud: edge, host] a guest's router 172.24.250.50
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from kilonova.node.vswitch import external, hosts, namespace, way_out
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.machine import left_behind

CIDR, GATEWAY, ROUTER = "172.24.250.0/24", "172.24.250.1", "172.24.250.50"
INTERNET, MACHINE = "203.0.113.1", "203.0.113.2"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not way_out.is_here(), reason="needs root and slirp4netns"),
]


def listen(place: str, address: str, stop: threading.Event, callers: list[str]) -> threading.Thread:
    """A server on port 8000 that says its place; it notes who called."""

    def serve() -> None:
        namespace.enter(place)
        with socket.create_server((address, 8000)) as server:
            server.settimeout(0.1)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    caller, (host, *_) = server.accept()
                    callers.append(host)
                    caller.sendall(place.encode())
                    caller.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@dataclass
class World:
    """A machine, and what it is connected to."""

    prefix: str
    machine: str
    internet: str
    callers: list[str] = field(default_factory=list)
    inside: ThreadPoolExecutor | None = None

    def on_machine(self, act: object, *args: object) -> object:
        """What `act` returns in the machine's own namespace."""
        assert self.inside is not None
        return self.inside.submit(act, *args).result(60)  # type: ignore[arg-type]

    def up(self) -> None:
        host = hosts.host_namespace(self.prefix, 1)
        self.on_machine(external.connect_root, self.prefix, host, CIDR, GATEWAY, external.through_machine())

    def reach(self, address: str) -> str:
        """What a guest's router hears from port 8000 there; "" when nothing answers."""
        with namespace.visiting(hosts.host_namespace(self.prefix, 1)):
            caller = socket.socket()
        caller.settimeout(3)
        with caller:
            try:
                caller.connect((address, 8000))
                return caller.recv(100).decode()
            except OSError:
                return ""


@pytest.fixture
def world() -> Iterator[World]:
    prefix = f"z{secrets.token_hex(2)[:3]}"
    made = World(prefix, f"m{prefix}", f"i{prefix}")
    for name in (made.machine, made.internet):
        namespace.create(name)
    made.inside = ThreadPoolExecutor(1, initializer=namespace.enter, initargs=(made.machine,))
    stop = threading.Event()
    try:
        made.on_machine(_wire, made)
        with namespace.visiting(made.internet), Links() as links:
            links.shape("in0")
            links.addresses("in0", [f"{INTERNET}/24"])
        servers = [listen(made.internet, INTERNET, stop, made.callers), listen(made.machine, "0.0.0.0", stop, [])]
        made.on_machine(hosts.connect, prefix, {hosts.host_namespace(prefix, 1): "10.255.0.1/24"})
        yield made
    finally:
        stop.set()
        for server in servers:
            server.join(10)
        made.on_machine(external.disconnect_root, prefix, CIDR)
        made.on_machine(hosts.purge, prefix)
        left = left_behind(prefix)
        made.inside.shutdown()
        for name in (made.machine, made.internet):
            namespace.delete(name)
        assert not left, left
        assert not (external.RUN / prefix).exists()


def _wire(world: World) -> None:
    with Links() as links:
        links.veth("out0", "in0")
        links.move("in0", world.internet)
        links.shape("out0")
        links.addresses("out0", [f"{MACHINE}/24"])


def plug_router(world: World) -> None:
    """What a router's gateway leg is: an address of the floating range, on the external network's bridge."""
    with namespace.visiting(hosts.host_namespace(world.prefix, 1)), Links() as links:
        bridge = external.external_bridge(world.prefix)
        links.addresses(bridge, [f"{ROUTER}/24"])
        links.routes([("0.0.0.0/0", GATEWAY)])


def test_guests_reach_the_outside_as_the_machine_and_not_the_machine(world: World) -> None:
    world.up()
    plug_router(world)
    assert world.reach(INTERNET) == world.internet
    assert world.callers == [MACHINE]
    root_end = external.link_addresses(world.prefix)[0]
    for closed in (MACHINE, way_out.GATEWAY, "127.0.0.1", root_end, "169.254.169.254"):
        assert world.reach(closed) == "", closed
    assert world.on_machine(_sysctl) == "0"  # forwarding: the machine is no router


def _sysctl() -> str:
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        return file.read().strip()


def test_an_address_that_the_machine_gets_later_is_closed_too(world: World) -> None:
    world.up()
    plug_router(world)

    def move() -> None:
        with Links() as links:
            links.addresses("out0", [f"{MACHINE}/24", "203.0.113.77/24"])

    world.on_machine(move)
    world.on_machine(external.keep_way_out, world.prefix)
    assert world.reach("203.0.113.77") == ""
    assert world.reach(INTERNET) == world.internet


def test_the_program_is_adopted_started_again_and_ended(world: World) -> None:
    world.up()
    plug_router(world)
    home = external.nat_home(world.prefix)
    first = way_out.running(home)
    world.up()
    assert way_out.running(home) == first != 0
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    world.on_machine(external.keep_way_out, world.prefix)
    assert way_out.running(home) not in (0, first)
    assert world.reach(INTERNET) == world.internet
    world.on_machine(external.disconnect_root, world.prefix, CIDR)
    assert way_out.running(home) == 0


def test_without_a_way_out_nothing_is_reached_and_no_program_runs(world: World) -> None:
    host = hosts.host_namespace(world.prefix, 1)
    world.on_machine(external.connect_root, world.prefix, host, CIDR, GATEWAY, "none")
    plug_router(world)
    assert world.reach(INTERNET) == ""
    assert way_out.running(external.nat_home(world.prefix)) == 0
