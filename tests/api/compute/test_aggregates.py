"""Aggregates and the availability zones that come of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kilonova.bus import rpc
from kilonova.compute.contract import COMPUTE_TOPIC, EXCHANGE, ComputeAgent, HostReport
from kilonova.compute.host import store as hosts
from kilonova.sim.peers import IMAGE
from tests.api.compute.support import Api
from tests.unit.compute.scheduler.test_view import insert_server

PATH = "/v2.1/os-aggregates"


async def hosts_in(api: Api, *names: str) -> None:
    """Compute hosts that reported just now."""
    for name in names:
        said = HostReport(name, name, "QEMU", 1, 8, 8192, 100, "10.0.0.1", {"arch": "x86_64"})
        await api.compute.db.write(hosts.report, said, f"provider-{name}", api.compute.world.clock.now())


async def made(api: Api, name: str = "fast", zone: str | None = None) -> Any:
    body = {"aggregate": {"name": name} | ({"availability_zone": zone} if zone else {})}
    return (await api.as_("admin", "2.41").post(PATH, body, 200))["aggregate"]


async def act(api: Api, one: Any, action: str, argument: Any, status: int = 200) -> Any:
    return await api.as_("admin").post(f"{PATH}/{one['id']}/action", {action: argument}, status)


async def test_shapes(api: Api) -> None:
    new = await made(api, zone="london")
    assert set(new) == {
        "availability_zone", "created_at", "deleted", "deleted_at", "id", "name", "updated_at", "uuid",
    }  # fmt: skip
    assert (new["availability_zone"], new["deleted"], new["updated_at"]) == ("london", False, None)
    shown = (await api.as_("admin", "2.41").get(f"{PATH}/{new['id']}"))["aggregate"]
    assert shown == {**new, "hosts": [], "metadata": {"availability_zone": "london"}}
    assert "uuid" not in (await api.as_("admin", "2.40").get(f"{PATH}/{new['id']}"))["aggregate"]
    assert (await api.as_("admin", "2.41").get(PATH))["aggregates"] == [shown]
    await api.as_("admin").post(PATH, {"aggregate": {"name": "fast"}}, 409)
    for bad in ({"name": ""}, {"name": "x", "availability_zone": "a:b"}, {"name": "x", "y": 1}, {}):
        await api.as_("admin").post(PATH, {"aggregate": bad}, 400)
    for who in ("member", "reader", "other"):
        await api.as_(who).get(PATH, 403)
        await api.as_(who).post(PATH, {"aggregate": {"name": "x"}}, 403)


async def test_hosts_come_and_go(api: Api) -> None:
    await hosts_in(api, "node1", "node2")
    one = await made(api)
    assert (await act(api, one, "add_host", {"host": "node1"}))["aggregate"]["hosts"] == ["node1"]
    await act(api, one, "add_host", {"host": "node1"}, 409)
    await act(api, one, "add_host", {"host": "node9"}, 404)
    await act(api, one, "remove_host", {"host": "node2"}, 404)
    await api.as_("admin").delete(f"{PATH}/{one['id']}", 400)
    await act(api, one, "remove_host", {"host": "node1"})
    await api.as_("admin").delete(f"{PATH}/{one['id']}", 200)
    for path in (f"{PATH}/{one['id']}", f"{PATH}/x"):
        await api.as_("admin").get(path, 404)


async def test_metadata_and_updates(api: Api) -> None:
    one = await made(api)
    told = (await act(api, one, "set_metadata", {"metadata": {"ssd": "true", "gpu": "no"}}))["aggregate"]
    assert told["metadata"] == {"ssd": "true", "gpu": "no"}
    told = (await act(api, one, "set_metadata", {"metadata": {"gpu": None}}))["aggregate"]
    assert told["metadata"] == {"ssd": "true"}
    await act(api, one, "set_metadata", {"metadata": {"a": 1}}, 400)
    body = {"aggregate": {"name": "slow", "availability_zone": "paris"}}
    told = (await api.as_("admin").put(f"{PATH}/{one['id']}", body))["aggregate"]
    assert (told["name"], told["availability_zone"]) == ("slow", "paris") and told["updated_at"]
    await api.as_("admin").put(f"{PATH}/{one['id']}", {"aggregate": {}}, 400)


async def test_zones_are_of_the_hosts_in_them(api: Api) -> None:
    await hosts_in(api, "node1", "node2")
    london, paris = await made(api, "one", "london"), await made(api, "two", "paris")
    await act(api, london, "add_host", {"host": "node1"})
    await act(api, paris, "add_host", {"host": "node1"}, 409)  # a host is in one zone
    zones = (await api.as_("member").get("/v2.1/os-availability-zone"))["availabilityZoneInfo"]
    assert [zone["zoneName"] for zone in zones] == ["london", "nova"]
    detail = (await api.as_("admin").get("/v2.1/os-availability-zone/detail"))["availabilityZoneInfo"]
    assert {zone["zoneName"]: list(zone["hosts"]) for zone in detail} == {"london": ["node1"], "nova": ["node2"]}
    services = (await api.as_("admin").get("/v2.1/os-services"))["services"]
    assert {one["host"]: one["zone"] for one in services} == {"node1": "london", "node2": "nova"}


@pytest.mark.parametrize("action", ["rename zone", "remove host", "add host"])
async def test_a_zone_does_not_change_under_servers(api: Api, action: str) -> None:
    await hosts_in(api, "node1", "node2")
    one = await made(api, zone="london")
    await act(api, one, "add_host", {"host": "node1"})
    for number, host in enumerate(("node1", "node2")):
        await api.compute.db.write(insert_server, f"s{number}", host=host, vm_state="active")
    if action == "rename zone":
        await act(api, one, "set_metadata", {"metadata": {"availability_zone": "paris"}}, 400)
        await act(api, one, "set_metadata", {"metadata": {"ssd": "true"}})
    elif action == "remove host":
        await act(api, one, "remove_host", {"host": "node1"}, 409)
    else:
        await act(api, one, "add_host", {"host": "node2"}, 409)


class Agent(ComputeAgent):
    """A host's agent that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[list[str], str]] = []

    async def cache_images(self, image_ids: list[str], token: str) -> None:
        self.told.append((image_ids, token))


async def test_images_are_cached_on_the_hosts_that_are_up(api: Api) -> None:
    await hosts_in(api, "node1", "node2", "node3")
    one, agents = await made(api), {name: Agent() for name in ("node1", "node2", "node3")}
    for name, agent in agents.items():
        await api.compute.bus.serve(EXCHANGE, COMPUTE_TOPIC, name, rpc.handlers(ComputeAgent, agent))
    for name in ("node1", "node2"):
        await act(api, one, "add_host", {"host": name})
    await act(api, one, "add_host", {"host": "node3"})
    down = {"status": "disabled", "forced_down": True}
    services = (await api.as_("admin", "2.53").get("/v2.1/os-services"))["services"]
    [third] = [service["id"] for service in services if service["host"] == "node3"]
    await api.as_("admin", "2.53").send("PUT", f"/v2.1/os-services/{third}", down)
    path, body = f"{PATH}/{one['id']}/images", {"cache": [{"id": IMAGE}]}
    admin = api.as_("admin", "2.81")
    await admin.post(path, body, 202)
    await asyncio.sleep(0.05)
    assert [agent.told for agent in agents.values()] == [[([IMAGE], "admin")], [([IMAGE], "admin")], []]

    for wrong in ([], [{"id": "x"}], [{"id": IMAGE}, {"id": IMAGE}], [{"id": IMAGE, "size": 1}], [{}]):
        await admin.post(path, {"cache": wrong}, 400)
    await admin.post(path, {"cache": [{"id": "7f1d9fd1-0000-4000-8000-000000000000"}]}, 404)
    await admin.post(f"{PATH}/99/images", body, 404)
    await api.as_("admin", "2.80").post(path, body, 404)
    await api.as_("member", "2.81").post(path, body, 403)
    assert [len(agent.told) for agent in agents.values()] == [1, 1, 0]
