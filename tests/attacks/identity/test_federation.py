"""A50: a provider's token gives what the mapping names and nothing more, and only tokens made for us count."""

from __future__ import annotations

import jwt

from tests.api.identity.conftest import cloud
from tests.api.identity.oidc_provider import OTHER_PRIVATE
from tests.api.identity.support import DEFAULT, project
from tests.api.identity.test_federation import CORP, FEDERATION, Corp, corp
from tests.api.support import ApiClient

__all__ = ["cloud", "corp"]


async def test_tokens_that_are_not_ours_forged_or_late_are_refused_alike(corp: Corp) -> None:
    provider = corp.provider
    public = jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_PRIVATE.public_key())
    header, payload, signature = provider.access_token().split(".")
    unsigned = jwt.encode({"iss": provider.issuer, "aud": "kilonova", "sub": "a1"}, None, "none")
    wrong = [
        provider.access_token(key=OTHER_PRIVATE),
        provider.access_token(key=OTHER_PRIVATE, kid="second"),
        provider.access_token(key="k" * 64, algorithm="HS256"),
        provider.access_token(key=public[:64], algorithm="HS256"),
        provider.access_token(algorithm="RS512"),
        provider.access_token(iss="https://evil.example.org"),
        provider.access_token(iss=f"{provider.issuer}/"),
        provider.access_token(iss=None),
        provider.access_token(aud="another service"),
        provider.access_token(aud=None),
        provider.access_token(seconds=-60),
        provider.access_token(exp=None),
        provider.access_token(nbf=32_503_680_000),
        unsigned,
        f"{header}.{payload}.",
        f"{header}.{payload[:-3]}.{signature}",
        "a.b.c",
        "é",
        "x" * 40_000,
    ]
    replies = [await corp.login(one) for one in wrong]
    assert [reply.status for reply in replies] == [401] * len(wrong)
    assert len({reply.content for reply in replies}) == 1
    assert (await corp.login()).status == 201


async def test_keys_are_never_fetched_from_where_a_token_says(corp: Corp) -> None:
    asked = len(corp.provider.asked)
    for index in range(20):
        token = corp.provider.access_token(key=OTHER_PRIVATE, kid=f"made up {index}")
        assert (await corp.login(token)).status == 401
    assert len(corp.provider.asked) - asked <= 2  # the documents once, however many key names are made up


async def test_claims_do_not_choose_another_user(corp: Corp) -> None:
    name = (await corp.login()).json()["token"]["user"]["name"]
    assert (await corp.login(sub="m1", preferred_username=name.upper())).status == 401
    admin_id = corp.cloud.made.user_ids["admin"]
    reply = await corp.login(sub=admin_id, preferred_username="admin")
    assert reply.json()["token"]["user"]["id"] != admin_id  # an id of the provider's is no id of ours
    for odd in ({"preferred_username": ["a", "b"]}, {"preferred_username": {"a": 1}}, {"preferred_username": ""}):
        assert (await corp.login(sub="m2", **odd)).status == 401


async def test_places_in_claims_are_not_filled_again(corp: Corp) -> None:
    reply = await corp.login(sub="m3", preferred_username="{2} {0.__class__}")
    assert reply.json()["token"]["user"]["name"] == "{2} {0.__class__}"


async def test_no_role_no_project_no_scope(corp: Corp) -> None:
    await corp.group("board", "admin")
    token = await corp.token(groups=["board", "strangers"])  # no rule lets the claim `board` through
    unscoped = ApiClient(corp.cloud.app, token)
    assert (await unscoped.get(f"{FEDERATION}/projects"))["projects"] == []
    assert (await unscoped.get(f"{FEDERATION}/domains"))["domains"] == []
    identity = {"methods": ["token"], "token": {"id": token}}
    for scope in (project("admin"), {"domain": DEFAULT}, {"system": {"all": True}}):
        auth = {"identity": identity, "scope": scope}
        assert (await corp.cloud.send("POST", "/v3/auth/tokens", {"auth": auth})).status == 401
    await unscoped.get("/v3/users", 403)


async def test_a_role_that_the_cloud_does_not_have_is_not_given(corp: Corp) -> None:
    projects = [{"name": "p", "roles": [{"name": "{1}"}]}]
    local = [{"user": {"name": "{0}"}, "projects": projects}]
    await corp.rules([{"local": local, "remote": [{"type": "sub"}, {"type": "role"}]}])
    unscoped = ApiClient(corp.cloud.app, await corp.token(role="emperor"))
    assert (await unscoped.get(f"{FEDERATION}/projects"))["projects"] == []


async def test_a_disabled_provider_ends_its_users_tokens_and_their_application_credentials(corp: Corp) -> None:
    await corp.group("staff", "member")
    scoped = await corp.scoped(await corp.token())
    holder, user_id = ApiClient(corp.cloud.app, scoped.headers["x-subject-token"]), scoped.json()["token"]["user"]["id"]
    path = f"/v3/users/{user_id}/application_credentials"
    robot = (await holder.post(path, {"application_credential": {"name": "robot"}}, 201))["application_credential"]
    await corp.admin.patch(CORP, {"identity_provider": {"enabled": False}})
    await holder.get("/v3/auth/projects", 401)
    assert (await corp.login()).status == 401
    secret = {"id": robot["id"], "secret": robot["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": secret}
    assert (await corp.cloud.send("POST", "/v3/auth/tokens", {"auth": {"identity": identity}})).status == 401


async def test_providers_are_asked_over_tls_unless_they_are_on_this_machine(corp: Corp) -> None:
    issuer = "http://192.0.2.1"
    await corp.admin.patch(CORP, {"identity_provider": {"remote_ids": [issuer]}})
    assert (await corp.login(iss=issuer)).status == 503
