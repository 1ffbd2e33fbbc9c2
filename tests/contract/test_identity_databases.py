"""Identity's SQL says the same on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from kilonova.base.world import LiveWorld
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.db.server import server_database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.identity.bootstrap import Plan, ServiceUserPlan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.identity.ldap import refresh
from kilonova.identity.ldap import store as entry_store
from kilonova.identity.ldap.entries import Person, Team
from kilonova.identity.service import MIGRATIONS, identity_app
from kilonova.saga.seal import Sealer
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, NOVA_SECRET, Cloud, by_trust, demo, project, trust
from tests.api.support import api_client


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.cluster),
        pytest.param("mariadb", marks=pytest.mark.cluster),
    ]
)
async def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cloud]:
    world = LiveWorld("identity-databases")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.close)
        db: Database
        if request.param == "sqlite":
            db = SqliteDatabase("identity", tmp_path / "identity.db", world.clock)
        else:
            url = stack.enter_context(request.getfixturevalue(request.param).database())
            db = await server_database("identity", url, world)
        stack.push_async_callback(db.close)
        await ensure_current(db, MIGRATIONS)
        service = IdentityService(world, db, Sealer([Fernet.generate_key().decode()]))
        users = (ServiceUserPlan("nova", NOVA_SECRET),)
        plan = Plan(ADMIN_PASSWORD, endpoint_plans({"identity": "http://x"}), users, user_password=DEMO_PASSWORD)
        yield Cloud(service, identity_app(service), await bootstrap(service, plan), plan)


async def test_a_life_in_identity(cloud: Cloud) -> None:
    assert await bootstrap(cloud.service, cloud.plan) == cloud.made
    admin = await cloud.admin()
    group = (await admin.post("/v3/groups", {"group": {"name": "Crew"}}, 201))["group"]
    await admin.post("/v3/groups", {"group": {"name": "crew"}}, 409)
    body = {"name": "Ünï", "password": "p", "email": "u@example.org"}
    user = (await admin.post("/v3/users", {"user": body}, 201))["user"]
    await admin.put(f"/v3/groups/{group['id']}/users/{user['id']}", None, 204)
    child = {"name": "child", "parent_id": cloud.made.project_id, "tags": ["x"]}
    below = (await admin.post("/v3/projects", {"project": child}, 201))["project"]
    role = cloud.made.role_ids["member"]
    grant = f"projects/{cloud.made.project_id}/groups/{group['id']}/roles/{role}/inherited_to_projects"
    await admin.put(f"/v3/OS-INHERIT/{grant}", None, 204)
    inside = api_client(cloud.app, await cloud.login("ÜNÏ", "p", {"project": {"id": below["id"]}}))
    assert [one["name"] for one in (await inside.get("/v3/auth/projects"))["projects"]] == ["child"]
    credential = {"application_credential": {"name": "ci", "expires_at": "2099-01-01T00:00:00"}}
    path = f"/v3/users/{user['id']}/application_credentials"
    made = (await inside.post(path, credential, 201))["application_credential"]
    assert made["expires_at"] == "2099-01-01T00:00:00.000000"
    effective = f"/v3/role_assignments?effective&include_names&user.id={user['id']}"
    rows = (await admin.get(effective))["role_assignments"]
    assert {row["role"]["name"] for row in rows} == {"member", "reader"}
    assert [one["name"] for one in (await admin.get("/v3/users?enabled=true&name=demo"))["users"]] == ["demo"]
    await admin.patch(f"/v3/users/{user['id']}", {"user": {"enabled": False}})
    await inside.get("/v3/auth/projects", 401)
    await admin.delete(f"/v3/users/{user['id']}")
    await admin.delete(f"/v3/groups/{group['id']}")
    await cloud.service.keys.rotate()
    assert await cloud.login("demo", DEMO_PASSWORD, project("demo"))


async def test_what_is_lent_limited_and_configured(cloud: Cloud) -> None:
    admin, mine, me = await cloud.admin(), await demo(cloud), cloud.made.user_ids["demo"]
    friend = (await cloud.user(admin, "friend"))["id"]
    without_end = (await trust(cloud, mine, friend)).json()["trust"]["id"]
    once = (await trust(cloud, mine, friend, remaining_uses=1)).json()["trust"]["id"]
    uses = [(await cloud.try_login("friend", "friend", by_trust(id_))).status for id_ in (without_end, once, once)]
    assert uses == [201, 201, 404]
    assert (await cloud.try_login("friend", "friend", by_trust(without_end))).status == 201
    keys = (await mine.post(f"/v3/users/{me}/credentials/OS-EC2", {"tenant_id": cloud.made.project_id}, 201))[
        "credential"
    ]
    assert (await mine.get(f"/v3/users/{me}/credentials/OS-EC2/{keys['access']}"))["credential"] == keys
    rules = [{"service": "compute", "method": "GET", "path": "/v2.1/servers"}]
    for name in ("one", "two"):
        body = {"application_credential": {"name": name, "access_rules": rules}}
        await mine.post(f"/v3/users/{me}/application_credentials", body, 201)
    assert len((await mine.get(f"/v3/users/{me}/access_rules"))["access_rules"]) == 1
    service = (await admin.get("/v3/services"))["services"][0]["id"]
    registered = {"service_id": service, "resource_name": "volumes", "default_limit": 5}
    for status in (201, 409):
        await admin.post("/v3/registered_limits", {"registered_limits": [registered]}, status)
    limit = {
        "service_id": service,
        "resource_name": "volumes",
        "resource_limit": 5,
        "project_id": cloud.made.project_id,
    }
    for status in (201, 409):
        await admin.post("/v3/limits", {"limits": [limit]}, status)
    assert [one["region_id"] for one in (await mine.get("/v3/limits"))["limits"]] == [None]
    domain = (await admin.post("/v3/domains", {"domain": {"name": "acme"}}, 201))["domain"]["id"]
    config = {"ldap": {"url": "ldap://x"}, "identity": {"driver": "ldap"}}
    path = f"/v3/domains/{domain}/config"
    assert (await admin.put(path, {"config": config}, 201))["config"] == config
    await admin.patch(path, {"config": {"ldap": {"url": "ldap://y"}}})
    assert (await admin.get(f"{path}/ldap/url"))["config"] == {"url": "ldap://y"}
    await admin.post("/v3/projects", {"project": {"name": "in it", "domain_id": domain}}, 201)
    await admin.patch(f"/v3/domains/{domain}", {"domain": {"enabled": False}})
    await admin.delete(f"/v3/domains/{domain}")
    group = {"name": "g", "filters": {"interface": "public"}}
    made = (await admin.post("/v3/OS-EP-FILTER/endpoint_groups", {"endpoint_group": group}, 201))["endpoint_group"]
    where = f"/v3/OS-EP-FILTER/endpoint_groups/{made['id']}/projects/{cloud.made.project_id}"
    await admin.put(where, None, 204)
    catalog = (await cloud.try_login("demo", DEMO_PASSWORD)).json()["token"]["catalog"]
    assert {one["interface"] for service in catalog for one in service["endpoints"]} == {"public"}
    await admin.delete(f"/v3/projects/{cloud.made.project_id}")
    await admin.delete(f"/v3/users/{me}")
    assert (await cloud.try_login("friend", "friend", by_trust(without_end))).status == 404


async def test_what_a_directory_says_is_mirrored(cloud: Cloud) -> None:
    """New, changed, swapped, disabled, gone: the rows follow, and say how much they did."""
    admin, db = await cloud.admin(), cloud.service.db
    domain_id = (await admin.post("/v3/domains", {"domain": {"name": "corp"}}, 201))["domain"]["id"]

    async def people(*names: str, whole: bool = True, enabled: bool = True) -> int:
        found = [Person(one[0], one[1:], f"uid={one[0]}", f"uid={one[0]}", enabled) for one in names]
        moment = refresh.moment(cloud.service)
        return await entry_store.written(db, entry_store.write_people, domain_id, found, moment, whole=whole)

    async def known() -> list[tuple[str, bool]]:
        found = (await admin.get("/v3/users?name__startswith=x"))["users"]
        return sorted((one["name"], one["enabled"]) for one in found)

    assert await people("1xa", "2xb", "3xÄ") == 3
    assert await people("1xa", "2xb", "3xä") == 1
    assert await people("1xb", "2xa", "3xä") == 2  # two have swapped their names
    assert await people("1xb", "2xa", "3xä") == 0
    assert await people("1xb", whole=False, enabled=False) == 1
    assert await known() == [("xa", True), ("xb", False), ("xä", True)]
    assert await people("2xa", "4xB") == 3  # 1 and 3 are gone, and another has the name of 1
    assert await known() == [("xB", True), ("xa", True), ("xb", False), ("xä", False)]
    teams = [Team("ops", "Ops", "who works at night"), Team("other", "ops")]
    assert await entry_store.written(db, entry_store.write_teams, domain_id, teams, whole=True) == 1
    (team,) = await db.read(entry_store.whole_entries, domain_id, "group")
    member = {(team.public_id, entry_store.public_id(domain_id, "user", "2"))}
    assert await entry_store.written(db, entry_store.write_members, domain_id, member) == 1
    groups = (await admin.get(f"/v3/users/{next(iter(member))[1]}/groups"))["groups"]
    assert [one["name"].casefold() for one in groups] == ["ops"]
    assert await entry_store.written(db, entry_store.write_members, domain_id, set[tuple[str, str]]()) == 1
