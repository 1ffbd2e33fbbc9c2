"""Grants, what they take effect as, and roles."""

from __future__ import annotations

from tests.api.identity.support import DEMO_PASSWORD, Cloud, project
from tests.api.support import api_client


async def test_a_grant_is_given_checked_listed_and_taken(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user, role = cloud.made.user_ids["demo"], cloud.made.role_ids["manager"]
    for where in (f"projects/{cloud.made.admin_project_id}", "domains/default", "system"):
        grants = f"/v3/{where}/users/{user}/roles"
        await admin.get(f"{grants}/{role}", 404)
        await admin.put(f"{grants}/{role}", None, 204)
        assert (await admin.send("HEAD", f"{grants}/{role}")).status == 204
        assert [one["name"] for one in (await admin.get(grants))["roles"]] == ["manager"]
        await admin.delete(f"{grants}/{role}")
        await admin.delete(f"{grants}/{role}", 404)
    await admin.put(f"/v3/system/users/nobody/roles/{role}", None, 404)
    await admin.put(f"/v3/projects/nothing/users/{user}/roles/{role}", None, 404)
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    await demo.put(f"/v3/projects/{cloud.made.project_id}/users/{user}/roles/{role}", None, 403)


async def test_a_role_taken_away_is_gone_from_tokens_in_use(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "temp", "member", project_id=cloud.made.project_id)
    token = await cloud.login("temp", "temp", project("demo"))
    grants = f"/v3/projects/{cloud.made.project_id}/users/{user['id']}/roles"
    await admin.put(f"{grants}/{cloud.made.role_ids['manager']}", None, 204)
    shown = (await cloud.send("GET", "/v3/auth/tokens", token=token, x_subject_token=token)).json()["token"]
    assert [one["name"] for one in shown["roles"]] == ["manager", "member", "reader"]
    await admin.delete(f"{grants}/{cloud.made.role_ids['manager']}")
    await admin.delete(f"{grants}/{cloud.made.role_ids['member']}")
    assert (await cloud.send("GET", "/v3/auth/projects", token=token)).status == 401


async def test_the_list_as_given_and_in_effect(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "effie")
    group = (await admin.post("/v3/groups", {"group": {"name": "g"}}, 201))["group"]
    await admin.put(f"/v3/groups/{group['id']}/users/{user['id']}", None, 204)
    member, reader = cloud.made.role_ids["member"], cloud.made.role_ids["reader"]
    await admin.put(f"/v3/domains/default/groups/{group['id']}/roles/{member}", None, 204)
    assert (await admin.get(f"/v3/role_assignments?user.id={user['id']}"))["role_assignments"] == []
    given = (await admin.get(f"/v3/role_assignments?group.id={group['id']}"))["role_assignments"]
    assert [(one["group"]["id"], one["role"]["id"]) for one in given] == [(group["id"], member)]
    query = f"/v3/role_assignments?effective&include_names&user.id={user['id']}"
    effective = (await admin.get(query))["role_assignments"]
    assert {one["role"]["name"] for one in effective} == {"member", "reader"}
    assert {one["user"]["name"] for one in effective} == {"effie"}
    assert effective[0]["scope"] == {"domain": {"id": "default", "name": "Default"}}
    assert effective[0]["links"]["membership"].endswith(f"/v3/groups/{group['id']}/users/{user['id']}")
    implied = next(one for one in effective if one["role"]["id"] == reader)
    assert implied["links"]["prior_role"].endswith(f"/v3/prior_role/{member}/implies/{reader}")
    system = (await admin.get("/v3/role_assignments?scope.system=all"))["role_assignments"]
    assert [one["user"]["id"] for one in system] == [cloud.made.admin_user_id]
    await admin.get(f"/v3/role_assignments?effective&group.id={group['id']}", 400)
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    await demo.get("/v3/role_assignments", 403)


async def test_inherited_roles_reach_the_projects_below(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "heir")
    child = {"name": "child", "parent_id": cloud.made.project_id}
    below = (await admin.post("/v3/projects", {"project": child}, 201))["project"]
    role = cloud.made.role_ids["reader"]
    path = f"projects/{cloud.made.project_id}/users/{user['id']}/roles/{role}/inherited_to_projects"
    await admin.put(f"/v3/OS-INHERIT/{path}", None, 204)
    assert (await cloud.try_login("heir", "heir", project("demo"))).status == 401
    heir = api_client(cloud.app, await cloud.login("heir", "heir", project("child")))
    assert [one["id"] for one in (await heir.get("/v3/auth/projects"))["projects"]] == [below["id"]]
    listed = (await admin.get(f"/v3/role_assignments?effective&user.id={user['id']}"))["role_assignments"]
    assert [one["scope"]["project"]["id"] for one in listed] == [below["id"]]
    assert listed[0]["scope"]["OS-INHERIT:inherited_to"] == "projects"
    tree = f"/v3/role_assignments?include_subtree&scope.project.id={cloud.made.project_id}"
    assert len((await admin.get(tree))["role_assignments"]) == 3


async def test_roles_and_what_they_imply(cloud: Cloud) -> None:
    admin = await cloud.admin()
    role = (await admin.post("/v3/roles", {"role": {"name": "operator"}}, 201))["role"]
    assert role["domain_id"] is None
    reader = cloud.made.role_ids["reader"]
    await admin.put(f"/v3/roles/{role['id']}/implies/{reader}", None, 201)
    await admin.put(f"/v3/roles/{reader}/implies/{role['id']}", None, 400)
    await admin.put(f"/v3/roles/{role['id']}/implies/{cloud.made.role_ids['admin']}", None, 403)
    inference = (await admin.get(f"/v3/roles/{role['id']}/implies"))["role_inference"]
    assert [one["name"] for one in inference["implies"]] == ["reader"]
    assert (await admin.send("HEAD", f"/v3/roles/{role['id']}/implies/{reader}")).status == 204
    assert len((await admin.get("/v3/role_inferences"))["role_inferences"]) == 4
    await cloud.user(admin, "op", "reader", project_id=cloud.made.project_id)
    await admin.delete(f"/v3/roles/{role['id']}/implies/{reader}")
    await admin.delete(f"/v3/roles/{role['id']}")
    await admin.delete(f"/v3/roles/{reader}", 403)
    await admin.post("/v3/roles", {"role": {"name": "Reader"}}, 409)
    inner = (await admin.post("/v3/roles", {"role": {"name": "reader", "domain_id": "default"}}, 201))["role"]
    assert inner["id"] in [one["id"] for one in (await admin.get("/v3/roles?domain_id=default"))["roles"]]
    assert inner["id"] not in [one["id"] for one in (await admin.get("/v3/roles"))["roles"]]


async def test_projects_form_a_tree_with_tags(cloud: Cloud) -> None:
    admin = await cloud.admin()
    top = (await admin.post("/v3/projects", {"project": {"name": "top", "tags": ["b", "a"]}}, 201))["project"]
    assert top["tags"] == ["a", "b"] and top["parent_id"] == "default" and top["is_domain"] is False
    low = (await admin.post("/v3/projects", {"project": {"name": "low", "parent_id": top["id"]}}, 201))["project"]
    shown = (await admin.get(f"/v3/projects/{low['id']}?parents_as_list"))["project"]
    assert [one["project"]["name"] for one in shown["parents"]] == ["top"]
    ids = (await admin.get(f"/v3/projects/{top['id']}?subtree_as_ids"))["project"]
    assert ids["subtree"] == {low["id"]: None}
    await admin.delete(f"/v3/projects/{top['id']}", 403)
    noted = (await admin.patch(f"/v3/projects/{top['id']}", {"project": {"cost_centre": "7"}}))["project"]
    assert (noted["cost_centre"], noted["name"], noted["tags"]) == ("7", "top", ["a", "b"])
    await admin.patch(f"/v3/projects/{top['id']}", {"project": {"enabled": False}}, 403)
    await admin.put(f"/v3/projects/{low['id']}/tags/x", None, 201)
    assert [one["name"] for one in (await admin.get("/v3/projects?tags=a,b"))["projects"]] == ["top"]
    either = (await admin.get("/v3/projects?tags-any=x,a"))["projects"]
    assert {one["name"] for one in either} == {"low", "top"}
    await admin.delete(f"/v3/projects/{low['id']}/tags/x")
    await admin.delete(f"/v3/projects/{low['id']}/tags/x", 404)
    await admin.put(f"/v3/projects/{low['id']}/tags", {"tags": ["a/b"]}, 400)
    await admin.delete(f"/v3/projects/{low['id']}")
    await admin.delete(f"/v3/projects/{top['id']}")
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    assert (await demo.get(f"/v3/projects/{cloud.made.project_id}"))["project"]["name"] == "demo"
    await demo.get(f"/v3/projects/{cloud.made.admin_project_id}", 403)
    await demo.get("/v3/projects", 403)


async def test_disabling_a_project_or_domain_ends_its_tokens_for_good(cloud: Cloud) -> None:
    admin = await cloud.admin()
    token = await cloud.login("demo", DEMO_PASSWORD)
    await admin.patch(f"/v3/projects/{cloud.made.project_id}", {"project": {"enabled": False}})
    assert (await cloud.send("GET", "/v3/auth/projects", token=token)).status == 401
    assert (await cloud.try_login("demo", DEMO_PASSWORD, project("demo"))).status == 401
    await admin.patch(f"/v3/projects/{cloud.made.project_id}", {"project": {"enabled": True}})
    assert (await cloud.send("GET", "/v3/auth/projects", token=token)).status == 401
    domain = (await admin.post("/v3/domains", {"domain": {"name": "acme"}}, 201))["domain"]
    await admin.delete(f"/v3/domains/{domain['id']}", 403)
    await admin.patch(f"/v3/domains/{domain['id']}", {"domain": {"enabled": False}})
    await admin.delete(f"/v3/domains/{domain['id']}")
    await admin.post("/v3/domains", {"domain": {"name": "DEFAULT"}}, 409)


async def test_what_is_in_effect_for_one_user_is_its_part_of_the_whole(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "alice", "member", project_id=cloud.made.project_id)
    group = (await admin.post("/v3/groups", {"group": {"name": "staff"}}, 201))["group"]["id"]
    await admin.put(f"/v3/groups/{group}/users/{user['id']}", None, 204)
    below = f"/v3/OS-INHERIT/domains/default/groups/{group}/roles/{cloud.made.role_ids['reader']}/inherited_to_projects"
    await admin.put(below, None, 204)
    whole = (await admin.get("/v3/role_assignments?effective"))["role_assignments"]
    hers = (await admin.get(f"/v3/role_assignments?effective&user.id={user['id']}"))["role_assignments"]
    assert len(hers) > 3
    assert hers == [one for one in whole if one["user"]["id"] == user["id"]]
