"""A34, A51, A52, A54, A63, A96: every route against who may not; forged headers; floods; catalog templates."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
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


async def _own_project(cloud: Cloud, admin: ApiClient) -> str:
    return str((await admin.post("/v3/projects", {"project": {"name": "own"}}, 201))["project"]["id"])


async def _of_project(cloud: Cloud, admin: ApiClient, role: str) -> str:
    own = await _own_project(cloud, admin)
    await cloud.user(admin, "stranger", role, project_id=own)
    return await cloud.login("stranger", "stranger", {"project": {"id": own}})


async def _unscoped(cloud: Cloud, admin: ApiClient) -> str:
    await cloud.user(admin, "stranger", "reader", project_id=await _own_project(cloud, admin))
    return await cloud.login("stranger", "stranger", "unscoped")


async def _by_credential(cloud: Cloud, admin: ApiClient) -> str:
    """The token of an application credential that may do all that its user may."""
    mine = ApiClient(cloud.app, await _of_project(cloud, admin, "member"))
    me = (await mine.send("GET", "/v3/auth/tokens", x_subject_token=mine._token)).json()["token"]["user"]["id"]
    asked = {"application_credential": {"name": "robot", "unrestricted": True}}
    made = (await mine.post(f"/v3/users/{me}/application_credentials", asked, 201))["application_credential"]
    method = {"id": made["id"], "secret": made["secret"]}
    auth = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": method}}}
    return (await cloud.send("POST", "/v3/auth/tokens", auth)).headers["x-subject-token"]


async def _of_domain(cloud: Cloud, admin: ApiClient) -> str:
    """The manager of another domain, with a token of that domain."""
    domain = (await admin.post("/v3/domains", {"domain": {"name": "elsewhere"}}, 201))["domain"]["id"]
    user = {"user": {"name": "stranger", "password": "stranger", "domain_id": domain}}
    id_ = (await admin.post("/v3/users", user, 201))["user"]["id"]
    await admin.put(f"/v3/domains/{domain}/users/{id_}/roles/{cloud.made.role_ids['manager']}", None, 204)
    return await cloud.login("stranger", "stranger", {"domain": {"id": domain}}, {"id": domain})


STRANGERS: dict[str, Callable[[Cloud, ApiClient], Awaitable[str]]] = {
    "reader": lambda cloud, admin: _of_project(cloud, admin, "reader"),
    "member": lambda cloud, admin: _of_project(cloud, admin, "member"),
    "manager": lambda cloud, admin: _of_project(cloud, admin, "manager"),
    "unscoped": _unscoped,
    "application credential": _by_credential,
    "manager of another domain": _of_domain,
}
# what the manager of another domain may list besides: what is in its own domain, and the roles it may give there
MANAGED_ROLES = {"/v3/roles/{role_id}"}  # managers look at the roles that managers of domains may give
OWN_DOMAIN = {"/v3/users", "/v3/groups", "/v3/projects", "/v3/domains", "/v3/role_assignments", "/v3/roles"}


@pytest.mark.parametrize("kind", STRANGERS)
async def test_a54_a_stranger_reads_and_writes_nothing_of_others(cloud: Cloud, kind: str) -> None:
    admin = await cloud.admin()
    stranger = ApiClient(cloud.app, await STRANGERS[kind](cloud, admin))
    ids = await _victims(cloud)
    known = KNOWN_TO_ALL | (MANAGED_ROLES if kind.startswith("manager") else set())
    known |= OWN_DOMAIN if kind == "manager of another domain" else set()
    theirs = [ids[name].encode() for name in ("user_id", "project_id", "group_id", "credential_id", "policy_id")]
    before = await cloud.service.db.read(_rows)
    for route in ROUTES:
        if not route.needs_token or route.path == "/v3/auth/tokens":
            continue
        body: Any = {route.envelope: {}} if route.envelope else {}
        reply = await stranger.send(route.method, _filled(route, ids), body)
        if route.path in known and route.method == "GET":
            assert reply.status < 500 and b"canary" not in reply.content
            assert not any(id_ in reply.content for id_ in theirs), (route.path, reply.content)
            continue
        assert reply.status in (400, 401, 403, 404), (route.method, route.path, reply.status, reply.content)
    assert await cloud.service.db.read(_rows) == before


@pytest.mark.parametrize(("name", "status"), [("list", 200), ("create", 403)])
async def test_a54_a_reader_of_the_system_reads_all_and_writes_nothing(cloud: Cloud, name: str, status: int) -> None:
    """The same doors, opened by who may: a matrix that only ever sees refusals would prove nothing."""
    admin = await cloud.admin()
    await cloud.user(admin, "auditor", "reader")
    ids = await _victims(cloud)
    auditor = ApiClient(cloud.app, await cloud.login("auditor", "auditor", {"system": {"all": True}}))
    before = await cloud.service.db.read(_rows)
    seen = 0
    for route in ROUTES:
        wanted = route.policy.removeprefix("identity:").startswith(name) and route.needs_token
        if not wanted or "OS-OAUTH1" in route.path or "OS-REVOKE" in route.path:
            continue
        reply = await auditor.send(route.method, _filled(route, ids), {route.envelope: {}} if route.envelope else {})
        refused = (400, 403, 404) if name == "create" else (404,)
        assert reply.status in (status, *refused), (route.method, route.path, reply.status, reply.content)
        seen += reply.status == status
    assert seen >= 10
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
