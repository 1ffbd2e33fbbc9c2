"""Networks, subnets and ports through the door, by persona."""

from __future__ import annotations

import asyncio

from kilonova.network.work import Draw
from tests.api.network.cloud import Cloud
from tests.api.support import OTHER_PROJECT, PROJECT


async def test_a_network_shows_what_its_owner_may_see(cloud: Cloud) -> None:
    made = await cloud.network(name="blue", description="ours")
    assert made["project_id"] == made["tenant_id"] == PROJECT
    assert (made["status"], made["mtu"], made["shared"], made["router:external"]) == ("ACTIVE", 1450, False, False)
    assert "provider:network_type" not in made
    seen = (await cloud.admin.get(f"/v2.0/networks/{made['id']}"))["network"]
    assert seen["provider:network_type"] == "vxlan"
    assert 1 <= seen["provider:segmentation_id"] <= 65535
    changed = (await cloud.member.put(f"/v2.0/networks/{made['id']}", {"network": {"name": "red"}}))["network"]
    assert (changed["name"], changed["revision_number"]) == ("red", made["revision_number"] + 1)
    await cloud.member.delete(f"/v2.0/networks/{made['id']}")
    gone = await cloud.member.get(f"/v2.0/networks/{made['id']}", 404)
    assert gone["NeutronError"]["type"] == "NetworkNotFound"


async def test_foreign_networks_are_not_there_and_shared_ones_are_not_yours(cloud: Cloud) -> None:
    mine = await cloud.network()
    shared = await cloud.network(cloud.admin, name="everybody", shared=True)
    for method in ("GET", "PUT", "DELETE"):
        body = {"network": {"name": "x"}} if method == "PUT" else None
        assert (await cloud.other.send(method, f"/v2.0/networks/{mine['id']}", body)).status == 404
    assert [n["id"] for n in (await cloud.other.get("/v2.0/networks"))["networks"]] == [shared["id"]]
    refused = await cloud.other.put(f"/v2.0/networks/{shared['id']}", {"network": {"name": "x"}}, 403)
    assert refused["NeutronError"]["type"] == "PolicyNotAuthorized"
    assert (await cloud.member.send("POST", "/v2.0/networks", {"network": {"shared": True}})).status == 403
    assert (await cloud.reader.send("POST", "/v2.0/networks", {"network": {}})).status == 403
    assert (await cloud.member.as_("nobody").send("GET", "/v2.0/networks")).status == 401
    foreign = {"network": {"project_id": OTHER_PROJECT}}
    assert (await cloud.member.send("POST", "/v2.0/networks", foreign)).status == 403
    assert (await cloud.admin.post("/v2.0/networks", foreign, 201))["network"]["project_id"] == OTHER_PROJECT


async def test_bulk_is_all_or_nothing(cloud: Cloud) -> None:
    body = {"networks": [{"name": "a"}, {"name": "b"}]}
    made = (await cloud.member.post("/v2.0/networks", body, 201))["networks"]
    assert [one["name"] for one in made] == ["a", "b"]
    one = made[0]["id"]
    ports = [{"network_id": one, "mac_address": "fa:16:3e:00:00:01"}] * 2
    assert (await cloud.member.send("POST", "/v2.0/ports", {"ports": ports})).status == 409
    assert (await cloud.member.get("/v2.0/ports"))["ports"] == []


async def test_lists_filter_sort_page_and_choose_fields(cloud: Cloud) -> None:
    for name in ("c", "a", "b", ""):
        await cloud.network(name=name)
    names = (await cloud.member.get("/v2.0/networks?name=a&name=c&fields=name&sort_key=name"))["networks"]
    assert sorted(one["name"] for one in names) == ["a", "c"]
    assert all(set(one) == {"name"} for one in names)
    assert len((await cloud.member.get("/v2.0/networks?name="))["networks"]) == 1
    first = await cloud.member.get("/v2.0/networks?limit=2&sort_key=name&sort_dir=desc")
    assert [one["name"] for one in first["networks"]] == ["c", "b"]
    [link] = first["networks_links"]
    second = await cloud.member.get(link["href"].removeprefix("http://localhost"))
    assert [one["name"] for one in second["networks"]] == ["a", ""]
    back = next(one["href"] for one in second["networks_links"] if one["rel"] == "previous")
    again = await cloud.member.get(back.removeprefix("http://localhost"))
    assert [one["name"] for one in again["networks"]] == ["c", "b"]
    assert (await cloud.member.send("GET", "/v2.0/networks?colour=red")).status == 400
    assert (await cloud.member.send("GET", "/v2.0/networks?limit=x")).status == 400
    assert (await cloud.member.get("/v2.0/networks?router:external=True"))["networks"] == []


async def test_subnets_choose_gateway_and_pools_and_refuse_overlaps(cloud: Cloud) -> None:
    network = await cloud.network()
    subnet = await cloud.subnet(network["id"], "10.0.0.0/24", dns_nameservers=["1.1.1.1"])
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    overlap = {"subnet": {"network_id": network["id"], "cidr": "10.0.0.128/25", "ip_version": 4}}
    assert (await cloud.member.post("/v2.0/subnets", overlap, 400))["NeutronError"]["type"] == "InvalidInput"
    bad = {"subnet": {"network_id": network["id"], "cidr": "10.1.0.0/24", "ip_version": 6}}
    assert (await cloud.member.send("POST", "/v2.0/subnets", bad)).status == 400
    pool = [{"start": "10.2.0.1", "end": "10.2.0.9"}]
    clash = {"network_id": network["id"], "cidr": "10.2.0.0/24", "ip_version": 4, "allocation_pools": pool}
    said = await cloud.member.post("/v2.0/subnets", {"subnet": clash}, 409)
    assert said["NeutronError"]["type"] == "GatewayConflictWithAllocationPools"
    no_gateway = await cloud.subnet(network["id"], "10.3.0.0/30", gateway_ip=None)
    assert no_gateway["gateway_ip"] is None
    assert no_gateway["allocation_pools"] == [{"start": "10.3.0.1", "end": "10.3.0.2"}]
    shown = (await cloud.member.get(f"/v2.0/networks/{network['id']}"))["network"]
    assert set(shown["subnets"]) == {subnet["id"], no_gateway["id"]}


class Repeats(Draw):
    """Draws a few MACs twice."""

    drawn = 0

    def mac(self) -> str:
        self.drawn += 1
        return f"fa:16:3e:00:00:{self.drawn // 3:02x}"


async def test_a_port_gets_another_mac_when_its_network_has_the_one_that_was_drawn(cloud: Cloud) -> None:
    cloud.service.draw = Repeats(cloud.world)
    network = await cloud.network()
    ports = [await cloud.port(network["id"]) for _ in range(3)]
    assert [port["mac_address"][-2:] for port in ports] == ["00", "01", "02"]


async def test_a_port_gets_mac_addresses_and_the_default_group(cloud: Cloud) -> None:
    network = await cloud.network()
    subnet = await cloud.subnet(network["id"])
    slaac = await cloud.subnet(
        network["id"], "fd00:1::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac", name="six"
    )
    port = await cloud.port(network["id"])
    assert port["mac_address"].startswith("fa:16:3e:")
    assert {ip["subnet_id"] for ip in port["fixed_ips"]} == {subnet["id"], slaac["id"]}
    assert port["fixed_ips"][0]["ip_address"] == "10.0.0.2"
    six = next(ip["ip_address"] for ip in port["fixed_ips"] if ip["subnet_id"] == slaac["id"])
    octets = port["mac_address"].split(":")
    assert six.endswith(f"ff:fe{octets[3]}:{int(octets[4] + octets[5], 16):x}")
    [group] = (await cloud.member.get("/v2.0/security-groups"))["security_groups"]
    assert (group["name"], port["security_groups"]) == ("default", [group["id"]])
    assert "binding:host_id" not in port
    assert (await cloud.admin.get(f"/v2.0/ports/{port['id']}"))["port"]["binding:vif_type"] == "unbound"
    in_use = await cloud.member.send("DELETE", f"/v2.0/subnets/{subnet['id']}")
    assert (in_use.status, in_use.json()["NeutronError"]["type"]) == (409, "SubnetInUse")
    assert (await cloud.member.send("DELETE", f"/v2.0/networks/{network['id']}")).status == 409
    await cloud.member.delete(f"/v2.0/ports/{port['id']}")
    await cloud.member.delete(f"/v2.0/networks/{network['id']}")
    assert (await cloud.member.get("/v2.0/subnets"))["subnets"] == []


async def test_addresses_are_given_once_and_pools_end(cloud: Cloud) -> None:
    network = await cloud.network()
    subnet = await cloud.subnet(network["id"], "10.0.0.0/29")
    wanted = [{"subnet_id": subnet["id"], "ip_address": "10.0.0.4"}]
    fixed = await cloud.port(network["id"], fixed_ips=wanted)
    taken = await cloud.member.post("/v2.0/ports", {"port": {"network_id": network["id"], "fixed_ips": wanted}}, 409)
    assert taken["NeutronError"]["type"] == "IpAddressAlreadyAllocated"
    replies = await asyncio.gather(
        *(cloud.member.send("POST", "/v2.0/ports", {"port": {"network_id": network["id"]}}) for _ in range(6))
    )
    assert sorted(reply.status for reply in replies) == [201, 201, 201, 201, 409, 409]
    given = [r.json()["port"]["fixed_ips"][0]["ip_address"] for r in replies if r.status == 201]
    assert sorted(given) == ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"]
    await cloud.member.delete(f"/v2.0/ports/{fixed['id']}")
    assert (await cloud.port(network["id"]))["fixed_ips"][0]["ip_address"] == "10.0.0.4"
    outside = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.9.9.9"}]}}
    said = await cloud.member.post("/v2.0/ports", outside, 400)
    assert said["NeutronError"]["type"] == "InvalidIpForNetwork"


async def test_ports_change_and_are_found_by_what_they_have(cloud: Cloud) -> None:
    network = await cloud.network()
    subnet = await cloud.subnet(network["id"])
    port = await cloud.port(network["id"], name="one", device_id="server-1")
    await cloud.port(network["id"], name="two")
    path = f"/v2.0/ports/{port['id']}"
    asked = [{"subnet_id": subnet["id"], "ip_address": "10.0.0.77"}, {"subnet_id": subnet["id"]}]
    changed = (await cloud.member.put(path, {"port": {"fixed_ips": asked, "security_groups": []}}))["port"]
    assert changed["fixed_ips"][0]["ip_address"] == "10.0.0.77"
    assert changed["fixed_ips"][1]["ip_address"] == port["fixed_ips"][0]["ip_address"], "it keeps what it may keep"
    assert changed["security_groups"] == []
    for query in (
        "device_id=server-1",
        "name=one",
        "fixed_ips=ip_address=10.0.0.77",
        f"mac_address={port['mac_address']}",
    ):
        assert [p["id"] for p in (await cloud.member.get(f"/v2.0/ports?{query}"))["ports"]] == [port["id"]], query
    both = f"fixed_ips=subnet_id={subnet['id']}&fixed_ips=ip_address=10.0.0.77"
    assert len((await cloud.member.get(f"/v2.0/ports?{both}"))["ports"]) == 1
    assert (await cloud.member.send("PUT", path, {"port": {"binding:host_id": "node1"}})).status == 403
    assert (await cloud.other.send("GET", path)).status == 404
    pairs = [{"ip_address": "10.0.0.200"}]
    assert (await cloud.member.put(path, {"port": {"allowed_address_pairs": pairs}}))["port"][
        "allowed_address_pairs"
    ] == [{"ip_address": "10.0.0.200", "mac_address": port["mac_address"]}]
    open_ = {"port": {"port_security_enabled": False, "allowed_address_pairs": []}}
    assert (await cloud.member.put(path, open_))["port"]["port_security_enabled"] is False


async def test_the_same_idempotency_key_makes_one_port(cloud: Cloud) -> None:
    network = await cloud.network()
    body = {"port": {"network_id": network["id"]}}
    first, second = [await cloud.member.send("POST", "/v2.0/ports", body, idempotency_key="op/1") for _ in range(2)]
    assert first.json()["port"]["id"] == second.json()["port"]["id"]
    assert len((await cloud.member.get("/v2.0/ports"))["ports"]) == 1
