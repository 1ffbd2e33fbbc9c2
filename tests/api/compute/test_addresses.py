"""What a server shows of its addresses follows network: floating IPs, ports, security groups; told or found out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kilonova.compute.client import ComputeEvents
from kilonova.compute.contract import Built, Power
from kilonova.compute.flavor import store as flavors
from kilonova.compute.flavor.store import Flavor
from kilonova.compute.reconcile import addresses
from kilonova.compute.server import store
from kilonova.compute.server.create import set_active
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.http.client import AsgiTransport, Client
from kilonova.network.client import NetworkClient
from kilonova.network.contract import PortRequest, ServerNics
from kilonova.network.reconcile import outbox
from kilonova.network.service import RULES, network_app
from kilonova.policy.personas import network_base_rules
from kilonova.policy.rules import Policy
from kilonova.sim.peers import IMAGE, sample_image
from tests.api.compute.support import Api, compute_api
from tests.api.network.cloud import Cloud
from tests.api.support import CALLERS, PROJECT, FakeAuthenticator

VERSION = "2.90"


@dataclass
class Town:
    """A real network service and a real compute service that know each other, and one server between them."""

    network: Cloud
    compute: Api
    subnet: dict[str, Any]
    outside: dict[str, Any]
    server_id: str = ""

    async def shown(self) -> dict[str, Any]:
        """What the user sees, once compute has heard everything."""
        await outbox.run(self.network.service)
        body = await self.compute.as_("member", VERSION).get(f"/v2.1/servers/{self.server_id}")
        found: dict[str, Any] = body["server"]
        return found

    async def seen(self) -> list[tuple[str, str]]:
        """(address, fixed or floating)."""
        known = (await self.shown())["addresses"].get("blue", [])
        return [(one["addr"], one["OS-EXT-IPS:type"]) for one in known]

    async def port(self) -> str:
        found = (await self.network.member.get(f"/v2.0/ports?device_id={self.server_id}"))["ports"]
        return str(found[0]["id"])

    async def floating(self) -> dict[str, Any]:
        body = {"floatingip": {"floating_network_id": self.outside["id"], "port_id": await self.port()}}
        made: dict[str, Any] = (await self.network.member.post("/v2.0/floatingips", body, 201))["floatingip"]
        return made


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with compute_api() as compute:
        network = await Cloud().start(hosts=1)
        try:
            outside, _ = await network.outside()
            subnet = await network.subnet((await network.network(name="blue"))["id"])
            await network.router(outside, subnet)
            made = Town(network, compute, subnet, outside)
            await _join(made)
            made.server_id = await _server(made)
            yield made
        finally:
            await network.close()


async def _join(town: Town) -> None:
    service = town.compute.compute
    served = replace(CALLERS["member"], service_roles=("service",), token="served")
    known = FakeAuthenticator({**CALLERS, "served": served})
    app = network_app(town.network.service, known, Policy((*network_base_rules, *RULES)))
    service.peers = replace(service.peers, networks=NetworkClient(Client(AsgiTransport(app))))

    async def token() -> str:
        return "service"

    town.network.service.server_events = ComputeEvents(Client(AsgiTransport(town.compute.app)), token)


async def _server(town: Town) -> str:
    """A server on node1, bound and recorded as create's flow does it."""
    compute = town.compute.compute
    now = compute.world.clock.now()
    await compute.db.write(flavors.insert, Flavor("1", "tiny", 1, 512, 1, 0, 0, 1.0, True, None, {}, now))
    compute.peers.images.books.images[IMAGE] = sample_image()  # type: ignore[attr-defined]
    network_id = town.subnet["network_id"]
    body = {"name": "s", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": network_id}]}
    answer = await town.compute.as_("member", VERSION).post("/v2.1/servers", {"server": body}, 202)
    server_id = str(answer["server"]["id"])
    [(operation_id, _)] = await compute.db.read(unfinished_operations, server_id)
    await compute.db.write(store.place, server_id, operation_id, ("node1", "node1", "nova"))
    nics = ServerNics(server_id, "s", PROJECT, "nova", "node1", (PortRequest(network_id=network_id),), ("default",))
    ports = await compute.peers.networks.bind("served", "op/bind", nics)
    await compute.db.write(set_active, server_id, operation_id, Built(ports, [], Power.RUNNING), now)
    return server_id


async def test_a_floating_ip_is_shown_while_it_stands_for_the_server(town: Town) -> None:
    fixed = await town.seen()
    assert [kind for _, kind in fixed] == ["fixed"]
    floating = await town.floating()
    assert await town.seen() == [*fixed, (floating["floating_ip_address"], "floating")]
    ips = await town.compute.as_("member", VERSION).get(f"/v2.1/servers/{town.server_id}/ips")
    assert [one["addr"] for one in ips["addresses"]["blue"]] == [fixed[0][0], floating["floating_ip_address"]]
    path = f"/v2.0/floatingips/{floating['id']}"
    await town.network.member.put(path, {"floatingip": {"port_id": None}})
    assert await town.seen() == fixed
    await town.network.member.put(path, {"floatingip": {"port_id": await town.port()}})
    assert len(await town.seen()) == 2
    await town.network.member.delete(path)
    assert await town.seen() == fixed


async def test_security_groups_of_the_port_are_the_servers(town: Town) -> None:
    assert (await town.shown())["security_groups"] == [{"name": "default"}]
    group = (await town.network.member.post("/v2.0/security-groups", {"security_group": {"name": "web"}}, 201))[
        "security_group"
    ]
    await town.network.member.put(f"/v2.0/ports/{await town.port()}", {"port": {"security_groups": [group["id"]]}})
    assert (await town.shown())["security_groups"] == [{"name": "web"}]
    await town.network.member.put(f"/v2.0/security-groups/{group['id']}", {"security_group": {"name": "www"}})
    assert (await town.shown())["security_groups"] == [{"name": "www"}]


async def test_an_address_that_changes_and_a_port_that_goes(town: Town) -> None:
    port_id = await town.port()
    asked = [{"subnet_id": town.subnet["id"], "ip_address": "10.0.0.77"}]
    await town.network.admin.put(f"/v2.0/ports/{port_id}", {"port": {"fixed_ips": asked}})
    assert await town.seen() == [("10.0.0.77", "fixed")]
    await town.network.member.delete(f"/v2.0/ports/{port_id}")
    assert await town.seen() == []


async def test_what_nobody_told_is_found_out(town: Town) -> None:
    town.network.service.server_events = None
    floating = await town.floating()
    assert len(await town.seen()) == 1
    assert await addresses.run(town.compute.compute) == 1
    assert (floating["floating_ip_address"], "floating") in await town.seen()
    assert await addresses.run(town.compute.compute) == 0


async def test_a_step_that_comes_late_does_not_take_away_what_was_told_meanwhile(town: Town) -> None:
    compute = town.compute.compute
    bound = await compute.peers.networks.ports_of("service", town.server_id)
    await town.floating()
    assert len(await town.seen()) == 2
    built = Built(bound, [], Power.RUNNING)
    await compute.db.write(set_active, town.server_id, "", built, compute.world.clock.now())
    assert len(await town.seen()) == 2
