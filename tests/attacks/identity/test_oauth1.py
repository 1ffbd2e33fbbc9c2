"""A42: a consumer gets what was authorized and nothing more, and nothing with signatures it did not make now."""

from __future__ import annotations

import time

from oauthlib import oauth1

from tests.api.identity.support import Cloud
from tests.api.identity.test_oauth1 import (
    ACCESS,
    REQUEST,
    TOKENS,
    admin_project,
    asked,
    authorize,
    consumer,
    granted,
    login,
    signed,
)
from tests.api.support import ApiClient


async def test_roles_that_the_user_lacks_are_not_lent(cloud: Cloud) -> None:
    admin = await cloud.admin()
    keys = await asked(cloud, await consumer(cloud, admin), cloud.made.project_id)
    assert (await authorize(admin, keys, "admin", "service")).status == 401
    assert (await authorize(admin, keys)).status == 400


async def test_an_old_or_odd_or_foreign_signature_is_refused_alike(cloud: Cloud) -> None:
    keys = await granted(cloud, await cloud.admin(), await admin_project(cloud), "reader")
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
    old = str(int(time.time()) - 700)
    wrong = [
        signed(TOKENS, keys._replace(token_secret="guessed")),
        signed(TOKENS, keys._replace(consumer_secret="guessed")),
        signed(TOKENS, keys._replace(consumer="nobody")),
        signed(TOKENS, keys._replace(token="nothing")),
        signed(TOKENS, keys._replace(token="", token_secret="")),
        signed(REQUEST, keys),
        signed(TOKENS, keys, timestamp=old),
        signed(TOKENS, keys, signature_method=oauth1.SIGNATURE_PLAINTEXT),
        {"authorization": "OAuth "},
        {"authorization": "OAuth oauth_token"},
        {"authorization": 'OAuth oauth_token="a", oauth_token="b"'},
        {"authorization": "Bearer x"},
        {},
    ]
    replies = [await cloud.send("POST", TOKENS, body, **headers) for headers in wrong]
    assert {reply.status for reply in replies} == {401}
    assert len({reply.content for reply in replies}) == 1


async def test_a_captured_signature_is_not_good_again(cloud: Cloud) -> None:
    keys = await granted(cloud, await cloud.admin(), await admin_project(cloud), "reader")
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
    captured = signed(TOKENS, keys)
    assert (await cloud.send("POST", TOKENS, body, **captured)).status == 201
    assert (await cloud.send("POST", TOKENS, body, **captured)).status == 401


async def test_what_was_lent_does_not_grow(cloud: Cloud) -> None:
    admin, project_id = await cloud.admin(), await admin_project(cloud)
    keys = await granted(cloud, admin, project_id, "manager", "admin")
    for scope in ({"system": {"all": True}}, {"domain": {"id": "default"}}, {"project": {"id": project_id}}):
        assert (await login(cloud, keys, scope=scope)).status == 401
    token = (await login(cloud, keys)).headers["x-subject-token"]
    holder, user_id = ApiClient(cloud.app, token), cloud.made.user_ids["admin"]
    again = {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": {"system": {"all": True}}}
    assert (await cloud.send("POST", TOKENS, {"auth": again})).status == 403
    other = await asked(cloud, await consumer(cloud, admin), project_id)
    assert (await authorize(holder, other, "admin")).status == 403
    made = {"application_credential": {"name": "robot"}}
    await holder.post(f"/v3/users/{user_id}/application_credentials", made, 403)
    await holder.get(f"/v3/users/{user_id}/OS-OAUTH1/access_tokens", 403)
    secret = {"user_id": user_id, "type": "totp", "blob": "GEZDGNBVGY3TQOJQ"}
    await holder.post("/v3/credentials", {"credential": secret}, 403)


async def test_a_request_token_is_exchanged_once_by_its_own_consumer_for_who_agreed(cloud: Cloud) -> None:
    admin, project_id = await cloud.admin(), await admin_project(cloud)
    keys = await asked(cloud, await consumer(cloud, admin), project_id)
    assert (await cloud.send("POST", ACCESS, **signed(ACCESS, keys))).status == 401  # nobody agreed yet
    keys = keys._replace(verifier=(await authorize(admin, keys, "reader")).json()["token"]["oauth_verifier"])
    assert (await authorize(admin, keys, "admin")).status == 404  # what was agreed to stays
    thief = await consumer(cloud, admin)
    stolen = keys._replace(consumer=thief.consumer, consumer_secret=thief.consumer_secret)
    for wrong in (stolen, keys._replace(verifier="guessed"), keys._replace(verifier="")):
        assert (await cloud.send("POST", ACCESS, **signed(ACCESS, wrong))).status == 401
    assert (await cloud.send("POST", ACCESS, **signed(ACCESS, keys))).status == 201
    assert (await cloud.send("POST", ACCESS, **signed(ACCESS, keys))).status == 401


async def test_lent_rights_end_with_the_role_and_with_the_consumer(cloud: Cloud) -> None:
    admin = await cloud.admin()
    lender = await cloud.user(admin, "lender", "admin", project_id=cloud.made.project_id)
    user = ApiClient(cloud.app, await cloud.login("lender", "lender", {"project": {"id": cloud.made.project_id}}))
    keys = await granted(cloud, user, cloud.made.project_id, "member")
    holder = ApiClient(cloud.app, (await login(cloud, keys)).headers["x-subject-token"])
    await holder.get("/v3/auth/projects")
    role_id = cloud.made.role_ids["admin"]
    await admin.delete(f"/v3/projects/{cloud.made.project_id}/users/{lender['id']}/roles/{role_id}")
    await holder.get("/v3/auth/projects", 401)
    keys = await granted(cloud, admin, await admin_project(cloud), "member")
    holder = ApiClient(cloud.app, (await login(cloud, keys)).headers["x-subject-token"])
    await admin.delete(f"/v3/OS-OAUTH1/consumers/{keys.consumer}")
    await holder.get("/v3/auth/projects", 401)
