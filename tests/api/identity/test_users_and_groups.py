"""Users, their passwords, and groups."""

from __future__ import annotations

from tests.api.identity.support import DEMO_PASSWORD, Cloud, project
from tests.api.support import api_client


async def test_a_user_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    admin = await cloud.admin()
    body = {"name": "Ada", "password": "secret", "email": "ada@example.org", "domain_id": "default"}
    made = (await admin.post("/v3/users", {"user": body}, 201))["user"]
    assert made["email"] == "ada@example.org" and made["enabled"] and "password" not in made
    assert made["links"]["self"] == f"http://localhost/v3/users/{made['id']}"
    assert (await admin.get(f"/v3/users/{made['id']}"))["user"] == made
    assert [one["id"] for one in (await admin.get("/v3/users?name=ADA"))["users"]] == [made["id"]]
    assert [one["id"] for one in (await admin.get("/v3/users?name__contains=da"))["users"]] == [made["id"]]
    changed = await admin.patch(f"/v3/users/{made['id']}", {"user": {"name": "Lady Ada", "description": "first"}})
    assert (changed["user"]["name"], changed["user"]["description"]) == ("Lady Ada", "first")
    assert changed["user"]["email"] == "ada@example.org"
    await admin.delete(f"/v3/users/{made['id']}")
    await admin.get(f"/v3/users/{made['id']}", 404)


async def test_a_name_is_taken_once_whatever_its_case(cloud: Cloud) -> None:
    admin = await cloud.admin()
    await admin.post("/v3/users", {"user": {"name": "STRASSE"}}, 201)
    await admin.post("/v3/users", {"user": {"name": "straße"}}, 409)
    await admin.post("/v3/users", {"user": {"name": "  "}}, 400)
    await admin.post("/v3/users", {"user": {"name": "x" * 256}}, 400)
    await admin.post("/v3/users", {"user": {"name": 5}}, 400)


async def test_who_may_see_and_make_users(cloud: Cloud) -> None:
    admin = await cloud.admin()
    demo = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    await demo.get("/v3/users", 403)
    await demo.post("/v3/users", {"user": {"name": "x"}}, 403)
    me = cloud.made.user_ids["demo"]
    assert (await demo.get(f"/v3/users/{me}"))["user"]["name"] == "demo"
    await demo.get(f"/v3/users/{cloud.made.admin_user_id}", 403)
    await demo.get("/v3/users/nobody", 403)
    await admin.get("/v3/users/nobody", 404)
    await api_client(cloud.app, "").get("/v3/users", 401)
    await cloud.user(admin, "auditor", "reader", system="all")
    auditor = api_client(cloud.app, await cloud.login("auditor", "auditor", {"system": {"all": True}}))
    assert len((await auditor.get("/v3/users"))["users"]) == 4
    await auditor.post("/v3/users", {"user": {"name": "x"}}, 403)


async def test_a_domains_manager_rules_its_own_domain_only(cloud: Cloud) -> None:
    admin = await cloud.admin()
    domain = (await admin.post("/v3/domains", {"domain": {"name": "acme"}}, 201))["domain"]
    boss = (await admin.post("/v3/users", {"user": {"name": "boss", "password": "p", "domain_id": domain["id"]}}, 201))[
        "user"
    ]
    role = cloud.made.role_ids["manager"]
    await admin.put(f"/v3/domains/{domain['id']}/users/{boss['id']}/roles/{role}", None, 204)
    where = {"domain": {"id": domain["id"]}}
    manager = api_client(cloud.app, await cloud.login("boss", "p", where, {"name": "ACME"}))
    made = (await manager.post("/v3/users", {"user": {"name": "hand", "domain_id": domain["id"]}}, 201))["user"]
    assert made["domain_id"] == domain["id"]
    assert {one["name"] for one in (await manager.get("/v3/users"))["users"]} == {"boss", "hand"}
    await manager.post("/v3/users", {"user": {"name": "spy", "domain_id": "default"}}, 403)
    work = (await manager.post("/v3/projects", {"project": {"name": "work"}}, 201))["project"]
    assert (work["domain_id"], work["parent_id"]) == (domain["id"], domain["id"])
    grants = f"/v3/projects/{work['id']}/users/{made['id']}/roles"
    await manager.put(f"{grants}/{cloud.made.role_ids['member']}", None, 204)
    await manager.put(f"{grants}/{cloud.made.role_ids['admin']}", None, 403)
    assert [one["name"] for one in (await manager.get("/v3/domains"))["domains"]] == ["acme"]


async def test_a_changed_password_ends_the_tokens_got_with_the_old(cloud: Cloud) -> None:
    me = cloud.made.user_ids["demo"]
    old = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    anyone = api_client(cloud.app, "")
    change = {"user": {"original_password": "wrong", "password": "new"}}
    await anyone.post(f"/v3/users/{me}/password", change, 401)
    await anyone.post("/v3/users/nobody/password", change, 401)
    change["user"]["original_password"] = DEMO_PASSWORD
    await anyone.post(f"/v3/users/{me}/password", change, 204)
    await old.get("/v3/auth/projects", 401)
    assert (await cloud.try_login("demo", DEMO_PASSWORD)).status == 401
    assert await cloud.login("demo", "new")


async def test_a_disabled_user_is_out_and_stays_out_with_old_tokens(cloud: Cloud) -> None:
    admin = await cloud.admin()
    me = cloud.made.user_ids["demo"]
    old = api_client(cloud.app, await cloud.login("demo", DEMO_PASSWORD))
    await admin.patch(f"/v3/users/{me}", {"user": {"enabled": False}})
    await old.get("/v3/auth/projects", 401)
    assert (await cloud.try_login("demo", DEMO_PASSWORD)).status == 401
    await admin.patch(f"/v3/users/{me}", {"user": {"enabled": True}})
    await old.get("/v3/auth/projects", 401)
    assert await cloud.login("demo", DEMO_PASSWORD)


async def test_roles_come_through_groups_and_go_with_membership(cloud: Cloud) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "gus")
    group = (await admin.post("/v3/groups", {"group": {"name": "crew", "description": "all hands"}}, 201))["group"]
    role = cloud.made.role_ids["reader"]
    await admin.put(f"/v3/projects/{cloud.made.project_id}/groups/{group['id']}/roles/{role}", None, 204)
    assert (await cloud.try_login("gus", "gus", project("demo"))).status == 401
    member = f"/v3/groups/{group['id']}/users/{user['id']}"
    await admin.get(member, 404)
    await admin.put(member, None, 204)
    await admin.put(member, None, 204)
    assert (await admin.send("HEAD", member)).status == 204
    gus = api_client(cloud.app, await cloud.login("gus", "gus", project("demo")))
    assert [one["name"] for one in (await gus.get("/v3/auth/projects"))["projects"]] == ["demo"]
    assert [one["name"] for one in (await admin.get(f"/v3/users/{user['id']}/groups"))["groups"]] == ["crew"]
    assert [one["name"] for one in (await admin.get(f"/v3/groups/{group['id']}/users"))["users"]] == ["gus"]
    await admin.delete(member)
    await gus.get("/v3/auth/projects", 401)
    await admin.delete(f"/v3/groups/{group['id']}")
    await admin.get(f"/v3/groups/{group['id']}", 404)
