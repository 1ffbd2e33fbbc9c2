"""Network's SQL says the same on SQLite, PostgreSQL and MariaDB, and nothing is given twice when requests race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.network.settings import NetworkSettings
from tests.api.network.cloud import Cloud, until
from tests.api.support import PROJECT


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.cluster),
        pytest.param("mariadb", marks=pytest.mark.cluster),
    ]
)
async def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cloud]:
    world = LiveWorld("network-databases")
    db: Database
    if request.param == "sqlite":
        db = SqliteDatabase("network", tmp_path / "network.db", world.clock)
        cloud = await Cloud(NetworkSettings(vni_first=10, vni_last=14), db, world).start(hosts=2)
        yield cloud
        await cloud.close()
        return
    with request.getfixturevalue(request.param).database() as url:
        db = await server_database("network", url, world)
        cloud = await Cloud(NetworkSettings(vni_first=10, vni_last=14), db, world).start(hosts=2)
        yield cloud
        await cloud.close()


async def test_races_give_nothing_twice(cloud: Cloud) -> None:
    send = cloud.member.send
    made = await asyncio.gather(*(send("POST", "/v2.0/networks", {"network": {}}) for _ in range(8)))
    assert sorted(reply.status for reply in made) == [201] * 5 + [409] * 3, [r.content for r in made]
    network_id = next(r.json()["network"]["id"] for r in made if r.status == 201)
    await cloud.subnet(network_id, "10.0.0.0/28", enable_dhcp=False)
    ports = await asyncio.gather(
        *(send("POST", "/v2.0/ports", {"port": {"network_id": network_id}}) for _ in range(16))
    )
    assert sorted(reply.status for reply in ports) == [201] * 13 + [409] * 3, [r.content for r in ports]
    given = [r.json()["port"]["fixed_ips"][0]["ip_address"] for r in ports if r.status == 201]
    assert len(set(given)) == 13
    assert len((await cloud.member.get("/v2.0/security-groups"))["security_groups"]) == 1
    await cloud.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"security_group": 4}})
    groups = await asyncio.gather(
        *(send("POST", "/v2.0/security-groups", {"security_group": {"name": str(n)}}) for n in range(6))
    )
    assert sorted(reply.status for reply in groups) == [201] * 3 + [409] * 3


async def test_a_servers_network_from_port_to_floating_ip(cloud: Cloud) -> None:
    outside, _ = await cloud.outside()
    network = await cloud.network(name="bläu")
    subnet = await cloud.subnet(network["id"])
    binding = {"binding:host_id": "node1", "device_id": "server-1", "device_owner": "compute:nova"}
    port = await cloud.port(network["id"], cloud.admin, project_id=PROJECT, **binding)
    await until(lambda: cloud.compute.events)
    router = await cloud.router(outside, subnet)
    body = {"floatingip": {"floating_network_id": outside["id"], "port_id": port["id"]}}
    floating = (await cloud.member.post("/v2.0/floatingips", body, 201))["floatingip"]
    routers = [host.routers.routers for host in cloud.hosts]
    await until(lambda: any(r.get(router["id"]) and r[router["id"]].floating_ips for r in routers))
    await cloud.member.put(f"/v2.0/networks/{network['id']}/tags", {"tags": ["x"]})
    query = "tags=x&sort_key=name&limit=1"
    assert [n["name"] for n in (await cloud.member.get(f"/v2.0/networks?{query}"))["networks"]] == ["bläu"]
    found = await cloud.member.get(f"/v2.0/ports?fixed_ips=subnet_id={subnet['id']}&sort_key=created_at")
    assert port["id"] in [one["id"] for one in found["ports"]]
    await cloud.member.delete(f"/v2.0/floatingips/{floating['id']}")
    await cloud.member.delete(f"/v2.0/ports/{port['id']}")
    await until(lambda: port["id"] not in cloud.hosts[0].switch.ports)
