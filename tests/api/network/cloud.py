"""A whole network service in process: API, worker, and agents of two hosts on fake machinery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import unavailable
from kilonova.base.world import LiveWorld
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.db.database import Database
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from kilonova.network import schema
from kilonova.network.core import NetworkService
from kilonova.network.service import MIGRATIONS, RULES, network_app
from kilonova.network.settings import NetworkSettings
from kilonova.network.worker import NetworkWorker
from kilonova.node.agents.dhcp import DhcpAgent
from kilonova.node.agents.frame import AgentSettings
from kilonova.node.agents.l2 import L2Agent
from kilonova.node.agents.l3 import L3Agent
from kilonova.node.vswitch.fake import FakeDhcpServers, FakeRouters, FakeVirtualSwitch
from kilonova.policy.personas import network_base_rules
from kilonova.policy.rules import Policy
from tests.api.support import ApiClient, FakeAuthenticator, api_client


class Compute:
    """Hears events, or is away for a while."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.away = False

    async def port_events(self, events: list[tuple[str, str, str]]) -> None:
        if self.away:
            raise unavailable("Compute is away.")
        self.events += events


class Host:
    """The agents of one host."""

    def __init__(self, cloud: Cloud, name: str, number: int) -> None:
        self.name = name
        self.switch, self.dhcp, self.routers = FakeVirtualSwitch("test", name), FakeDhcpServers(), FakeRouters()
        settings = AgentSettings(
            burst_seconds=0.0, report_seconds=5.0, tunnel_ip=f"10.9.0.{number}", physical_networks=("public",)
        )
        parts: list[tuple[Any, Any]] = [(L2Agent, self.switch), (DhcpAgent, self.dhcp), (L3Agent, self.routers)]
        self.agents = []
        for kind, adapter in parts:
            bus = MemoryBus(cloud.world, cloud.broker, f"{kind.topic}.{name}")
            self.agents.append(kind(cloud.world, bus, name, adapter, settings))

    async def start(self) -> None:
        for agent in self.agents:
            await agent.start()
        for agent in self.agents:
            await agent.synced.wait()

    async def close(self) -> None:
        for agent in self.agents:
            await agent.close()


def _memberships_elsewhere(connection: Connection) -> list[tuple[str, str, str]]:
    """(port, its host, its host as a membership has it), where they differ."""
    memberships, ports = schema.port_groups.c, schema.ports.c
    both = sa.select(ports.id, ports.host, memberships.host).where(memberships.port_id == ports.id)
    return [(*row,) for row in connection.execute(both.where(memberships.host != ports.host))]


class Cloud:
    """The parts, and a client for each persona."""

    def __init__(
        self, settings: NetworkSettings | None = None, db: Database | None = None, world: LiveWorld | None = None
    ) -> None:
        self.world = world or LiveWorld("test")
        self.broker = MemoryBroker()
        self.db: Database = db or InlineDatabase("network", self.world.clock)
        self.compute = Compute()
        bus = MemoryBus(self.world, self.broker, "q-plugin.controller")
        self.service = NetworkService(self.world, self.db, bus, settings or NetworkSettings(), self.compute)
        policy = Policy((*network_base_rules, *RULES))
        self.app = network_app(self.service, FakeAuthenticator(), policy)
        self.worker = NetworkWorker(self.service, "controller")
        self.hosts: list[Host] = []
        self.member: ApiClient = api_client(self.app, "member")
        self.admin: ApiClient = api_client(self.app, "admin")
        self.other: ApiClient = api_client(self.app, "other")
        self.reader: ApiClient = api_client(self.app, "reader")

    async def start(self, hosts: int = 0) -> Cloud:
        await ensure_current(self.db, MIGRATIONS)
        await self.worker.start()
        for number in range(1, hosts + 1):
            self.hosts.append(Host(self, f"node{number}", number))
            await self.hosts[-1].start()
        if hosts:
            await until_alive(self, 3 * hosts)
        return self

    async def close(self) -> None:
        for host in self.hosts:
            await host.close()
        await self.worker.close()
        await self.world.close()
        assert await self.db.read(_memberships_elsewhere) == [], "whatever moved a port moved its memberships"
        await self.db.close()

    async def network(self, client: ApiClient | None = None, **values: Any) -> dict[str, Any]:
        body = {"network": {"name": "net", **values}}
        made: dict[str, Any] = (await (client or self.member).post("/v2.0/networks", body, 201))["network"]
        return made

    async def subnet(
        self, network_id: str, cidr: str = "10.0.0.0/24", client: ApiClient | None = None, **values: Any
    ) -> dict[str, Any]:
        version = 6 if ":" in cidr else 4
        body = {"subnet": {"network_id": network_id, "cidr": cidr, "ip_version": version, **values}}
        made: dict[str, Any] = (await (client or self.member).post("/v2.0/subnets", body, 201))["subnet"]
        return made

    async def port(self, network_id: str, client: ApiClient | None = None, **values: Any) -> dict[str, Any]:
        body = {"port": {"network_id": network_id, **values}}
        made: dict[str, Any] = (await (client or self.member).post("/v2.0/ports", body, 201))["port"]
        return made

    async def outside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The external network and its subnet."""
        provider = {"provider:network_type": "flat", "provider:physical_network": "public", "router:external": True}
        network = await self.network(self.admin, name="public", **provider)
        pools = [{"start": "203.0.113.10", "end": "203.0.113.100"}]
        subnet = await self.subnet(
            network["id"], "203.0.113.0/24", self.admin, enable_dhcp=False, allocation_pools=pools
        )
        return network, subnet

    async def router(self, network: dict[str, Any], *subnets: dict[str, Any]) -> dict[str, Any]:
        """A router of the member between subnets and an external network."""
        body = {"router": {"name": "r", "external_gateway_info": {"network_id": network["id"]}}}
        router: dict[str, Any] = (await self.member.post("/v2.0/routers", body, 201))["router"]
        for subnet in subnets:
            path = f"/v2.0/routers/{router['id']}/add_router_interface"
            await self.member.put(path, {"subnet_id": subnet["id"]})
        return router


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — looks from outside, as a user would
            await asyncio.sleep(0.005)


async def until_alive(cloud: Cloud, count: int) -> None:
    """Return when that many agents are known."""
    async with asyncio.timeout(5):
        while len((await cloud.admin.get("/v2.0/agents"))["agents"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
