"""The network agents on fakes: full build first, bursts together, nothing forgotten when a build or report fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import LiveWorld
from kilonova.bus import rpc
from kilonova.bus.contract import Handler, Message, Target
from kilonova.network import contract
from kilonova.network.contract import (
    AgentReport,
    DhcpHost,
    FixedIp,
    Lease,
    Member,
    PortNews,
    Rule,
    Segment,
    WantedDhcp,
    WantedGroup,
    WantedL2,
    WantedPort,
    WantedRouter,
)
from kilonova.node.agents.dhcp import DhcpAgent
from kilonova.node.agents.frame import AgentSettings
from kilonova.node.agents.l2 import L2Agent
from kilonova.node.agents.l3 import L3Agent
from kilonova.node.agents.metadata import MetadataAgent
from kilonova.node.vswitch.fake import FakeDhcpServers, FakeMetadataProxy, FakeRouters, FakeVirtualSwitch
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld

FAST = AgentSettings(report_seconds=0.01, retry_seconds=0.01, burst_seconds=0.01, tunnel_ip="10.1.1.1")


class DirectBus:
    """A bus that calls the handler at once."""

    def __init__(self) -> None:
        self.served: dict[str, Mapping[str, Handler]] = {}

    async def call(self, to: Target, method: str, args: Mapping[str, Any], *, timeout_seconds: float = 10.0) -> Any:
        if to.queue not in self.served:
            raise unavailable(f"Nobody serves {to.queue}.")
        message = Message("", to.exchange, to.type, to.host, 1, method, dict(args), "call", "", 0.0)
        return await self.served[to.queue][method](message)

    async def cast(self, to: Target, method: str, args: Mapping[str, Any], *, deadline_seconds: float = 0.0) -> None:
        await self.call(to, method, args)

    fanout = cast

    async def serve(self, exchange: str, type_: str, host: str, handlers: Mapping[str, Handler]) -> DirectBus:
        self.served[f"{type_}.{host}" if host else type_] = handlers
        return self

    async def close(self) -> None: ...


class Network:
    """A plugin with a book of what is wanted; it can be told to fail."""

    def __init__(self) -> None:
        self.ports: dict[str, WantedPort] = {}
        self.groups: tuple[WantedGroup, ...] = ()
        self.members: tuple[Member, ...] = ()
        self.asked: list[tuple[Any, Any]] = []
        self.dhcp_asked: list[Any] = []
        self.up: set[str] = set()
        self.failures: list[str] = []
        self.reports: list[AgentReport] = []

    def _fail(self, verb: str) -> None:
        if verb in self.failures:
            self.failures.remove(verb)
            raise unavailable("The network service does not answer.")

    async def wanted_l2(self, host: str, port_ids: list[str] | None, network_ids: list[str] | None) -> WantedL2:
        self._fail("wanted_l2")
        self.asked.append((port_ids, network_ids))
        if port_ids is None:
            ports = tuple(self.ports.values())
            return WantedL2(ports=ports, groups=self.groups, members=self.members, full=True)
        gone = tuple(id_ for id_ in port_ids if id_ not in self.ports)
        return WantedL2(ports=tuple(self.ports[id_] for id_ in port_ids if id_ in self.ports), gone_ports=gone)

    async def wanted_dhcp(self, host: str, network_ids: list[str] | None) -> list[WantedDhcp]:
        self.dhcp_asked.append(network_ids)
        nets = sorted({port.network_id for port in self.ports.values()})
        leases = tuple(DhcpHost(id_, one.mac, ("10.0.0.9",), id_) for id_, one in self.ports.items())
        return [WantedDhcp(n, port(f"dhcp-{n}"), (), leases) for n in nets if network_ids is None or n in network_ids]

    async def wanted_routers(self, host: str, router_ids: list[str] | None) -> list[WantedRouter]:
        return [WantedRouter(id_, True, ()) for id_ in ("r1", "r2") if router_ids is None or id_ == "r1"]

    async def ports_up(self, host: str, up: list[str], down: list[str]) -> None:
        self._fail("ports_up")
        assert set(down) <= self.ports.keys(), "what went because network has it here no more is no news to network"
        self.up = (self.up | set(up)) - set(down)

    async def find_device(self, network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
        return ("server", "project") if ip == "10.0.0.5" else None

    async def report_state(self, report: AgentReport) -> None:
        self._fail("report_state")
        self.reports.append(report)


def port(id_: str, up: bool = True) -> WantedPort:
    segment = Segment("vxlan", 7)
    return WantedPort(id_, "net", "fa:16:3e:00:00:01", segment, 1450, (), "server", "compute:nova", admin_state_up=up)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 — looks from outside, as a user would
            await asyncio.sleep(0.005)


@pytest.fixture
async def world() -> AsyncIterator[LiveWorld]:
    world = LiveWorld("test")
    yield world
    await world.close()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def bus(network: Network) -> DirectBus:
    bus = DirectBus()
    bus.served["q-plugin"] = rpc.handlers(contract.Plugin, network)
    return bus


async def test_l2_builds_everything_first_then_what_changed_and_tells_which_are_up(
    world: LiveWorld, bus: DirectBus, network: Network
) -> None:
    network.ports = {"p1": port("p1"), "p2": port("p2", up=False)}
    switch = FakeVirtualSwitch()
    agent = L2Agent(world, bus, "h1", switch, FAST)
    await agent.start()
    await until(lambda: network.up == {"p1"})
    assert set(switch.ports) == {"p1", "p2"}

    network.ports = {"p1": network.ports["p1"], "p3": port("p3")}
    casts: contract.L2Agent = rpc.client(contract.L2Agent, bus, Target("neutron", "l2_agent", "h1"))
    await casts.l2_changed(["p2"], [], [])
    await casts.l2_changed(["p3"], ["net"], [])
    await until(lambda: network.up == {"p1", "p3"})
    assert set(switch.ports) == {"p1", "p3"}, "p2 is gone, and network is not told of what it had told itself"
    assert network.asked == [(None, None), (["p2", "p3"], ["net"])], "a burst is one fetch"
    await agent.close()


def test_a_change_that_comes_alone_is_built_at_once_and_those_just_after_it_together(
    bus: DirectBus, network: Network
) -> None:
    async def main() -> None:
        world = SimWorld("h1", 1)
        agent = L2Agent(world, bus, "h1", FakeVirtualSwitch(), AgentSettings(burst_seconds=10.0))
        await agent.start()
        await world.clock.sleep(60.0)
        casts: contract.L2Agent = rpc.client(contract.L2Agent, bus, Target("neutron", "l2_agent", "h1"))
        await casts.l2_changed(["p1"], [], [])
        await world.clock.sleep(0.1)
        assert [ports for ports, _ in network.asked] == [None, ["p1"]]
        await casts.l2_changed(["p2"], [], [])
        await world.clock.sleep(5.0)
        await casts.l2_changed(["p3"], [], [])
        assert len(network.asked) == 2
        await world.clock.sleep(5.0)
        assert [ports for ports, _ in network.asked] == [None, ["p1"], ["p2", "p3"]]
        await agent.close()

    run(main(), 1)


async def test_what_fails_is_built_again_with_what_came_meanwhile(
    world: LiveWorld, bus: DirectBus, network: Network
) -> None:
    network.failures = ["wanted_l2", "report_state", "wanted_l2", "ports_up"]
    agent = L2Agent(world, bus, "h1", FakeVirtualSwitch(), FAST)
    await agent.start()
    network.ports["p1"] = port("p1")
    await agent.l2_changed(["p1"], [], [])
    await until(lambda: network.up == {"p1"} and network.reports)
    assert network.reports[0].agent_type == "L2 agent"
    assert network.reports[0].tunnel_ip == "10.1.1.1"
    await agent.close()


async def test_a_port_that_was_not_built_is_tried_again_alone(
    world: LiveWorld, bus: DirectBus, network: Network
) -> None:
    class Clumsy(FakeVirtualSwitch):
        failures = 2

        async def apply(self, wanted: WantedL2) -> tuple[list[str], list[str]]:
            up, gone = await super().apply(wanted)
            if "p2" in up and self.failures:
                self.failures -= 1
                up.remove("p2")
            return up, gone

    network.ports = {"p1": port("p1"), "p2": port("p2")}
    agent = L2Agent(world, bus, "h1", Clumsy(), FAST)
    await agent.start()
    await until(lambda: network.up == {"p1", "p2"})
    assert network.asked == [(None, None), (["p2"], []), (["p2"], [])]
    await agent.close()


def grouped(id_: str, revision: int = 0, ip: str = "", network_id: str = "net") -> WantedPort:
    fixed_ips = (FixedIp(ip, "sub", "10.0.0.0/24"),) if ip else ()
    changes = {"network_id": network_id, "security_groups": ("web",), "fixed_ips": fixed_ips, "revision": revision}
    return msgspec.structs.replace(port(id_), **changes)


def here(one: WantedPort) -> PortNews:
    ips = tuple(ip.address for ip in one.fixed_ips)
    return PortNews(Member(one.id, one.security_groups, ips, one.revision), "h1", one)


def elsewhere(id_: str, revision: int, *ips: str, host: str = "h2") -> PortNews:
    return PortNews(Member(id_, ("web",) if ips else (), ips, revision), host)


class Told:
    """An L2 agent that has built p1 of a group whose members may reach each other, and hears news by hand."""

    def __init__(self, world: LiveWorld) -> None:
        self.network, self.switch = Network(), FakeVirtualSwitch()
        self.network.ports = {"p1": grouped("p1", 3, "10.0.0.1")}
        self.network.groups = (WantedGroup("web", True, (Rule("ingress", "IPv4", remote_group="web"),)),)
        self.network.members = (Member("p1", ("web",), ("10.0.0.1",), 3),)
        self.agent = L2Agent(world, DirectBus(), "h1", self.switch, FAST)
        self.agent.plugin = self.network

    async def hears(self, *news: PortNews, full: bool = False) -> tuple[set[str], set[str]]:
        """(ports that are built, members of the group) after it was told, and built what it was told."""
        await self.agent.l2_changed([], [], list(news))
        changed = self.agent.pending.take()
        await self.agent.build(None if full else changed)
        return set(self.switch.ports), set(self.switch.groups["web"].member_ips)


async def test_l2_builds_what_it_is_told_and_fetches_nothing(world: LiveWorld) -> None:
    told = Told(world)
    assert await told.hears(full=True) == ({"p1"}, {"10.0.0.1"})
    p2 = grouped("p2", 0, "10.0.0.2")
    assert await told.hears(here(p2), elsewhere("q", 0, "10.0.0.9")) == (
        {"p1", "p2"}, {"10.0.0.1", "10.0.0.2", "10.0.0.9"},
    )  # fmt: skip
    assert told.network.up == {"p1", "p2"}
    assert await told.hears(elsewhere("p2", 1, host="")) == ({"p1"}, {"10.0.0.1", "10.0.0.9"})
    assert await told.hears(elsewhere("p1", 4, "10.0.0.1")) == (set(), {"10.0.0.1", "10.0.0.9"}), "it moved to h2"
    assert told.network.asked == [(None, None)]


async def test_l2_news_that_come_late_or_twice_change_nothing(world: LiveWorld) -> None:
    told = Told(world)
    await told.hears(full=True)
    p2, gone = grouped("p2", 0, "10.0.0.2"), elsewhere("p2", 2, host="")
    built = ({"p1", "p2"}, {"10.0.0.1", "10.0.0.2"})
    alone = ({"p1"}, {"10.0.0.1"})
    assert await told.hears(here(p2)) == await told.hears(here(p2)) == built
    assert await told.hears(gone) == await told.hears(gone) == alone
    assert await told.hears(here(p2)) == alone, "what is gone does not come back"
    assert await told.hears(elsewhere("p3", 2, host=""), here(grouped("p3", 1, "10.0.0.3"))) == alone, "in one build"
    assert await told.hears(full=True) == await told.hears(here(p2)) == alone, "nor after everything was fetched"
    assert await told.hears(here(grouped("p9", 0)), full=True) == alone, "what was fetched is later than what was told"
    assert await told.hears(elsewhere("p1", 2, host="")) == alone, "p1 was fetched as it was later than that"
    assert await told.hears(elsewhere("q", 5, "10.0.0.9"), elsewhere("q", 4, host="")) == (
        {"p1"}, {"10.0.0.1", "10.0.0.9"},
    )  # fmt: skip


async def test_l2_asks_for_a_port_whose_network_or_group_it_does_not_have(world: LiveWorld) -> None:
    told = Told(world)
    await told.hears(full=True)
    told.network.ports["far"] = grouped("far", 0, network_id="other")
    assert "far" in (await told.hears(here(told.network.ports["far"])))[0]
    told.network.ports["odd"] = msgspec.structs.replace(port("odd"), security_groups=("unknown",))
    assert "odd" in (await told.hears(here(told.network.ports["odd"])))[0]
    told.network.ports = {"p2": grouped("p2", 0, "10.0.0.2")}
    last = [elsewhere(id_, 9, host="") for id_ in ("p1", "odd")]
    assert "p2" in (await told.hears(*last, here(told.network.ports["p2"])))[0]
    assert told.network.asked == [(None, None), (["far"], []), (["odd"], []), (["p2"], [])], "its tunnels are gone"


async def test_l2_asks_for_a_port_of_a_group_whose_last_port_left(world: LiveWorld) -> None:
    told = Told(world)
    told.network.ports["p0"] = port("p0")
    await told.hears(full=True)
    await told.hears(elsewhere("p1", 4, host=""))
    told.network.ports["p2"] = grouped("p2", 0, "10.0.0.2")  # nobody told this host what the group's rules became
    assert "p2" in (await told.hears(here(told.network.ports["p2"])))[0]
    assert told.network.asked == [(None, None), (["p2"], [])]
    p3 = grouped("p3", 0, "10.0.0.3")
    assert "p3" in (await told.hears(here(p3)))[0]
    assert told.network.asked == [(None, None), (["p2"], [])]


async def test_l2_fetches_all_when_what_it_was_told_could_not_be_built(world: LiveWorld) -> None:
    told = Told(world)
    await told.hears(full=True)
    told.network.failures = ["ports_up"]
    told.network.ports["p2"] = grouped("p2", 0, "10.0.0.2")
    with pytest.raises(Fault):
        await told.hears(here(told.network.ports["p2"]))
    assert told.agent.pending.take() is None
    await told.agent.build(None)
    assert told.network.up == {"p1", "p2"}


async def test_l3_and_dhcp_drop_what_was_asked_for_and_not_answered(
    world: LiveWorld, bus: DirectBus, network: Network
) -> None:
    network.ports = {"p1": port("p1")}
    servers, routers = FakeDhcpServers(), FakeRouters()
    dhcp, l3 = DhcpAgent(world, bus, "h1", servers, FAST), L3Agent(world, bus, "h1", routers, FAST)
    await dhcp.start()
    await l3.start()
    await until(lambda: set(servers.servers) == {"net"} and set(routers.routers) == {"r1", "r2"})
    network.ports = {}
    await dhcp.dhcp_changed(["net"], [])
    await l3.routers_changed(["r1", "r2"])
    await until(lambda: not servers.servers and set(routers.routers) == {"r1"})
    await dhcp.close()
    await l3.close()


def lease(port_id: str, revision: int, *ips: str, network_id: str = "net") -> Lease:
    return Lease(network_id, DhcpHost(port_id, "fa:16:3e:00:00:01", ips, port_id, (), revision))


async def test_dhcp_is_told_leases_and_fetches_no_network_that_it_serves(
    world: LiveWorld, bus: DirectBus, network: Network
) -> None:
    def told() -> dict[str, tuple[str, ...]]:
        return {host.port_id: host.ips for server in servers.servers.values() for host in server.hosts}

    network.ports = {"p1": port("p1"), "p2": port("p2")}
    servers = FakeDhcpServers()
    agent = DhcpAgent(world, bus, "h1", servers, FAST)
    await agent.start()
    await until(lambda: told().keys() == {"p1", "p2"})

    casts: contract.DhcpAgent = rpc.client(contract.DhcpAgent, bus, Target("neutron", "dhcp_agent", "h1"))
    await casts.dhcp_changed([], [lease("p1", 1), lease("p3", 1, "10.0.0.3")])
    await until(lambda: told().keys() == {"p2", "p3"})
    assert network.dhcp_asked == [None], "the network was not fetched again"

    await casts.dhcp_changed(["other"], [lease("p9", 1, "10.0.0.9", network_id="other")])
    await until(lambda: network.dhcp_asked == [None, ["other"]])
    assert told().keys() == {"p2", "p3"}, "of a network that it does not serve it asks everything, and nothing is there"
    await agent.close()


async def test_a_lease_that_is_told_late_or_twice_changes_nothing(world: LiveWorld) -> None:
    network, servers = Network(), FakeDhcpServers()
    network.ports = {"p1": port("p1")}
    agent = DhcpAgent(world, DirectBus(), "h1", servers, FAST)
    agent.plugin = network

    async def hears(*leases: Lease, full: bool = False) -> dict[str, tuple[str, ...]]:
        await agent.dhcp_changed([], list(leases))
        changed = agent.pending.take()
        await agent.build(None if full else changed)
        return {host.port_id: host.ips for host in servers.servers["net"].hosts}

    assert await hears(full=True) == {"p1": ("10.0.0.9",)}
    moved = lease("p2", 4, "10.0.0.4")
    assert (await hears(moved, lease("p2", 3, "10.0.0.3")))["p2"] == ("10.0.0.4",), "in one build"
    assert (await hears(lease("p2", 3, "10.0.0.3")))["p2"] == ("10.0.0.4",), "and in a later one"
    assert "p2" not in await hears(lease("p2", 5))
    assert "p2" not in await hears(moved), "what is gone does not come back"
    assert "p2" not in await hears(moved, full=True), "also not with a message that came with a full build"
    assert (await hears(lease("p1", 1, "10.0.0.1")))["p1"] == ("10.0.0.1",)


async def test_resync_repairs_what_no_message_told(world: LiveWorld, bus: DirectBus, network: Network) -> None:
    switch = FakeVirtualSwitch()
    agent = L2Agent(world, bus, "h1", switch, AgentSettings(resync_seconds=0.03, burst_seconds=0.0))
    await agent.start()
    await agent.synced.wait()
    network.ports["p1"] = port("p1")
    await until(lambda: "p1" in switch.ports)
    await agent.close()


async def test_metadata_agent_answers_who_called(world: LiveWorld, bus: DirectBus) -> None:
    proxy = FakeMetadataProxy()
    agent = MetadataAgent(world, bus, "h1", proxy, FAST)
    await agent.start()
    assert proxy.find is not None
    assert await proxy.find("net", "", "10.0.0.5") == ("server", "project")
    assert await proxy.find("net", "", "10.0.0.6") is None
    await agent.close()
