"""Federation: whoever a provider vouches for is a user here, with what the mapping names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from kilonova.http.client import Reply
from kilonova.identity.federation.rules import apply, checked_rules
from tests.api.identity.oidc_provider import OidcProvider, oidc_provider
from tests.api.identity.support import DEFAULT, Cloud
from tests.api.support import ApiClient

FEDERATION = "/v3/OS-FEDERATION"
CORP = f"{FEDERATION}/identity_providers/corp"
AUTH = f"{CORP}/protocols/openid/auth"
RULES: list[dict[str, Any]] = [
    {
        "local": [{"user": {"name": "{0}", "id": "{1}", "email": "{2}"}}],
        "remote": [{"type": "preferred_username"}, {"type": "sub"}, {"type": "OIDC-email"}],
    },
    {
        "local": [{"groups": "{0}", "domain": DEFAULT}],
        "remote": [{"type": "groups", "whitelist": ["staff", "ops", "strangers"]}],
    },
]


@dataclass
class Corp:
    """A cloud that trusts a provider."""

    cloud: Cloud
    admin: ApiClient
    provider: OidcProvider

    async def login(self, token: str = "", **claims: Any) -> Reply:
        bearer = f"Bearer {token or self.provider.access_token(**claims)}"
        return await self.cloud.send("POST", AUTH, authorization=bearer)

    async def token(self, **claims: Any) -> str:
        reply = await self.login(**claims)
        assert reply.status == 201, reply.content
        return reply.headers["x-subject-token"]

    async def group(self, name: str, role: str) -> str:
        """A group with a role on project demo; its id."""
        made = (await self.admin.post("/v3/groups", {"group": {"name": name}}, 201))["group"]["id"]
        role_id = self.cloud.made.role_ids[role]
        await self.admin.put(f"/v3/projects/{self.cloud.made.project_id}/groups/{made}/roles/{role_id}", None, 204)
        return str(made)

    async def scoped(self, token: str) -> Reply:
        """A try to get a token for project demo."""
        identity = {"methods": ["token"], "token": {"id": token}}
        scope = {"project": {"id": self.cloud.made.project_id}}
        return await self.cloud.send("POST", "/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})

    async def rules(self, rules: list[dict[str, Any]]) -> None:
        await self.admin.patch(f"{FEDERATION}/mappings/staff", {"mapping": {"rules": rules}})


@pytest.fixture
async def corp(cloud: Cloud) -> AsyncIterator[Corp]:
    with oidc_provider() as provider:
        admin = await cloud.admin()
        body = {"enabled": True, "remote_ids": [provider.issuer]}
        await admin.put(CORP, {"identity_provider": body}, 201)
        await admin.put(f"{FEDERATION}/mappings/staff", {"mapping": {"rules": RULES}}, 201)
        await admin.put(f"{CORP}/protocols/openid", {"protocol": {"mapping_id": "staff"}}, 201)
        yield Corp(cloud, admin, provider)


async def test_a_user_of_the_provider_logs_in_and_works(corp: Corp) -> None:
    group_id = await corp.group("staff", "member")
    reply = await corp.login()
    assert reply.status == 201, reply.content
    token = reply.json()["token"]
    assert token["methods"] == ["mapped"] and "roles" not in token
    user = token["user"]
    assert user["name"] == "alice" and user["domain"]["id"] != "default"
    assert user["OS-FEDERATION"] == {
        "identity_provider": {"id": "corp"},
        "protocol": {"id": "openid"},
        "groups": [{"id": group_id}],
    }
    unscoped = ApiClient(corp.cloud.app, reply.headers["x-subject-token"])
    (project,) = (await unscoped.get(f"{FEDERATION}/projects"))["projects"]
    assert project["id"] == corp.cloud.made.project_id
    assert (await unscoped.get(f"{FEDERATION}/domains"))["domains"] == []
    scoped = await corp.scoped(reply.headers["x-subject-token"])
    assert scoped.status == 201, scoped.content
    assert [role["name"] for role in scoped.json()["token"]["roles"]] == ["member", "reader"]
    assert scoped.json()["token"]["user"]["OS-FEDERATION"]["identity_provider"] == {"id": "corp"}
    shown = (await corp.admin.get(f"/v3/users/{user['id']}"))["user"]
    assert shown["email"] == "alice@example.org"


async def test_the_same_person_is_the_same_user_whatever_its_name(corp: Corp) -> None:
    first = (await corp.login()).json()["token"]["user"]
    again = (await corp.login(preferred_username="alicia")).json()["token"]["user"]
    assert again["id"] == first["id"] and again["name"] == "alicia"
    assert corp.provider.asked.count("/keys") == 1  # the provider is not asked for its keys at each login


async def test_who_leaves_a_group_there_leaves_it_here(corp: Corp) -> None:
    await corp.group("staff", "member")
    scoped = await corp.scoped(await corp.token())
    holder = ApiClient(corp.cloud.app, scoped.headers["x-subject-token"])
    await holder.get("/v3/auth/projects")
    token = await corp.token(groups=["chess"])
    assert (await corp.scoped(token)).status == 401
    await holder.get("/v3/auth/projects", 401)


async def test_a_group_that_an_administrator_gave_stays(corp: Corp) -> None:
    group_id = await corp.group("guests", "reader")
    user_id = (await corp.login()).json()["token"]["user"]["id"]
    await corp.admin.put(f"/v3/groups/{group_id}/users/{user_id}", None, 204)
    assert (await corp.scoped(await corp.token())).status == 201


async def test_a_mapping_makes_projects_and_gives_roles(corp: Corp) -> None:
    projects = [{"name": "home of {0}", "roles": [{"name": "member"}]}]
    await corp.rules([{"local": [{"user": {"name": "{0}"}, "projects": projects}], "remote": [{"type": "email"}]}])
    for _ in range(2):
        unscoped = ApiClient(corp.cloud.app, await corp.token())
        (project,) = (await unscoped.get(f"{FEDERATION}/projects"))["projects"]
        assert project["name"] == "home of alice@example.org"


async def test_a_rule_that_says_nothing_of_anybody_lets_nobody_in(corp: Corp) -> None:
    await corp.rules([{"local": [], "remote": [{"type": "sub"}]}])
    assert (await corp.login()).status == 401


async def test_a_mapping_may_name_a_user_that_is_here(corp: Corp) -> None:
    local = {"user": {"name": "{0}", "domain": DEFAULT, "type": "local"}}
    await corp.rules([{"local": [local], "remote": [{"type": "preferred_username"}]}])
    reply = await corp.login(preferred_username="demo")
    assert reply.json()["token"]["user"]["id"] == corp.cloud.made.user_ids["demo"]
    assert (await corp.scoped(reply.headers["x-subject-token"])).status == 201
    assert (await corp.login(preferred_username="nobody")).status == 401


async def test_providers_protocols_and_mappings_are_kept_by_administrators(corp: Corp) -> None:
    admin = corp.admin
    shown = (await admin.get(CORP))["identity_provider"]
    assert shown["enabled"] is True and shown["links"]["protocols"].endswith("/corp/protocols")
    assert [one["id"] for one in (await admin.get(f"{FEDERATION}/identity_providers"))["identity_providers"]] == [
        "corp"
    ]
    await admin.put(CORP, {"identity_provider": {}}, 409)
    (way,) = (await admin.get(f"{CORP}/protocols"))["protocols"]
    assert way["id"] == "openid" and way["mapping_id"] == "staff"
    await admin.put(f"{CORP}/protocols/other", {"protocol": {"mapping_id": "nothing"}}, 400)
    await admin.patch(f"{CORP}/protocols/openid", {"protocol": {"mapping_id": "staff"}})
    assert (await admin.get(f"{FEDERATION}/mappings/staff"))["mapping"]["rules"] == RULES
    await admin.delete(f"{FEDERATION}/mappings/staff", 403)
    await admin.delete(f"{CORP}/protocols/openid")
    await admin.get(f"{CORP}/protocols/openid", 404)
    await admin.delete(f"{FEDERATION}/mappings/staff")
    await admin.delete(CORP)
    await admin.get(CORP, 404)
    demo = ApiClient(corp.cloud.app, await corp.cloud.login("demo", "battery-staple"))
    await demo.put(CORP, {"identity_provider": {}}, 403)


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{"local": [], "remote": []}],
        [{"local": [{"user": {"name": "x"}}], "remote": []}],
        [{"local": [{"user": {"name": "x"}}], "remote": [{"type": "sub", "any_one_of": ["["], "regex": True}]}],
        [{"local": [{"user": {"name": "x"}}], "remote": [{"type": "sub", "any_one_of": ["a"], "whitelist": ["a"]}]}],
        [{"local": [{"groups": "{0}"}], "remote": [{"type": "sub"}]}],
        [{"local": [{"user": {"name": "x", "type": "odd"}}], "remote": [{"type": "sub"}]}],
        [{"local": [{"unknown": 1}], "remote": [{"type": "sub"}]}],
    ],
)
async def test_rules_that_are_none_are_refused(corp: Corp, rules: list[Any]) -> None:
    await corp.admin.put(f"{FEDERATION}/mappings/other", {"mapping": {"rules": rules}}, 400)
    await corp.admin.get(f"{FEDERATION}/mappings/other", 404)


@pytest.mark.parametrize(
    ("remote", "fits"),
    [
        ({"type": "groups", "any_one_of": ["ops", "x"]}, True),
        ({"type": "groups", "any_one_of": ["x"]}, False),
        ({"type": "groups", "not_any_of": ["x"]}, True),
        ({"type": "groups", "not_any_of": ["ops"]}, False),
        ({"type": "groups", "any_one_of": ["^o.s$"], "regex": True}, True),
        ({"type": "groups", "not_any_of": ["^o"], "regex": True}, False),
        ({"type": "absent"}, False),
        ({"type": "HTTP_OIDC_GROUPS", "any_one_of": ["ops"]}, True),
    ],
)
def test_requirements(remote: dict[str, Any], fits: bool) -> None:
    rules = checked_rules([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "sub"}, remote]}])
    mapped = apply(rules, {"sub": ["a1"], "groups": ["staff", "ops"]})
    assert (mapped.user is not None and mapped.user.name == "a1") is fits


def test_filters_leave_what_they_say() -> None:
    for kind, values, left in (("whitelist", ["ops"], ["ops"]), ("blacklist", ["ops"], ["staff"])):
        local = [{"groups": "{0}", "domain": {"id": "default"}}]
        rules = checked_rules([{"local": local, "remote": [{"type": "groups", kind: values}]}])
        assert [group.name for group in apply(rules, {"groups": ["staff", "ops"]}).groups] == left
