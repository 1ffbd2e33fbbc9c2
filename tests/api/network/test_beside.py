"""One request where the published API takes several: what stands beside a port or a network, and without it."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import AsgiTransport, Client
from kilonova.network.client import NetworkClient
from kilonova.network.contract import BESIDE_HEADER, PortRequest, ServerNics
from tests.api.network.cloud import Cloud
from tests.api.support import PROJECT


class Counted:
    """Network's door; `theirs`: as of a network service that is not ours, and does not know the header."""

    def __init__(self, cloud: Cloud, *, theirs: bool) -> None:
        self.asked: list[str] = []
        self._app = cloud.app
        self._theirs = theirs
        self.client = NetworkClient(Client(AsgiTransport(self)))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        unknown = BESIDE_HEADER.encode() if self._theirs else b""
        await self._app({**scope, "headers": [h for h in scope["headers"] if h[0] != unknown]}, receive, send)


def nics(server_id: str, *requests: PortRequest) -> ServerNics:
    return ServerNics(server_id, "web", PROJECT, "nova", "node1", requests, ("default",))


@pytest.mark.parametrize("theirs", [False, True])
async def test_a_port_is_bound_with_all_that_its_server_needs_to_know(hosted: Cloud, theirs: bool) -> None:
    network = await hosted.network(name="blue")
    subnet = await hosted.subnet(network["id"], dns_nameservers=["10.0.0.53"])
    door = Counted(hosted, theirs=theirs)
    [bound] = await door.client.bind("service", "key", nics("server-1", PortRequest(network_id=network["id"])))
    assert (bound.network_name, bound.mtu, bound.dns) == ("blue", network["mtu"], ["10.0.0.53"])
    assert [(ip.subnet_id, ip.cidr, ip.gateway) for ip in bound.fixed_ips] == [
        (subnet["id"], subnet["cidr"], subnet["gateway_ip"])
    ]
    rest = ["GET /v2.0/networks", "GET /v2.0/subnets"] if theirs else []
    assert door.asked == ["POST /v2.0/ports", *rest]


async def test_a_port_that_was_there_and_one_that_is_made_are_bound_together(hosted: Cloud) -> None:
    first, second = await hosted.network(name="first"), await hosted.network(name="second")
    for number, network in enumerate((first, second)):
        await hosted.subnet(network["id"], cidr=f"10.8.{number}.0/24")
    port = await hosted.port(first["id"])
    wanted = (PortRequest(network_id=second["id"]), PortRequest(port_id=port["id"]))
    bound = await Counted(hosted, theirs=False).client.bind("service", "key", nics("server-2", *wanted))
    assert [(one.network_name, one.fixed_ips[0].cidr) for one in bound] == [
        ("second", "10.8.1.0/24"), ("first", "10.8.0.0/24"),
    ]  # fmt: skip


@pytest.mark.parametrize("theirs", [False, True])
async def test_no_room_for_one_more_port_is_told_before_a_server_is_made(cloud: Cloud, theirs: bool) -> None:
    network = await cloud.network()
    await cloud.subnet(network["id"], enable_dhcp=False)
    door = Counted(cloud, theirs=theirs)
    wanted = [PortRequest(network_id=network["id"])]
    assert await door.client.check("member", PROJECT, wanted) == wanted
    assert len(door.asked) == (2 if theirs else 1)
    await cloud.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"port": 1}})
    await door.client.check("member", PROJECT, wanted)
    await cloud.port(network["id"])
    with pytest.raises(Fault) as refused:
        await door.client.check("member", PROJECT, wanted)
    assert refused.value.kind is Kind.OVER_QUOTA
    await cloud.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"port": -1}})
    assert await door.client.check("member", PROJECT, wanted) == wanted


@pytest.mark.parametrize("theirs", [False, True])
async def test_a_server_is_unbound_from_its_ports_and_from_those_that_nobody_recorded(
    hosted: Cloud, theirs: bool
) -> None:
    network = await hosted.network()
    await hosted.subnet(network["id"])
    door, request = Counted(hosted, theirs=theirs), PortRequest(network_id=network["id"])
    looked = ["GET /v2.0/ports"]

    async def unbinds(server: str, *requests: PortRequest, recorded: int) -> list[str]:
        made = await door.client.bind("service", server, nics(server, *requests))
        door.asked.clear()
        await door.client.unbind("service", server, made[:recorded])
        assert (await hosted.admin.get(f"/v2.0/ports?device_id={server}"))["ports"] == []
        return [asked if asked in looked else asked.split()[0] for asked in door.asked]

    assert await unbinds("server-1", request, recorded=1) == ["DELETE", *(looked if theirs else [])]
    assert await unbinds("server-2", request, request, recorded=1) == ["DELETE", *looked, "DELETE"]
    assert await unbinds("server-3", request, recorded=0) == [*looked, "DELETE"]
    port = await hosted.port(network["id"])
    mixed = ["GET", "PUT", "DELETE", *(looked if theirs else [])]
    assert await unbinds("server-4", request, PortRequest(port_id=port["id"]), recorded=2) == mixed
    assert (await hosted.admin.get(f"/v2.0/ports/{port['id']}"))["port"]["device_id"] == ""


async def test_only_a_service_learns_whether_a_device_has_other_ports(hosted: Cloud) -> None:
    network = await hosted.network()
    for token, answer in (("member", None), ("service", "alone")):
        port = await hosted.port(network["id"], device_id="box")
        client = Client(AsgiTransport(hosted.app))
        path = f"/v2.0/ports/{port['id']}"
        reply = await client.request("DELETE", path, token=token, headers={BESIDE_HEADER: "device"})
        assert (reply.status, reply.headers.get(BESIDE_HEADER)) == (204, answer)


async def test_nothing_stands_beside_what_nobody_asked_for(cloud: Cloud) -> None:
    network = await cloud.network()
    assert set(await cloud.member.get(f"/v2.0/networks/{network['id']}")) == {"network"}
    made = await cloud.member.post("/v2.0/ports", {"port": {"network_id": network["id"]}}, 201)
    assert set(made) == {"port"}
