"""Regions, services, endpoints, and the catalog made of them."""

from __future__ import annotations

from tests.api.identity.support import DEMO_PASSWORD, Cloud
from tests.api.support import api_client


async def test_a_new_service_shows_in_tokens_in_use(cloud: Cloud) -> None:
    admin = await cloud.admin()
    made = (await admin.post("/v3/services", {"service": {"type": "dns", "name": "designate"}}, 201))["service"]
    body = {"service_id": made["id"], "interface": "public", "url": "http://dns/%(tenant_id)s", "region": "RegionTwo"}
    endpoint = (await admin.post("/v3/endpoints", {"endpoint": body}, 201))["endpoint"]
    assert (endpoint["region"], endpoint["region_id"], endpoint["enabled"]) == ("RegionTwo", "RegionTwo", True)
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    dns = [one for one in (await demo.get("/v3/auth/catalog"))["catalog"] if one["type"] == "dns"]
    assert dns[0]["endpoints"][0]["url"] == f"http://dns/{cloud.made.project_id}"
    await admin.patch(f"/v3/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}})
    assert "dns" not in [one["type"] for one in (await demo.get("/v3/auth/catalog"))["catalog"]]
    assert len((await admin.get("/v3/endpoints?interface=public"))["endpoints"]) == 3
    await admin.delete("/v3/regions/RegionTwo", 403)
    await admin.delete(f"/v3/services/{made['id']}")
    await admin.get(f"/v3/endpoints/{endpoint['id']}", 404)
    await admin.delete("/v3/regions/RegionTwo")


async def test_what_is_refused(cloud: Cloud) -> None:
    admin = await cloud.admin()
    service_id = (await admin.get("/v3/services?type=identity"))["services"][0]["id"]
    good = {"service_id": service_id, "interface": "public", "url": "http://x"}
    for bad in ({"url": "http://x/$(password)s"}, {"url": "http://x/$(project_id"}, {"interface": "odd"},
                {"service_id": "none"}, {"url": ""}):  # fmt: skip
        await admin.post("/v3/endpoints", {"endpoint": good | bad}, 400)
    await admin.post("/v3/regions", {"region": {"id": "RegionOne"}}, 409)
    await admin.post("/v3/regions", {"region": {"id": "a", "parent_region_id": "a"}}, 400)
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    await demo.get("/v3/services", 403)
    await demo.post("/v3/regions", {"region": {"id": "mine"}}, 403)
    assert [one["id"] for one in (await demo.get("/v3/regions"))["regions"]] == ["RegionOne"]
