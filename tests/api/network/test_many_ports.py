"""What a port costs does not grow with the ports that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import sqlite_of
from kilonova.network import schema
from kilonova.network.agent import store as agents
from kilonova.network.contract import AgentReport
from kilonova.network.port import store
from kilonova.network.port.store import Port
from kilonova.network.quota import store as quota
from kilonova.network.settings import NetworkSettings, QuotaDefaults
from kilonova.network.work import Work
from tests.api.network.cloud import Cloud
from tests.api.support import PROJECT

HOSTS = 4
UNLIMITED = NetworkSettings(quotas=QuotaDefaults(port=-1))


class Ports:
    """Ports of one network and of its project's default group, on a few hosts."""

    def __init__(self, cloud: Cloud, network_id: str) -> None:
        self._cloud, self._network_id = cloud, network_id
        self.steps = 0

    def _port(self, number: int) -> Port:
        now, id_ = self._cloud.service.draw.now(), self._cloud.service.draw.id()
        return Port(
            id=id_, project_id=PROJECT, network_id=self._network_id, device_id=f"server-{number}", created_at=now,
            updated_at=now, device_owner="compute:nova", host=f"node{number % HOSTS}",
        )  # fmt: skip

    async def measured(self, unit: Callable[[Work], Any]) -> Work:
        """What the unit was at work with; `steps` are then those that the database took for it."""

        def counted(connection: Connection) -> Work:
            work, self.steps = Work(connection, self._cloud.service.draw, UNLIMITED), 0
            sqlite_of(connection).set_progress_handler(self._step, 1)
            unit(work)
            sqlite_of(connection).set_progress_handler(None, 1)
            return work

        return await self._cloud.db.write(counted)

    def _step(self) -> int:
        self.steps += 1
        return 0

    async def made(self, count: int) -> list[str]:
        """Ids of new ports."""
        ports = [self._port(number) for number in range(count)]
        await self.measured(lambda work: store.create_ports(work, [(port, None, None) for port in ports]))
        return [port.id for port in ports]

    async def costs(self) -> dict[str, tuple[int, Work]]:
        """Of making a port, moving it and deleting it: the database's steps, and who is told."""
        port, costs = self._port(1), {}
        for name, unit in {
            "make": lambda work: store.add_port(work, port, None, None),
            "move": lambda work: store.update_port(work, port.id, {"host": "node2"}, None, None),
            "delete": lambda work: store.delete_port(work, port.id),
        }.items():
            work = await self.measured(unit)
            costs[name] = (self.steps, work)
        return costs


@pytest.fixture
async def ports(cloud: Cloud) -> Ports:
    network = await cloud.network()
    await cloud.subnet(network["id"], "10.0.0.0/16")
    found = Ports(cloud, network["id"])
    for number in range(HOSTS):
        report = AgentReport("L2 agent", "l2", f"node{number}", "l2_agent", f"10.9.0.{number + 1}")
        await found.measured(lambda work, report=report: agents.report(work, report))
    return found


async def test_a_port_among_thousands_costs_what_it_costs_among_a_few(ports: Ports) -> None:
    await ports.made(40)
    few = await ports.costs()
    await ports.made(3000)
    many = await ports.costs()
    for name, (steps, work) in few.items():
        assert many[name][0] < steps * 1.2, f"{name}: {steps} steps of the database among 40 ports"
        assert work.changes.members.keys() | work.changes.news.keys() == {f"node{number}" for number in range(HOSTS)}
        assert many[name][1].changes.members == work.changes.members
        assert many[name][1].changes.news.keys() == work.changes.news.keys()


async def test_ports_of_a_project_are_counted_in_an_index(ports: Ports, cloud: Cloud) -> None:
    await ports.made(3)
    plans: list[str] = []

    def counted(connection: Connection) -> int:
        driver = sqlite_of(connection)
        asked: list[str] = []
        driver.set_trace_callback(asked.append)
        count = quota.usage(connection, PROJECT, "port")
        driver.set_trace_callback(None)
        plans.extend(row[-1] for sql in asked if "count" in sql for row in driver.execute(f"EXPLAIN QUERY PLAN {sql}"))
        return count

    assert await cloud.db.read(counted) == 3
    assert plans == ["SEARCH ports USING COVERING INDEX ix_ports_project (project_id=?)"]


async def test_memberships_know_their_ports_hosts(ports: Ports, cloud: Cloud) -> None:
    ids = await ports.made(HOSTS)
    await ports.measured(lambda work: store.update_port(work, ids[0], {"host": ""}, None, None))
    await ports.measured(lambda work: store.update_port(work, ids[1], {"host": "node3"}, None, None))
    [group] = (await cloud.member.get("/v2.0/security-groups"))["security_groups"]
    await ports.measured(lambda work: store.update_port(work, ids[2], {"host": "node0"}, None, [group["id"]]))
    of_both = sa.select(schema.port_groups.c.host, schema.ports.c.host).where(
        schema.port_groups.c.port_id == schema.ports.c.id
    )
    hosts = await cloud.db.read(lambda connection: connection.execute(of_both).all())
    assert sorted(hosts) == [("", ""), ("node0", "node0"), ("node3", "node3"), ("node3", "node3")]
