"""Endpoint groups and project filters: what the catalog of a project shows. Policies and whom they are for."""

from __future__ import annotations

from tests.api.identity.support import DEMO_PASSWORD, Cloud


async def _types(cloud: Cloud) -> set[str]:
    token = (await cloud.try_login("demo", DEMO_PASSWORD)).json()["token"]
    return {service["type"] for service in token["catalog"]}


async def test_a_project_sees_the_endpoints_it_is_limited_to(cloud: Cloud) -> None:
    admin = await cloud.admin()
    assert await _types(cloud) == {"identity", "volumev3"}
    services = {one["type"]: one["id"] for one in (await admin.get("/v3/services"))["services"]}
    ends = (await admin.get(f"/v3/endpoints?service_id={services['volumev3']}&interface=public"))["endpoints"]
    link = f"/v3/OS-EP-FILTER/projects/{cloud.made.project_id}/endpoints/{ends[0]['id']}"
    await admin.get(link, 404)
    await admin.put(link, None, 204)
    assert await _types(cloud) == {"volumev3"}
    body = {"name": "accounts", "filters": {"service_id": services["identity"]}}
    group = (await admin.post("/v3/OS-EP-FILTER/endpoint_groups", {"endpoint_group": body}, 201))["endpoint_group"]
    path = f"/v3/OS-EP-FILTER/endpoint_groups/{group['id']}"
    await admin.put(f"{path}/projects/{cloud.made.project_id}", None, 204)
    assert await _types(cloud) == {"identity", "volumev3"}
    assert [one["name"] for one in (await admin.get(f"{path}/projects"))["projects"]] == ["demo"]
    await admin.delete(link)
    assert await _types(cloud) == {"identity"}
    await admin.delete(path)
    assert await _types(cloud) == {"identity", "volumev3"}
    wrong = {"name": "x", "filters": {"colour": "red"}}
    await admin.post("/v3/OS-EP-FILTER/endpoint_groups", {"endpoint_group": wrong}, 400)


async def test_the_policy_of_an_endpoint_is_the_nearest(cloud: Cloud) -> None:
    admin = await cloud.admin()
    made = {}
    for name in ("near", "region", "far"):
        body = {"policy": {"type": "text/plain", "blob": {"name": name}}}
        made[name] = (await admin.post("/v3/policies", body, 201))["policy"]
    assert made["near"]["blob"] == {"name": "near"}
    end = (await admin.get("/v3/endpoints?interface=public"))["endpoints"][0]
    of_end = f"/v3/endpoints/{end['id']}/OS-ENDPOINT-POLICY/policy"
    await admin.get(of_end, 404)
    services = f"OS-ENDPOINT-POLICY/services/{end['service_id']}"
    for name, where in (
        ("far", services),
        ("region", f"{services}/regions/{end['region_id']}"),
        ("near", f"OS-ENDPOINT-POLICY/endpoints/{end['id']}"),
    ):
        await admin.put(f"/v3/policies/{made[name]['id']}/{where}", None, 204)
        assert (await admin.get(of_end))["policy"]["id"] == made[name]["id"]
    found = (await admin.get(f"/v3/policies/{made['near']['id']}/OS-ENDPOINT-POLICY/endpoints"))["endpoints"]
    assert [one["id"] for one in found] == [end["id"]]
    await admin.delete(f"/v3/policies/{made['near']['id']}")
    assert (await admin.get(of_end))["policy"]["id"] == made["region"]["id"]


async def test_a_region_may_be_put_and_immutable_things_stay(cloud: Cloud) -> None:
    admin = await cloud.admin()
    assert (await admin.put("/v3/regions/north", {"region": {}}, 201))["region"]["id"] == "north"
    body = {"project": {"name": "rock", "options": {"immutable": True}}}
    rock = (await admin.post("/v3/projects", body, 201))["project"]
    await admin.patch(f"/v3/projects/{rock['id']}", {"project": {"name": "sand"}}, 403)
    await admin.delete(f"/v3/projects/{rock['id']}", 403)
    await admin.patch(f"/v3/projects/{rock['id']}", {"project": {"options": {"immutable": False}}})
    await admin.delete(f"/v3/projects/{rock['id']}")
    await admin.post("/v3/projects", {"project": {"name": "x", "options": {"colour": "red"}}}, 400)


async def test_a_domain_is_a_project_that_acts_as_one(cloud: Cloud) -> None:
    admin = await cloud.admin()
    body = {"project": {"name": "acme", "is_domain": True}}
    made = (await admin.post("/v3/projects", body, 201))["project"]
    assert (made["is_domain"], made["domain_id"], made["parent_id"]) == (True, None, None)
    assert (await admin.get(f"/v3/domains/{made['id']}"))["domain"]["name"] == "acme"
    names = {one["name"] for one in (await admin.get("/v3/projects?is_domain=true"))["projects"]}
    assert names == {"acme", "Default"}
    await admin.post("/v3/projects", {"project": {"name": "in it", "domain_id": made["id"]}}, 201)
    await admin.delete(f"/v3/projects/{made['id']}", 403)
    await admin.patch(f"/v3/projects/{made['id']}", {"project": {"enabled": False}})
    await admin.delete(f"/v3/projects/{made['id']}")
    assert (await admin.get("/v3/projects?name=in%20it"))["projects"] == []
