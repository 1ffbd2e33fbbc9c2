"""Ports on hosts: bound, built by fake agents, told to compute; groups, tunnels, DHCP and routers follow."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa

from kilonova.base.faults import Fault
from kilonova.bus import rpc
from kilonova.bus.contract import Target
from kilonova.bus.memory import MemoryBus
from kilonova.http.client import AsgiTransport, Client
from kilonova.network import schema
from kilonova.network.bootstrap import Outside, ensure_external_network
from kilonova.network.client import NetworkClient
from kilonova.network.contract import EXCHANGE, PLUGIN_TOPIC, Plugin, PortRequest, ServerNics, WantedL2
from kilonova.network.outbox import store as outbox_store
from kilonova.network.port import store as port_store
from kilonova.network.reconcile import bindings, outbox, unbuilt_ports
from kilonova.network.service import RULES, network_app
from kilonova.node.agents.l2 import L2Agent
from kilonova.policy.personas import network_base_rules
from kilonova.policy.rules import Policy
from tests.api.network.cloud import Cloud, Host, until
from tests.api.support import ADMIN_PROJECT, CALLERS, PROJECT, FakeAuthenticator

BOOT = {"binding:host_id": "node1", "device_id": "server-1", "device_owner": "compute:nova"}


def peer(cloud: Cloud) -> NetworkClient:
    """Compute's client; its token `served` is the member's beside compute's service token."""
    served = dataclasses.replace(CALLERS["member"], service_roles=("service",), token="served")
    authenticator = FakeAuthenticator({**CALLERS, "served": served})
    app = network_app(cloud.service, authenticator, Policy((*network_base_rules, *RULES)))
    return NetworkClient(Client(AsgiTransport(app)))


def nics(*requests: PortRequest, host: str = "node1", server: str = "server-1") -> ServerNics:
    return ServerNics(server, "web", PROJECT, "nova", host, requests, ("default",))


async def status(cloud: Cloud, port_id: str) -> str:
    return str((await cloud.admin.get(f"/v2.0/ports/{port_id}"))["port"]["status"])


async def test_a_bound_port_is_built_and_compute_hears_of_it(hosted: Cloud) -> None:
    network = await hosted.network()
    await hosted.subnet(network["id"])
    port = await hosted.port(network["id"], hosted.admin, project_id=PROJECT, **BOOT)
    assert (port["binding:vif_type"], port["status"]) == ("bridge", "DOWN")
    await until(lambda: hosted.compute.events)
    assert hosted.compute.events == [("network-vif-plugged", "server-1", port["id"])]
    assert await status(hosted, port["id"]) == "ACTIVE"
    built = hosted.hosts[0].switch.ports[port["id"]]
    assert built.fixed_ips[0].cidr == "10.0.0.0/24"
    assert (built.segment.type, built.mtu) == ("vxlan", 1450)
    await hosted.member.delete(f"/v2.0/ports/{port['id']}")
    await until(lambda: port["id"] not in hosted.hosts[0].switch.ports)


async def test_dhcp_serves_the_network_and_learns_its_ports(hosted: Cloud) -> None:
    network = await hosted.network()
    subnet = await hosted.subnet(network["id"])
    servers = hosted.hosts
    await until(lambda: any(network["id"] in host.dhcp.servers for host in servers))
    host = next(host for host in servers if network["id"] in host.dhcp.servers)
    port = await hosted.port(network["id"], extra_dhcp_opts=[{"opt_name": "mtu", "opt_value": "1400"}], dns_name="web")
    await until(lambda: port["id"] in {h.port_id for h in host.dhcp.servers[network["id"]].hosts})
    [lease] = host.dhcp.servers[network["id"]].hosts
    assert (lease.hostname, lease.options) == ("web", (("mtu", "1400"),))
    own = (await hosted.admin.get("/v2.0/ports?device_owner=network:dhcp"))["ports"]
    assert [one["binding:host_id"] for one in own] == [host.name]
    path = f"/v2.0/ports/{port['id']}"
    await hosted.member.put(path, {"port": {"dns_name": "mail", "fixed_ips": [{"ip_address": "10.0.0.77"}]}})
    await until(lambda: [h.hostname for h in host.dhcp.servers[network["id"]].hosts] == ["mail"])
    assert host.dhcp.servers[network["id"]].hosts[0].ips == ("10.0.0.77",)
    before = (await hosted.member.get(path))["port"]
    await hosted.subnet(network["id"], "fd00:1::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
    await until(lambda: len(host.dhcp.servers[network["id"]].hosts[0].ips) == 2)
    now = (await hosted.member.get(path))["port"]["revision_number"]
    assert host.dhcp.servers[network["id"]].hosts[0].revision == now > before["revision_number"]
    await hosted.member.delete(path)
    await until(lambda: not host.dhcp.servers[network["id"]].hosts)
    await hosted.member.put(f"/v2.0/subnets/{subnet['id']}", {"subnet": {"enable_dhcp": False}})
    await until(lambda: subnet["id"] not in {one.id for one in host.dhcp.servers[network["id"]].subnets if one.dhcp})
    [six] = (await hosted.member.get(f"/v2.0/subnets?network_id={network['id']}&ip_version=6"))["subnets"]
    await hosted.member.delete(f"/v2.0/subnets/{six['id']}")
    await until(lambda: network["id"] not in host.dhcp.servers)
    assert (await hosted.admin.get("/v2.0/ports?device_owner=network:dhcp"))["ports"] == []


async def test_hosts_learn_tunnels_and_members_of_each_other(hosted: Cloud) -> None:
    one, two = hosted.hosts
    network = await hosted.network()
    await hosted.subnet(network["id"], enable_dhcp=False)
    first = await hosted.port(network["id"], hosted.admin, project_id=PROJECT, **BOOT)
    second = await hosted.port(
        network["id"], hosted.admin, project_id=PROJECT, **{**BOOT, "binding:host_id": "node2", "device_id": "server-2"}
    )
    await until(lambda: network["id"] in one.switch.vteps and one.switch.vteps[network["id"]])
    assert one.switch.vteps[network["id"]]["10.9.0.2"].macs == (second["mac_address"],)
    await until(lambda: two.switch.vteps.get(network["id"]))
    assert two.switch.vteps[network["id"]]["10.9.0.1"].macs == (first["mac_address"],)
    [group] = first["security_groups"]
    both = {p["fixed_ips"][0]["ip_address"] for p in (first, second)}
    await until(lambda: set(one.switch.groups[group].member_ips) == both)
    rule = {
        "security_group_id": group,
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": 22,
    }
    await hosted.member.post("/v2.0/security-group-rules", {"security_group_rule": rule}, 201)
    await until(lambda: any(r.port_min == 22 for r in two.switch.groups[group].rules))
    await hosted.member.delete(f"/v2.0/ports/{second['id']}")
    await until(lambda: not one.switch.vteps[network["id"]])
    await until(lambda: len(one.switch.groups[group].member_ips) == 1)


class Asked:
    """What the host's L2 agent asks network to tell it."""

    def __init__(self, host: Host) -> None:
        self.questions: list[Any] = []
        agent = next(one for one in host.agents if isinstance(one, L2Agent))
        self._plugin: Plugin = agent.plugin
        agent.plugin = cast("Plugin", self)

    async def wanted_l2(self, host: str, port_ids: list[str] | None, network_ids: list[str] | None) -> WantedL2:
        self.questions.append((port_ids, network_ids))
        return await self._plugin.wanted_l2(host, port_ids, network_ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plugin, name)


async def test_a_host_that_has_the_network_and_the_groups_asks_nothing_about_one_more_port(hosted: Cloud) -> None:
    host, other = hosted.hosts
    network = await hosted.network()
    await hosted.subnet(network["id"], enable_dhcp=False)

    async def port(**more: Any) -> dict[str, Any]:
        return await hosted.port(network["id"], hosted.admin, project_id=PROJECT, **{**BOOT, **more})

    first = await port()
    [group] = first["security_groups"]
    await until(lambda: group in host.switch.groups)
    asked = Asked(host)
    second = await port(device_id="server-2")
    await until(lambda: second["id"] in host.switch.ports)
    built = host.switch.ports[second["id"]]
    await hosted.service.change(port_store.update_port, second["id"], {"host": ""}, None, None)
    await until(lambda: second["id"] not in host.switch.ports)
    assert host.switch.groups[group].member_ips == (first["fixed_ips"][0]["ip_address"],)
    assert asked.questions == []
    await hosted.service.change(port_store.update_port, second["id"], {"host": "node1"}, None, None)
    await until(lambda: second["id"] in host.switch.ports)
    fetched = host.switch.ports[second["id"]]
    assert built == msgspec.structs.replace(fetched, revision=0), "it was told what it is told when it asks"
    assert [ports for ports, _ in asked.questions] == [[second["id"]]]

    ours = await hosted.member.post("/v2.0/security-groups", {"security_group": {"name": "ours"}}, 201)
    mine = await port(device_id="server-3", security_groups=[ours["security_group"]["id"]])
    await until(lambda: mine["id"] in host.switch.ports)
    assert [ports for ports, _ in asked.questions[1:]] == [[mine["id"]]], "a group that no port has here is asked for"
    far = await port(device_id="server-4", **{"binding:host_id": "node2"})
    await until(lambda: far["id"] in other.switch.ports and far["fixed_ips"][0]["ip_address"] in members(host, group))
    await hosted.member.delete(f"/v2.0/ports/{far['id']}")
    await until(lambda: far["fixed_ips"][0]["ip_address"] not in members(host, group))


def members(host: Host, group: str) -> tuple[str, ...]:
    return host.switch.groups[group].member_ips


async def test_routers_and_floating_ips_reach_the_network_node(hosted: Cloud) -> None:
    outside, _ = await hosted.outside()
    network = await hosted.network()
    subnet = await hosted.subnet(network["id"], host_routes=[])
    port = await hosted.port(network["id"])
    no_way = {"floatingip": {"floating_network_id": outside["id"], "port_id": port["id"]}}
    said = await hosted.member.post("/v2.0/floatingips", no_way, 404)
    assert said["NeutronError"]["type"] == "ExternalGatewayForFloatingIPNotFound"
    router = await hosted.router(outside, subnet)
    host = await routed(hosted, router["id"])
    floating = (await hosted.member.post("/v2.0/floatingips", no_way, 201))["floatingip"]
    assert (floating["fixed_ip_address"], floating["router_id"]) == (port["fixed_ips"][0]["ip_address"], router["id"])
    await until(lambda: host.routers.routers[router["id"]].floating_ips)
    built = host.routers.routers[router["id"]]
    assert built.gateway is not None
    assert (built.gateway.snat, built.gateway.next_hops) == (True, ("203.0.113.1",))
    assert built.interfaces[0].addresses == ("10.0.0.1/24",)
    assert built.floating_ips[0].floating_ip == floating["floating_ip_address"]
    taken = await hosted.member.send(
        "PUT", f"/v2.0/routers/{router['id']}", {"router": {"external_gateway_info": None}}
    )
    assert taken.json()["NeutronError"]["type"] == "RouterExternalGatewayInUseByFloatingIp"
    leg = f"/v2.0/routers/{router['id']}/remove_router_interface"
    assert (await hosted.member.send("PUT", leg, {"subnet_id": subnet["id"]})).status == 409
    path = f"/v2.0/floatingips/{floating['id']}"
    assert (await hosted.member.put(path, {"floatingip": {"port_id": None}}))["floatingip"]["status"] == "DOWN"
    await until(lambda: not host.routers.routers[router["id"]].floating_ips)
    assert (await hosted.member.send("DELETE", f"/v2.0/routers/{router['id']}")).status == 409
    await hosted.member.put(leg, {"subnet_id": subnet["id"]})
    await hosted.member.delete(path)
    await hosted.member.delete(f"/v2.0/routers/{router['id']}")
    await until(lambda: router["id"] not in host.routers.routers)
    left = (await hosted.admin.get(f"/v2.0/ports?network_id={outside['id']}"))["ports"]
    assert left == []


async def routed(cloud: Cloud, router_id: str) -> Host:
    await until(lambda: any(router_id in host.routers.routers for host in cloud.hosts))
    host = next(host for host in cloud.hosts if router_id in host.routers.routers)
    await until(lambda: host.routers.routers[router_id].interfaces and host.routers.routers[router_id].gateway)
    return host


async def test_a_host_that_cannot_carry_the_network_fails_the_binding(hosted: Cloud) -> None:
    network = await hosted.network()
    nowhere = await hosted.port(network["id"], hosted.admin, **{**BOOT, "binding:host_id": "node9"})
    assert nowhere["binding:vif_type"] == "binding_failed"
    path = f"/v2.0/ports/{nowhere['id']}"
    moved = (await hosted.admin.put(path, {"port": {"binding:host_id": "node2"}}))["port"]
    assert moved["binding:vif_type"] == "bridge"
    await until(lambda: nowhere["id"] in hosted.hosts[1].switch.ports)
    await hosted.admin.put(path, {"port": {"binding:host_id": "node1"}})
    await until(lambda: nowhere["id"] in hosted.hosts[0].switch.ports)
    await until(lambda: nowhere["id"] not in hosted.hosts[1].switch.ports)


async def test_events_wait_while_compute_is_away(hosted: Cloud) -> None:
    hosted.compute.away = True
    network = await hosted.network()
    port = await hosted.port(network["id"], hosted.admin, **BOOT)
    await until(lambda: port["id"] in hosted.hosts[0].switch.ports)
    while await status(hosted, port["id"]) != "ACTIVE":
        await hosted.world.clock.sleep(0.01)
    hosted.compute.away = False
    async for _ in _until_told(hosted):
        await outbox.run(hosted.service)
    assert hosted.compute.events == [("network-vif-plugged", "server-1", port["id"])]


async def test_an_event_that_compute_did_not_take_is_sent_although_new_ones_come_all_the_time(hosted: Cloud) -> None:
    hosted.compute.away = True
    await hosted.service.change(outbox_store.put, "network-vif-plugged", "server-1", "late")
    tries = sa.select(schema.outbox.c.tries)
    while not await hosted.db.read(lambda connection: connection.scalar(tries)):
        await hosted.world.clock.sleep(0.01)
    hosted.compute.away = False
    for number in range(200):
        await hosted.service.change(outbox_store.put, "network-changed", "server-2", f"port-{number}")
        await hosted.world.clock.sleep(0.05)
        if ("network-vif-plugged", "server-1", "late") in hosted.compute.events:
            return
    raise AssertionError(hosted.compute.events)


async def _until_told(cloud: Cloud) -> Any:
    for _ in range(300):
        if cloud.compute.events:
            return
        await cloud.world.clock.sleep(0.02)
        yield


async def test_what_waited_for_agents_is_done_when_they_come(cloud: Cloud) -> None:
    network = await cloud.network()
    subnet = await cloud.subnet(network["id"])
    outside, _ = await cloud.outside()
    router = await cloud.router(outside, subnet)
    assert (await cloud.admin.get("/v2.0/ports?device_owner=network:dhcp"))["ports"] == []
    host = Host(cloud, "late", 7)
    await host.start()
    try:
        await until(lambda: network["id"] in host.dhcp.servers and router["id"] in host.routers.routers)
        await bindings.run(cloud.service)
        ports = (await cloud.admin.get(f"/v2.0/ports?device_id={router['id']}"))["ports"]
        assert {port["binding:host_id"] for port in ports} == {"late"}
        assert {port["binding:vif_type"] for port in ports} == {"bridge"}
    finally:
        await host.close()


async def test_a_host_may_only_ask_about_itself(hosted: Cloud) -> None:
    bus = MemoryBus(hosted.world, hosted.broker, "l2_agent.node1")
    plugin: Plugin = rpc.client(Plugin, bus, Target(EXCHANGE, PLUGIN_TOPIC))
    assert (await plugin.wanted_l2("node1", None, None)).full
    for question in (plugin.wanted_l2("node2", None, None), plugin.ports_up("node2", ["x"], [])):
        with pytest.raises(Fault, match="only ask about itself"):
            await question


async def test_compute_checks_binds_and_unbinds(hosted: Cloud) -> None:
    client = peer(hosted)
    assert await client.check("served", PROJECT, []) == []
    network = await hosted.network(name="blue")
    with pytest.raises(Fault, match="requires a subnet"):
        await client.check("served", PROJECT, [PortRequest(network_id=network["id"])])
    await hosted.subnet(network["id"], dns_nameservers=["1.1.1.1"])
    assert await client.check("served", PROJECT, []) == [PortRequest(network_id=network["id"])]
    with pytest.raises(Fault, match="not a valid ip"):
        await client.check("served", PROJECT, [PortRequest(network_id=network["id"], fixed_ip="10.5.0.1")])
    await client.check_security_groups("served", PROJECT, ["default"])
    with pytest.raises(Fault, match="could not be found"):
        await client.check_security_groups("served", PROJECT, ["nothing"])

    adopted = await hosted.port(network["id"], name="mine")
    wanted = nics(PortRequest(network_id=network["id"], tag="nic1"), PortRequest(port_id=adopted["id"]))
    made, kept = await client.bind("served", "op/bind", wanted)
    assert [made.id, kept.id] == [port.id for port in await client.bind("served", "op/bind", wanted)]
    assert (made.made_by_us, kept.made_by_us, made.tag, made.network_name) == (True, False, "nic1", "blue")
    assert (made.security_groups, kept.security_groups) == (["default"], ["default"])
    assert (made.dns, made.mtu, made.fixed_ips[0].gateway) == (["1.1.1.1"], 1450, "10.0.0.1")
    await until(lambda: len(hosted.compute.events) == 2)
    assert {port.status for port in await client.ports_of("served", "server-1")} == {"ACTIVE"}
    with pytest.raises(Fault, match="still in use"):
        await client.bind("served", "op2/bind", nics(PortRequest(port_id=adopted["id"]), server="server-2"))
    device = await hosted.worker.plugin.find_device(network["id"], "", made.fixed_ips[0].address)
    assert device == ("server-1", PROJECT)

    await client.unbind("served", "server-1", [])
    left = (await hosted.admin.get("/v2.0/ports?device_owner="))["ports"]
    assert [(port["id"], port["binding:host_id"]) for port in left] == [(adopted["id"], "")]
    await client.unbind("served", "server-1", [made, kept])


async def test_compute_hears_of_a_port_that_a_user_deletes_and_not_of_one_that_a_service_lets_go(
    hosted: Cloud,
) -> None:
    network = await hosted.network()
    await hosted.subnet(network["id"])
    request = PortRequest(network_id=network["id"])
    mine, theirs = await peer(hosted).bind("served", "op/bind", nics(request, request))
    await until(lambda: len(hosted.compute.events) == 2)
    await peer(hosted).release("served", "server-1", mine)
    await hosted.admin.delete(f"/v2.0/ports/{theirs.id}", 204)
    await until(lambda: len(hosted.compute.events) == 3)
    assert hosted.compute.events[2] == ("network-vif-deleted", "server-1", theirs.id)


async def test_a_bind_that_fails_leaves_nothing(hosted: Cloud) -> None:
    network = await hosted.network()
    await hosted.subnet(network["id"])
    wanted = nics(PortRequest(network_id=network["id"]), host="node9")
    with pytest.raises(Fault, match="Binding failed"):
        await peer(hosted).bind("served", "op/bind", wanted)
    assert (await hosted.admin.get("/v2.0/ports?device_id=server-1"))["ports"] == []
    assert await peer(hosted).bind("served", "op/bind", nics(PortRequest(network_id=network["id"])))


async def test_a_bind_that_fails_takes_nothing_that_the_server_had(hosted: Cloud) -> None:
    """An interface that cannot be attached to a running server must not cost it the ones that it has."""
    network = await hosted.network()
    await hosted.subnet(network["id"])
    [had] = await peer(hosted).bind("served", "op/bind", nics(PortRequest(network_id=network["id"])))
    other = nics(PortRequest(network_id=network["id"]), server="server-2")
    [busy] = await peer(hosted).bind("served", "op2/bind", other)
    for key, requests in (
        ("op3/port", [PortRequest(port_id=busy.id)]),
        ("op4/port", [PortRequest(network_id=network["id"]), PortRequest(port_id=busy.id)]),
    ):
        with pytest.raises(Fault, match="still in use"):
            await peer(hosted).bind("served", key, nics(*requests))
        left = await peer(hosted).ports_of("served", "server-1")
        assert [port.id for port in left] == [had.id]
    assert [port.id for port in await peer(hosted).ports_of("served", "server-2")] == [busy.id]


async def test_ports_not_reported_in_time_are_told_again(hosted: Cloud) -> None:
    network = await hosted.network()
    port = await hosted.port(network["id"], hosted.admin, **BOOT)
    await until(lambda: hosted.compute.events)
    assert await unbuilt_ports.run(hosted.service) == 0
    await hosted.worker.plugin.ports_up("node1", [], [port["id"]])
    assert await status(hosted, port["id"]) == "DOWN"
    assert await unbuilt_ports.run(hosted.service) == 0, "it has its time first"


async def test_the_way_outside_is_made_once(cloud: Cloud) -> None:
    outside = Outside(ADMIN_PROJECT, "203.0.113.0/24", "203.0.113.1", ("203.0.113.10", "203.0.113.200"))
    first, second = [await ensure_external_network(cloud.service, outside) for _ in range(2)]
    assert first == second
    [network] = (await cloud.member.get("/v2.0/networks?router:external=True"))["networks"]
    assert (network["id"], network["name"], network["shared"]) == (first, "public", False)
    floating = {"floatingip": {"floating_network_id": first}}
    made = (await cloud.member.post("/v2.0/floatingips", floating, 201))["floatingip"]
    assert made["floating_ip_address"] == "203.0.113.10"
