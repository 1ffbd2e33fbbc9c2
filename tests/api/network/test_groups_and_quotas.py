"""Security groups, quotas under races, tags, agents, discovery."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from kilonova.network.settings import NetworkSettings, QuotaDefaults
from kilonova.network.work import Work
from tests.api.network.cloud import Cloud
from tests.api.support import OTHER_PROJECT, PROJECT, ApiClient

RULES = "/v2.0/security-group-rules"


async def group(cloud: Cloud, name: str = "web", client: ApiClient | None = None) -> dict[str, Any]:
    body = {"security_group": {"name": name, "description": ""}}
    made: dict[str, Any] = (await (client or cloud.member).post("/v2.0/security-groups", body, 201))["security_group"]
    return made


async def test_new_groups_let_everything_out_and_nothing_in(cloud: Cloud) -> None:
    made = await group(cloud)
    assert {(r["direction"], r["ethertype"]) for r in made["security_group_rules"]} == {
        ("egress", "IPv4"),
        ("egress", "IPv6"),
    }
    listed = (await cloud.member.get("/v2.0/security-groups?name=default"))["security_groups"]
    inward = [r for r in listed[0]["security_group_rules"] if r["direction"] == "ingress"]
    assert {r["remote_group_id"] for r in inward} == {listed[0]["id"]}
    assert (await cloud.other.send("GET", f"/v2.0/security-groups/{made['id']}")).status == 404
    renamed = {"security_group": {"name": "Default"}}
    assert (await cloud.member.send("PUT", f"/v2.0/security-groups/{made['id']}", renamed)).status == 409
    default = f"/v2.0/security-groups/{listed[0]['id']}"
    assert (await cloud.member.send("DELETE", default)).status == 409
    assert (await cloud.member.send("PUT", default, {"security_group": {"name": "x"}})).status == 409
    again = await cloud.member.send("POST", "/v2.0/security-groups", {"security_group": {"name": "default"}})
    assert again.json()["NeutronError"]["type"] == "SecurityGroupDefaultAlreadyExists"


async def test_a_list_of_groups_has_the_rules_when_they_are_asked_for(cloud: Cloud) -> None:
    made = await group(cloud)
    rules = {rule["id"] for rule in made["security_group_rules"]}
    path = f"/v2.0/security-groups?id={made['id']}"
    [whole] = (await cloud.member.get(path))["security_groups"]
    assert whole.keys() == made.keys() and {rule["id"] for rule in whole["security_group_rules"]} == rules
    named = (await cloud.member.get(f"{path}&fields=id&fields=name"))["security_groups"]
    assert named == [{"id": made["id"], "name": "web"}]
    [ruled] = (await cloud.member.get(f"{path}&fields=security_group_rules"))["security_groups"]
    assert {rule["id"] for rule in ruled["security_group_rules"]} == rules


@pytest.mark.parametrize(
    ("rule", "status", "kind"),
    [
        ({"protocol": "tcp", "port_range_min": 80, "port_range_max": 22}, 400, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 0, "port_range_max": 70000}, 400, "SecurityGroupInvalidPortValue"),
        ({"port_range_min": 1, "port_range_max": 2}, 400, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "warp"}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": "300"}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": "icmp", "port_range_max": 3}, 400, "SecurityGroupMissingIcmpType"),
        ({"protocol": "icmp", "port_range_min": 300}, 400, "SecurityGroupInvalidIcmpValue"),
        ({"remote_ip_prefix": "fd00::/64"}, 400, "SecurityGroupRuleParameterConflict"),
        ({"ethertype": "IPX"}, 400, "SecurityGroupRuleInvalidEtherType"),
        ({"direction": "sideways"}, 400, "InvalidInput"),
        ({"remote_group_id": "11111111-1111-4111-8111-111111111111"}, 404, "SecurityGroupNotFound"),
        ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, 201, ""),
        ({"protocol": 6, "port_range_min": 443, "port_range_max": 443}, 201, ""),
        ({"protocol": None, "remote_ip_prefix": "10.0.0.7/8"}, 201, ""),
    ],
)
async def test_rules_are_checked(cloud: Cloud, rule: dict[str, Any], status: int, kind: str) -> None:
    made = await group(cloud)
    body = {"security_group_id": made["id"], "direction": "ingress", **rule}
    reply = await cloud.member.send("POST", RULES, {"security_group_rule": body})
    assert reply.status == status, reply.content
    if kind:
        assert reply.json()["NeutronError"]["type"] == kind


async def test_the_same_rule_twice_is_refused_and_deleting_makes_room(cloud: Cloud) -> None:
    made = await group(cloud)
    body = {"security_group_rule": {"security_group_id": made["id"], "direction": "ingress", "protocol": "tcp"}}
    first = (await cloud.member.post(RULES, body, 201))["security_group_rule"]
    body["security_group_rule"]["remote_ip_prefix"] = "0.0.0.0/0"
    said = await cloud.member.post(RULES, body, 409)
    assert said["NeutronError"]["type"] == "SecurityGroupRuleExists"
    assert first["id"] in said["NeutronError"]["message"]
    assert (await cloud.other.send("DELETE", f"{RULES}/{first['id']}")).status == 404
    await cloud.member.delete(f"{RULES}/{first['id']}")
    await cloud.member.post(RULES, body, 201)
    found = await cloud.member.get(f"{RULES}?security_group_id={made['id']}&direction=ingress&protocol=tcp")
    assert len(found["security_group_rules"]) == 1


async def test_a_group_in_use_stays_and_foreign_groups_cannot_be_used(cloud: Cloud) -> None:
    mine, theirs = await group(cloud), await group(cloud, client=cloud.other)
    network = await cloud.network()
    await cloud.port(network["id"], security_groups=[mine["id"]])
    assert (await cloud.member.send("DELETE", f"/v2.0/security-groups/{mine['id']}")).status == 409
    body = {"port": {"network_id": network["id"], "security_groups": [theirs["id"]]}}
    assert (await cloud.member.send("POST", "/v2.0/ports", body)).status == 404
    closed = {"port": {"network_id": network["id"], "security_groups": [mine["id"]], "port_security_enabled": False}}
    said = await cloud.member.post("/v2.0/ports", closed, 409)
    assert said["NeutronError"]["type"] == "PortSecurityAndIPRequiredForSecurityGroups"


async def test_quotas_hold_when_requests_race(cloud: Cloud) -> None:
    await cloud.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"network": 3, "port": 4}})
    send = cloud.member.send
    made = await asyncio.gather(*(send("POST", "/v2.0/networks", {"network": {}}) for _ in range(8)))
    assert sorted(reply.status for reply in made) == [201] * 3 + [409] * 5
    assert next(r for r in made if r.status == 409).json()["NeutronError"]["type"] == "OverQuota"
    network_id = (await cloud.member.get("/v2.0/networks"))["networks"][0]["id"]
    bulk = {"ports": [{"network_id": network_id}] * 3}
    both = await asyncio.gather(*(send("POST", "/v2.0/ports", bulk) for _ in range(3)))
    assert sorted(reply.status for reply in both) == [201, 409, 409]
    details = (await cloud.member.get(f"/v2.0/quotas/{PROJECT}/details.json"))["quota"]
    assert details["port"] == {"limit": 4, "used": 3, "reserved": 0}
    assert details["network"] == {"limit": 3, "used": 3, "reserved": 0}


async def test_quotas_are_the_admins_to_change(cloud: Cloud) -> None:
    path = f"/v2.0/quotas/{PROJECT}"
    assert (await cloud.member.get(path))["quota"]["network"] == 100
    assert (await cloud.member.send("PUT", path, {"quota": {"network": 5}})).status == 403
    assert (await cloud.member.send("GET", f"/v2.0/quotas/{OTHER_PROJECT}")).status == 403
    assert (await cloud.admin.send("PUT", path, {"quota": {"network": -2}})).status == 400
    assert (await cloud.admin.put(path, {"quota": {"network": -1}}))["quota"]["network"] == -1
    assert [q["project_id"] for q in (await cloud.admin.get("/v2.0/quotas"))["quotas"]] == [PROJECT]
    await cloud.admin.delete(path)
    assert (await cloud.member.get(path))["quota"]["network"] == 100
    assert (await cloud.admin.send("DELETE", path)).status == 404


async def test_networks_share_a_small_range_of_segments_without_doubles() -> None:
    cloud = await Cloud(NetworkSettings(vni_first=10, vni_last=13, quotas=QuotaDefaults(network=-1))).start()
    try:
        replies = await asyncio.gather(*(cloud.admin.send("POST", "/v2.0/networks", {"network": {}}) for _ in range(6)))
        made = [r.json()["network"]["provider:segmentation_id"] for r in replies if r.status == 201]
        assert sorted(made) == [10, 11, 12, 13]
        assert [r.status for r in replies].count(409) == 2
    finally:
        await cloud.close()


async def test_a_collision_with_another_process_is_looked_at_again(cloud: Cloud) -> None:
    """What a second process wrote between our look and our insert: the unit runs again and sees it."""
    tries = []

    def collide_once(work: Work) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise IntegrityError("INSERT", {}, Exception("duplicate key"))
        return work.draw.mac()

    assert (await cloud.service.change(collide_once)).startswith("fa:16:3e:")
    assert len(tries) == 2


async def test_tags_are_put_found_and_taken(cloud: Cloud) -> None:
    one, two = await cloud.network(name="one"), await cloud.network(name="two")
    path = f"/v2.0/networks/{one['id']}/tags"
    assert (await cloud.member.put(path, {"tags": ["red", "blue"]}))["tags"] == ["blue", "red"]
    await cloud.member.put(f"{path}/green", None, 201)
    await cloud.member.put(f"/v2.0/networks/{two['id']}/tags", {"tags": ["red"]})
    names = {
        query: sorted(n["name"] for n in (await cloud.member.get(f"/v2.0/networks?{query}"))["networks"])
        for query in ("tags=red", "tags=red,blue", "tags-any=green,red", "not-tags=blue", "not-tags-any=red")
    }
    assert names == {
        "tags=red": ["one", "two"],
        "tags=red,blue": ["one"],
        "tags-any=green,red": ["one", "two"],
        "not-tags=blue": ["two"],
        "not-tags-any=red": [],
    }
    await cloud.member.delete(f"{path}/red")
    assert (await cloud.member.send("DELETE", f"{path}/red")).status == 404
    assert (await cloud.other.send("GET", path)).status == 404
    assert (await cloud.reader.send("PUT", path, {"tags": []})).status == 403
    await cloud.member.delete(path)
    assert (await cloud.member.get(path))["tags"] == []


async def test_agents_are_seen_and_switched_by_admins(hosted: Cloud) -> None:
    agents = (await hosted.admin.get("/v2.0/agents?agent_type=L2%20agent"))["agents"]
    assert {(a["host"], a["alive"], a["admin_state_up"]) for a in agents} == {
        ("node1", True, True),
        ("node2", True, True),
    }
    assert (await hosted.member.send("GET", "/v2.0/agents")).status == 403
    path = f"/v2.0/agents/{agents[0]['id']}"
    assert (await hosted.member.send("GET", path)).status == 404
    assert (await hosted.admin.send("DELETE", path)).status == 409
    off = (await hosted.admin.put(path, {"agent": {"admin_state_up": False}}))["agent"]
    assert off["admin_state_up"] is False
    network = await hosted.network()
    port = await hosted.port(network["id"], hosted.admin, **{"binding:host_id": agents[0]["host"]})
    assert port["binding:vif_type"] == "binding_failed"


async def test_discovery_and_extensions_say_what_is_there(cloud: Cloud) -> None:
    nobody = ApiClient(cloud.app, "")
    [version] = (await nobody.get("/"))["versions"]
    assert (version["id"], version["links"][0]["href"]) == ("v2.0", "http://localhost/v2.0/")
    assert {"networks", "security_groups"} <= {r["collection"] for r in (await nobody.get("/v2.0"))["resources"]}
    aliases = [e["alias"] for e in (await cloud.member.get("/v2.0/extensions"))["extensions"]]
    assert {"router", "security-group", "port-security", "quotas"} <= set(aliases)
    assert (await cloud.member.get("/v2.0/extensions/router"))["extension"]["alias"] == "router"
    assert (await cloud.member.send("GET", "/v2.0/extensions/qos")).status == 404
    assert (await cloud.member.send("GET", "/v2.0/qos/policies")).status == 404
