"""A34, A51, A52, A54, A63, A96: every route against who may not; forged headers; floods; catalog templates."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import sqlalchemy as sa

from kilonova.base.faults import Fault
from kilonova.http.route import Route
from kilonova.identity.schema import metadata, token_version
from kilonova.identity.service import ROUTES
from kilonova.identity.settings import IdentitySettings
from kilonova.identity.validator import REFUSED_REMEMBERED, TokenValidator
from tests.api.identity.support import DEMO_PASSWORD, Cloud, demo, project
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import ApiClient, api_client

_FEDERATED_LOGIN = "/v3/OS-FEDERATION/identity_providers/{identity_provider_id}/protocols/{protocol_id}/auth"
OPEN = {
    ("GET", "/"),
    ("GET", "/v3"),
    ("POST", "/v3/auth/tokens"),
    ("GET", "/v3/kilonova/token_version"),
    ("GET", "/v3/kilonova/authority"),
    ("POST", "/v3/kilonova/hosts"),
    ("POST", "/v3/users/{user_id}/password"),
    # a signature, or another provider's token, is the proof
    ("POST", "/v3/OS-OAUTH1/request_token"),
    ("POST", "/v3/OS-OAUTH1/access_token"),
    ("GET", _FEDERATED_LOGIN),
    ("POST", _FEDERATED_LOGIN),
}
# what a reader of another project may ask of these: itself, or what everybody may know
KNOWN_TO_ALL = {
    "/v3/auth/catalog", "/v3/auth/projects", "/v3/auth/domains", "/v3/auth/system", "/v3/regions",
    "/v3/OS-FEDERATION/projects", "/v3/OS-FEDERATION/domains",
    "/v3/regions/{region_id}", "/v3/limits", "/v3/limits/model", "/v3/registered_limits", "/v3/credentials",
    "/v3/domains/{domain_id}", "/v3/domains/{domain_id}/config/security_compliance",
    "/v3/domains/{domain_id}/config/security_compliance/{option}",
}  # fmt: skip


def _filled(route: Route, ids: dict[str, str]) -> str:
    return "/".join(ids.get(part[1:-1], "x") if part.startswith("{") else part for part in route.path.split("/"))


async def _victims(cloud: Cloud) -> dict[str, str]:
    admin = await cloud.admin()
    services = (await admin.get("/v3/services"))["services"]
    ends = (await admin.get("/v3/endpoints"))["endpoints"]
    group = (await admin.post("/v3/groups", {"group": {"name": "crew"}}, 201))["group"]
    policy = (await admin.post("/v3/policies", {"policy": {"type": "t", "blob": "b"}}, 201))["policy"]
    victim = cloud.made.user_ids["demo"]
    credential = {"type": "cert", "blob": "canary", "user_id": victim}
    made = (await admin.post("/v3/credentials", {"credential": credential}, 201))["credential"]
    return {
        "user_id": victim, "actor_id": victim, "project_id": cloud.made.project_id, "domain_id": "default",
        "scope_id": cloud.made.project_id, "role_id": cloud.made.role_ids["member"],
        "prior_id": cloud.made.role_ids["reader"], "implied_id": cloud.made.role_ids["service"],
        "service_id": services[0]["id"], "endpoint_id": ends[0]["id"], "region_id": "RegionOne",
        "group_id": group["id"], "policy_id": policy["id"], "credential_id": made["id"], "option": "password_regex",
    }  # fmt: skip


def _rows(connection: sa.Connection) -> dict[str, int]:
    counts = {}
    for table in metadata.sorted_tables:
        if table is not token_version:
            counts[table.name] = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    return counts


async def test_a54_without_a_token_only_the_open_doors_open(cloud: Cloud) -> None:
    ids = await _victims(cloud)
    before = await cloud.service.db.read(_rows)
    assert {(route.method, route.path) for route in ROUTES if not route.needs_token} == OPEN
    for route in ROUTES:
        if not route.needs_token:
            assert route.open_because
            continue
        for token in ("", "gAAAAA-forged", "é"):
            reply = await cloud.send(route.method, _filled(route, ids), {}, token)
            assert reply.status == 401, (route.method, route.path, reply.content)
    assert await cloud.service.db.read(_rows) == before


@pytest.mark.parametrize("kind", ["reader", "unscoped"])
async def test_a54_a_stranger_reads_and_writes_nothing_of_others(cloud: Cloud, kind: str) -> None:
    admin = await cloud.admin()
    own = (await admin.post("/v3/projects", {"project": {"name": "own"}}, 201))["project"]["id"]
    await cloud.user(admin, "stranger", "reader", project_id=own)
    scope = {"project": {"id": own}} if kind == "reader" else None
    ids = await _victims(cloud)
    stranger = ApiClient(cloud.app, await cloud.login("stranger", "stranger", scope))
    before = await cloud.service.db.read(_rows)
    for route in ROUTES:
        if not route.needs_token or route.path == "/v3/auth/tokens":
            continue
        body: Any = {route.envelope: {}} if route.envelope else {}
        reply = await stranger.send(route.method, _filled(route, ids), body)
        if route.path in KNOWN_TO_ALL and route.method == "GET":
            assert reply.status < 500 and b"canary" not in reply.content
            continue
        assert reply.status in (400, 401, 403, 404), (route.method, route.path, reply.status, reply.content)
    assert await cloud.service.db.read(_rows) == before


async def test_a34_forged_identity_headers_say_nothing(cloud: Cloud) -> None:
    forged = {
        "x_roles": "admin", "x_user_id": cloud.made.admin_user_id, "x_is_admin_project": "True",
        "x_identity_status": "Confirmed", "x_project_id": cloud.made.admin_project_id, "openstack_system_scope": "all",
        "x_service_roles": "service", "x_service_identity_status": "Confirmed",
    }  # fmt: skip
    assert (await cloud.send("GET", "/v3/users", **forged)).status == 401
    mine = await demo(cloud)
    assert (await mine.send("GET", "/v3/users", **forged)).status == 403
    assert (await mine.send("POST", "/v3/users", {"user": {"name": "x"}}, **forged)).status == 403


async def test_a51_a_catalog_url_fills_in_a_project_and_nothing_else(cloud: Cloud) -> None:
    admin = await cloud.admin()
    service = (await admin.get("/v3/services"))["services"][0]["id"]
    before = await admin.get("/v3/endpoints")
    for url in (
        "http://evil/$(admin_token)s", "http://evil/%(password)s", "http://evil/$(user_id)s", "http://evil/%(x",
        "http://evil/{project_id.__class__}$(project_id.__class__)s", "", "http://a b",
    ):  # fmt: skip
        body = {"endpoint": {"service_id": service, "interface": "public", "url": url}}
        await admin.post("/v3/endpoints", body, 400)
    assert await admin.get("/v3/endpoints") == before


async def test_a52_an_expired_token_counts_beside_a_services_own_only() -> None:
    async with make_cloud(IdentitySettings(token_lifetime_seconds=2)) as cloud:
        admin = await cloud.admin()
        await cloud.user(admin, "rogue", "member", project_id=cloud.made.project_id)
        late = (await demo(cloud))._token
        validator = TokenValidator(cloud.service.world, cloud.client)
        await validator.authenticate(late, "")
        await cloud.service.world.clock.sleep(2.1)
        rogue = await cloud.login("rogue", "rogue", project("demo"))
        nova = await cloud.login("nova", "n" * 43, project("service"))
        for beside in ("", rogue, late, "forged"):
            with pytest.raises(Fault):
                await validator.authenticate(late, beside)
        caller = await validator.authenticate(late, nova)
        assert caller.is_service and caller.roles == ("member", "reader")
        assert (await cloud.send("GET", "/v3/auth/projects", token=late, x_service_token=rogue)).status == 401


async def test_a63_filters_by_others_ids_give_nothing(cloud: Cloud) -> None:
    await _victims(cloud)
    admin = await cloud.admin()
    own = (await admin.post("/v3/projects", {"project": {"name": "own"}}, 201))["project"]["id"]
    await cloud.user(admin, "stranger", "member", project_id=own)
    stranger = api_client(cloud.app, await cloud.login("stranger", "stranger", {"project": {"id": own}}))
    for query in (f"project_id={cloud.made.project_id}", "all_tenants=1", f"user_id={cloud.made.user_ids['demo']}"):
        assert (await stranger.get(f"/v3/limits?{query}"))["limits"] == []
        assert (await stranger.get(f"/v3/credentials?{query}"))["credentials"] == []
        assert [one["id"] for one in (await stranger.get(f"/v3/auth/projects?{query}"))["projects"]] == [own]
    await stranger.get(f"/v3/role_assignments?scope.project.id={cloud.made.project_id}", 403)
    await stranger.get(f"/v3/role_assignments?user.id={cloud.made.user_ids['demo']}&effective", 403)


async def test_a96_a_flood_of_invalid_tokens_fills_no_memory(cloud: Cloud) -> None:
    validator = TokenValidator(cloud.service.world, cloud.client)
    good = (await cloud.try_login("demo", DEMO_PASSWORD)).headers["x-subject-token"]
    await validator.authenticate(good, "")
    for _ in range(REFUSED_REMEMBERED + 200):
        with pytest.raises(Fault):
            await validator.authenticate("gAAAAA" + secrets.token_urlsafe(60), "")
    assert len(validator._refused) <= REFUSED_REMEMBERED
    assert len(cloud.service.tokens._known) < 10
    assert (await validator.authenticate(good, "")).user_name == "demo"
