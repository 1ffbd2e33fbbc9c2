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
from kilonova.identity.service import MIGRATIONS, identity_app
from kilonova.saga.seal import Sealer
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, NOVA_SECRET, Cloud, project
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
