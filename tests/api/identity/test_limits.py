"""Registered limits and limits, flat and strict two level."""

from __future__ import annotations

from typing import Any

from kilonova.identity.settings import IdentitySettings
from tests.api.identity.support import Cloud, demo
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import ApiClient


async def _registered(admin: ApiClient, name: str = "volumes", default: int = 10) -> dict[str, Any]:
    service = (await admin.get("/v3/services?type=identity"))["services"][0]["id"]
    one = {"service_id": service, "resource_name": name, "default_limit": default}
    reply = await admin.post("/v3/registered_limits", {"registered_limits": [one]}, 201)
    return dict(reply["registered_limits"][0])


def _limit(registered: dict[str, Any], amount: int, **whose: str) -> dict[str, Any]:
    wanted = {key: registered[key] for key in ("service_id", "resource_name")}
    return {"limits": [wanted | {"resource_limit": amount} | whose]}


async def test_a_limit_needs_a_registered_one_and_keeps_it_as_it_is(cloud: Cloud) -> None:
    admin = await cloud.admin()
    registered = await _registered(admin)
    project = cloud.made.project_id
    made = (await admin.post("/v3/limits", _limit(registered, 5, project_id=project), 201))["limits"][0]
    assert (made["resource_limit"], made["domain_id"], made["region_id"]) == (5, None, None)
    await admin.post("/v3/limits", _limit(registered, 6, project_id=project), 409)
    await admin.post("/v3/limits", _limit(registered | {"resource_name": "boats"}, 6, project_id=project), 403)
    await admin.post("/v3/limits", _limit(registered, 6), 400)
    await admin.post("/v3/limits", _limit(registered, 6, project_id="nowhere"), 400)
    path = f"/v3/registered_limits/{registered['id']}"
    await admin.patch(path, {"registered_limit": {"default_limit": 3}}, 403)
    await admin.delete(path, 403)
    await admin.patch(f"/v3/limits/{made['id']}", {"limit": {"resource_limit": 7}})
    assert [one["resource_limit"] for one in (await admin.get("/v3/limits"))["limits"]] == [7]
    await admin.delete(f"/v3/limits/{made['id']}")
    await admin.patch(path, {"registered_limit": {"default_limit": 3}})
    await admin.delete(path)


async def test_a_member_sees_the_limits_of_its_project_only(cloud: Cloud) -> None:
    admin = await cloud.admin()
    registered = await _registered(admin)
    for project in (cloud.made.project_id, cloud.made.admin_project_id):
        await admin.post("/v3/limits", _limit(registered, 5, project_id=project), 201)
    mine = await demo(cloud)
    assert [one["project_id"] for one in (await mine.get("/v3/limits"))["limits"]] == [cloud.made.project_id]
    assert len((await mine.get("/v3/registered_limits"))["registered_limits"]) == 1
    await mine.post("/v3/limits", _limit(registered, 5, project_id=cloud.made.project_id), 403)
    assert (await mine.get("/v3/limits/model"))["model"]["name"] == "flat"


async def test_strictly_no_project_has_more_than_its_domain() -> None:
    async with make_cloud(IdentitySettings(limit_model="strict_two_level")) as cloud:
        admin = await cloud.admin()
        registered = await _registered(admin, default=10)
        project = cloud.made.project_id
        await admin.post("/v3/limits", _limit(registered, 11, project_id=project), 403)
        domain = (await admin.post("/v3/limits", _limit(registered, 20, domain_id="default"), 201))["limits"][0]
        await admin.post("/v3/limits", _limit(registered, 11, project_id=project), 201)
        await admin.patch(f"/v3/limits/{domain['id']}", {"limit": {"resource_limit": 10}}, 403)
        await admin.patch(f"/v3/limits/{domain['id']}", {"limit": {"resource_limit": 12}})
        assert (await admin.get("/v3/limits/model"))["model"]["name"] == "strict_two_level"
