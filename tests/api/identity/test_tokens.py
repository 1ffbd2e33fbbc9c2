"""Logging in, and what a token is worth."""

from __future__ import annotations

import bcrypt
import msgspec
import pytest
from argon2 import PasswordHasher

from kilonova.base.faults import Fault, Kind
from kilonova.identity import store
from kilonova.identity.bootstrap import bootstrap
from kilonova.identity.schema import users
from kilonova.identity.tokens_for_services import ServiceTokens, ServiceUser
from kilonova.identity.user.password_store import present
from kilonova.identity.validator import TokenValidator
from tests.api.identity.support import ADMIN_PASSWORD, DEMO_PASSWORD, NOVA_SECRET, Cloud, project


async def test_a_password_gets_a_project_token_with_implied_roles_and_catalog(cloud: Cloud) -> None:
    reply = await cloud.try_login("admin", ADMIN_PASSWORD, project("admin"))
    assert reply.status == 201
    token = reply.json()["token"]
    assert [role["name"] for role in token["roles"]] == ["admin", "manager", "member", "reader"]
    assert token["project"] == {
        "id": cloud.made.admin_project_id,
        "name": "admin",
        "domain": {"id": "default", "name": "Default"},
    }
    assert token["user"]["domain"] == {"id": "default", "name": "Default"}
    assert token["methods"] == ["password"] and token["is_domain"] is False and len(token["audit_ids"]) == 1
    urls = {service["type"]: service["endpoints"][0]["url"] for service in token["catalog"]}
    assert urls["volumev3"] == f"http://localhost/volume/v3/{cloud.made.admin_project_id}"
    assert len(reply.headers["x-subject-token"]) < 255


@pytest.mark.parametrize(
    ("name", "password"), [("admin", "wrong"), ("nobody", "wrong"), ("nova", "wrong"), ("demo", ADMIN_PASSWORD)]
)
async def test_whoever_is_wrong_learns_only_that(cloud: Cloud, name: str, password: str) -> None:
    reply = await cloud.try_login(name, password)
    assert reply.status == 401
    told = reply.json()["error"]["message"]
    assert told.startswith("The request you have made requires authentication. Log in again")


async def test_a_name_is_the_same_in_any_case_and_unicode_form(cloud: Cloud) -> None:
    assert await cloud.login("ＡＤＭＩＮ", ADMIN_PASSWORD, project("Admin"))


async def test_scopes(cloud: Cloud) -> None:
    system = (await cloud.try_login("admin", ADMIN_PASSWORD, {"system": {"all": True}})).json()["token"]
    assert system["system"] == {"all": True} and "project" not in system
    assert [s["endpoints"] for s in system["catalog"] if s["type"] == "volumev3"] == [[]]
    unscoped = (await cloud.try_login("admin", ADMIN_PASSWORD)).json()["token"]
    assert not {"project", "domain", "system", "roles", "catalog"} & set(unscoped)
    default = (await cloud.try_login("demo", DEMO_PASSWORD)).json()["token"]
    assert default["project"]["name"] == "demo"
    explicit = (await cloud.try_login("demo", DEMO_PASSWORD, "unscoped")).json()["token"]
    assert "project" not in explicit
    assert (await cloud.try_login("demo", DEMO_PASSWORD, {"domain": {"id": "default"}})).status == 401
    assert (await cloud.try_login("demo", DEMO_PASSWORD, project("nowhere"))).status == 401
    assert (await cloud.try_login("demo", DEMO_PASSWORD, {})).status == 400


async def test_a_token_rescopes_and_keeps_its_end_and_its_chain(cloud: Cloud) -> None:
    first = await cloud.try_login("admin", ADMIN_PASSWORD)
    auth = {
        "identity": {"methods": ["token"], "token": {"id": first.headers["x-subject-token"]}},
        "scope": project("demo"),
    }
    second = (await cloud.send("POST", "/v3/auth/tokens", {"auth": auth})).json()["token"]
    assert second["project"]["name"] == "demo"
    assert second["methods"] == ["password", "token"]
    assert second["expires_at"] == first.json()["token"]["expires_at"]
    assert second["audit_ids"][1:] == first.json()["token"]["audit_ids"]


async def test_validate_check_revoke(cloud: Cloud) -> None:
    admin = await cloud.login("admin", ADMIN_PASSWORD, project("admin"))
    demo = await cloud.login("demo", DEMO_PASSWORD)
    shown = await cloud.send("GET", "/v3/auth/tokens", token=admin, x_subject_token=demo)
    assert shown.status == 200 and shown.json()["token"]["user"]["name"] == "demo"
    assert shown.headers["x-subject-token"] == demo
    short = await cloud.send("GET", "/v3/auth/tokens?nocatalog", token=demo, x_subject_token=demo)
    assert "catalog" not in short.json()["token"]
    head = await cloud.send("HEAD", "/v3/auth/tokens", token=admin, x_subject_token=demo)
    assert head.status == 200 and head.content == b""
    assert (await cloud.send("GET", "/v3/auth/tokens", token=demo, x_subject_token=admin)).status == 403
    assert (await cloud.send("GET", "/v3/auth/tokens", token=admin, x_subject_token="forged")).status == 404
    assert (await cloud.send("GET", "/v3/auth/tokens", token="forged", x_subject_token=demo)).status == 401
    assert (await cloud.send("GET", "/v3/auth/tokens", token="", x_subject_token=demo)).status == 401
    assert (await cloud.send("DELETE", "/v3/auth/tokens", token=demo, x_subject_token=demo)).status == 204
    assert (await cloud.send("GET", "/v3/auth/tokens", token=admin, x_subject_token=demo)).status == 404
    assert (await cloud.send("GET", "/v3/auth/projects", token=demo)).status == 401
    again = await cloud.login("demo", DEMO_PASSWORD)
    assert (await cloud.send("GET", "/v3/auth/tokens", token=again, x_subject_token=demo)).status == 404


async def test_what_the_holder_may_ask_about_itself(cloud: Cloud) -> None:
    demo = await cloud.login("demo", DEMO_PASSWORD, "unscoped")
    projects = (await cloud.send("GET", "/v3/auth/projects", token=demo)).json()
    assert [one["name"] for one in projects["projects"]] == ["demo"]
    assert (await cloud.send("GET", "/v3/auth/domains", token=demo)).json()["domains"] == []
    assert (await cloud.send("GET", "/v3/auth/system", token=demo)).json()["system"] == []
    admin = await cloud.login("admin", ADMIN_PASSWORD, project("admin"))
    assert (await cloud.send("GET", "/v3/auth/system", token=admin)).json()["system"] == [{"all": True}]
    catalog = (await cloud.send("GET", "/v3/auth/catalog", token=admin)).json()["catalog"]
    assert {service["name"] for service in catalog} == {"keystone", "cinderv3"}


async def test_services_validate_through_the_client_and_hear_of_revocation(cloud: Cloud) -> None:
    world = cloud.service.world
    validator = TokenValidator(world, cloud.client, poll_seconds=0.0)
    demo = await cloud.login("demo", DEMO_PASSWORD)
    caller = await validator.authenticate(demo, "")
    assert (caller.user_name, caller.project_name, caller.roles) == ("demo", "demo", ("member", "reader"))
    assert await validator.authenticate(demo, "") is caller
    tokens = ServiceTokens(world, cloud.client, ServiceUser("nova", NOVA_SECRET))
    service_token = await tokens.token()
    assert await tokens.token() == service_token
    both = await validator.authenticate(demo, service_token)
    assert both.is_service and both.service_roles == ("service",) and both.user_name == "demo"
    await cloud.send("DELETE", "/v3/auth/tokens", token=demo, x_subject_token=demo)
    with pytest.raises(Fault) as refused:
        await validator.authenticate(demo, "")
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_bootstrap_again_changes_nothing(cloud: Cloud) -> None:
    before = await cloud.login("admin", ADMIN_PASSWORD, project("admin"))
    assert await bootstrap(cloud.service, cloud.plan) == cloud.made
    assert (await cloud.send("GET", "/v3/auth/projects", token=before)).status == 200
    admin = await cloud.admin()
    await admin.patch(f"/v3/users/{cloud.made.admin_user_id}", {"user": {"password": "my own"}})
    await bootstrap(cloud.service, cloud.plan)
    assert await cloud.login("admin", "my own")
    await bootstrap(cloud.service, msgspec.structs.replace(cloud.plan, reset_passwords=True))
    assert await cloud.login("admin", ADMIN_PASSWORD)


@pytest.mark.parametrize(
    "old",
    [
        bcrypt.hashpw(b"long ago", bcrypt.gensalt(4)).decode(),  # as Keystone wrote them
        PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash("long ago"),  # as we did at first
    ],
    ids=["bcrypt", "19 MiB"],
)
async def test_an_older_hash_is_accepted_and_replaced(cloud: Cloud, old: str) -> None:
    admin = await cloud.admin()
    user = await cloud.user(admin, "veteran")
    await cloud.service.db.write(store.change, users, user["id"], {"password_hash": old})
    assert (await cloud.try_login("veteran", "long agO")).status == 401
    assert (await cloud.service.db.read(present, user["id"])).password_hash == old
    assert await cloud.login("veteran", "long ago")
    kept = (await cloud.service.db.read(present, user["id"])).password_hash
    assert kept.startswith("$argon2id$v=19$m=7168,t=5,p=1$")
    assert await cloud.login("veteran", "long ago")
    assert (await cloud.service.db.read(present, user["id"])).password_hash == kept
    assert (await cloud.try_login("veteran", "long agO")).status == 401


async def test_discovery(cloud: Cloud) -> None:
    both = await cloud.send("GET", "/")
    assert both.status == 300 and both.json()["versions"]["values"][0]["id"] == "v3.14"
    one = await cloud.send("GET", "/v3/")
    assert one.json()["version"]["links"] == [{"rel": "self", "href": "http://localhost/v3/"}]
