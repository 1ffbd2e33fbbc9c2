"""Loops in trees: refused with the documented code, nothing written."""

from __future__ import annotations

from tests.api.identity.support import Cloud


async def test_no_project_is_its_own_ancestor(cloud: Cloud) -> None:
    admin = await cloud.admin()
    top = (await admin.post("/v3/projects", {"project": {"name": "top"}}, 201))["project"]
    below = (await admin.post("/v3/projects", {"project": {"name": "b", "parent_id": top["id"]}}, 201))["project"]
    await admin.patch(f"/v3/projects/{top['id']}", {"project": {"parent_id": below["id"]}}, 403)
    await admin.patch(f"/v3/projects/{top['id']}", {"project": {"parent_id": top["id"]}}, 403)
    await admin.delete(f"/v3/projects/{top['id']}", 403)
    await admin.patch(f"/v3/projects/{top['id']}", {"project": {"enabled": False}}, 403)
    await admin.post("/v3/projects", {"project": {"name": "x", "parent_id": "nowhere"}}, 400)
    whole = (await admin.get(f"/v3/projects/{top['id']}?subtree_as_ids"))["project"]
    assert whole["subtree"] == {below["id"]: None} and whole["parent_id"] == "default"


async def test_a_branch_of_projects_has_an_end(cloud: Cloud) -> None:
    admin = await cloud.admin()
    above = "default"
    for depth in range(cloud.service.settings.project_depth_maximum):
        body = {"project": {"name": f"level {depth}", "parent_id": above}}
        above = (await admin.post("/v3/projects", body, 201))["project"]["id"]
    await admin.post("/v3/projects", {"project": {"name": "too deep", "parent_id": above}}, 403)
    assert (await admin.get("/v3/projects?name=too%20deep"))["projects"] == []


async def test_roles_do_not_imply_each_other_in_a_circle(cloud: Cloud) -> None:
    admin = await cloud.admin()
    ids = [(await admin.post("/v3/roles", {"role": {"name": f"r{n}"}}, 201))["role"]["id"] for n in range(3)]
    await admin.put(f"/v3/roles/{ids[0]}/implies/{ids[1]}", None, 201)
    await admin.put(f"/v3/roles/{ids[1]}/implies/{ids[2]}", None, 201)
    for prior, implied in ((2, 0), (1, 0), (0, 0)):
        await admin.put(f"/v3/roles/{ids[prior]}/implies/{ids[implied]}", None, 400)
    await admin.put(f"/v3/roles/{ids[0]}/implies/{cloud.made.role_ids['admin']}", None, 403)
    rules = (await admin.get("/v3/role_inferences"))["role_inferences"]
    found = {(rule["prior_role"]["id"], one["id"]) for rule in rules for one in rule["implies"]}
    assert {pair for pair in found if pair[0] in ids} == {(ids[0], ids[1]), (ids[1], ids[2])}


async def test_regions_are_no_circle_either(cloud: Cloud) -> None:
    admin = await cloud.admin()
    await admin.put("/v3/regions/a", {"region": {}}, 201)
    await admin.put("/v3/regions/b", {"region": {"parent_region_id": "a"}}, 201)
    await admin.patch("/v3/regions/a", {"region": {"parent_region_id": "b"}}, 400)
    await admin.patch("/v3/regions/a", {"region": {"parent_region_id": "a"}}, 400)
    await admin.put("/v3/regions/c", {"region": {"parent_region_id": "nowhere"}}, 404)
    assert (await admin.get("/v3/regions/a"))["region"]["parent_region_id"] is None
