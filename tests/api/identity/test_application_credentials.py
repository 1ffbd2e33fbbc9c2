"""Application credentials: secrets for programs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.identity.tokens_for_services import ServiceTokens, ServiceUser
from tests.api.identity.support import DEMO_PASSWORD, Cloud, project
from tests.api.support import ApiClient, api_client


def _login(credential: dict[str, Any], secret: str) -> dict[str, Any]:
    method = credential | {"secret": secret}
    return {"auth": {"identity": {"methods": ["application_credential"], "application_credential": method}}}


async def _demo(cloud: Cloud) -> tuple[ApiClient, str]:
    token = await cloud.login("demo", DEMO_PASSWORD)
    return api_client(cloud.app, token), f"/v3/users/{cloud.made.user_ids['demo']}/application_credentials"


async def test_a_program_logs_in_with_fewer_roles_and_only_there(cloud: Cloud) -> None:
    demo, path = await _demo(cloud)
    body = {"application_credential": {"name": "ci", "roles": [{"name": "reader"}]}}
    made = (await demo.post(path, body, 201))["application_credential"]
    assert made["project_id"] == cloud.made.project_id and len(made["secret"]) >= 43
    reply = await cloud.send("POST", "/v3/auth/tokens", _login({"id": made["id"]}, made["secret"]))
    token = reply.json()["token"]
    assert [one["name"] for one in token["roles"]] == ["reader"]
    assert token["application_credential"] == {"id": made["id"], "name": "ci", "restricted": True}
    named = {"name": "ci", "user": {"name": "demo", "domain": {"id": "default"}}}
    assert (await cloud.send("POST", "/v3/auth/tokens", _login(named, made["secret"]))).status == 201
    assert (await cloud.send("POST", "/v3/auth/tokens", _login(named, "wrong"))).status == 401
    scoped = _login({"id": made["id"]}, made["secret"])
    scoped["auth"]["scope"] = project("demo")
    assert (await cloud.send("POST", "/v3/auth/tokens", scoped)).status == 401
    program = api_client(cloud.app, reply.headers["x-subject-token"])
    await program.post(path, {"application_credential": {"name": "more"}}, 403)
    tokens = ServiceTokens(
        cloud.service.world,
        cloud.client,
        ServiceUser(secret=made["secret"], application_credential_id=made["id"]),
    )
    assert await tokens.token()
    shown = (await demo.get(f"{path}/{made['id']}"))["application_credential"]
    assert "secret" not in shown and [one["name"] for one in shown["roles"]] == ["reader"]
    await demo.delete(f"{path}/{made['id']}")
    await program.get("/v3/auth/projects", 401)


async def test_what_is_refused(cloud: Cloud) -> None:
    demo, path = await _demo(cloud)
    await demo.post(path, {"application_credential": {"name": "x", "roles": [{"name": "admin"}]}}, 400)
    await demo.post(path, {"application_credential": {"name": "x", "expires_at": "2001-01-01T00:00:00"}}, 400)
    await demo.post(path, {"application_credential": {"name": "x", "expires_at": "soon"}}, 400)
    rules = [{"path": "servers", "method": "GET", "service": "compute"}]
    await demo.post(path, {"application_credential": {"name": "x", "access_rules": rules}}, 400)
    await demo.post(path, {"application_credential": {"name": "x"}}, 201)
    await demo.post(path, {"application_credential": {"name": "x"}}, 409)
    admin = await cloud.admin()
    await admin.post(path, {"application_credential": {"name": "y"}}, 403)
    assert len((await admin.get(path))["application_credentials"]) == 1


async def test_it_dies_with_its_role_and_on_time(cloud: Cloud) -> None:
    demo, path = await _demo(cloud)
    soon = iso_micros(cloud.service.world.clock.now() + timedelta(seconds=0.05))
    late = {"application_credential": {"name": "brief", "secret": "s", "expires_at": soon}}
    brief = (await demo.post(path, late, 201))["application_credential"]
    await cloud.service.world.clock.sleep(0.06)
    assert (await cloud.send("POST", "/v3/auth/tokens", _login({"id": brief["id"]}, "s"))).status == 401
    made = (await demo.post(path, {"application_credential": {"name": "ci"}}, 201))["application_credential"]
    admin = await cloud.admin()
    user, role = cloud.made.user_ids["demo"], cloud.made.role_ids["member"]
    await admin.delete(f"/v3/projects/{cloud.made.project_id}/users/{user}/roles/{role}")
    await admin.put(f"/v3/projects/{cloud.made.project_id}/users/{user}/roles/{role}", None, 204)
    assert (await cloud.send("POST", "/v3/auth/tokens", _login({"id": made["id"]}, made["secret"]))).status == 401
