"""OAuth1: a consumer asks, a user agrees to some of its roles, the consumer logs in. Signed by the client library."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
from oauthlib import oauth1

from kilonova.http.client import Reply
from tests.api.identity.support import ADMIN_PASSWORD, Cloud, project
from tests.api.support import ApiClient

ORIGIN = "http://localhost"
REQUEST, ACCESS = "/v3/OS-OAUTH1/request_token", "/v3/OS-OAUTH1/access_token"
TOKENS = "/v3/auth/tokens"


class Keys(NamedTuple):
    """A consumer, and the token it has so far."""

    consumer: str
    consumer_secret: str
    token: str = ""
    token_secret: str = ""
    verifier: str = ""


def signed(path: str, keys: Keys, **more: Any) -> dict[str, str]:
    """The Authorization header of a POST."""
    client = oauth1.Client(
        keys.consumer,
        client_secret=keys.consumer_secret,
        resource_owner_key=keys.token or None,
        resource_owner_secret=keys.token_secret or None,
        verifier=keys.verifier or None,
        **more,
    )
    return {"authorization": client.sign(f"{ORIGIN}{path}", http_method="POST")[1]["Authorization"]}


async def consumer(cloud: Cloud, admin: ApiClient) -> Keys:
    """A new consumer."""
    made = (await admin.post("/v3/OS-OAUTH1/consumers", {"consumer": {"description": "a robot"}}, 201))["consumer"]
    return Keys(made["id"], made["secret"])


async def asked(cloud: Cloud, keys: Keys, project_id: str, **more: Any) -> Keys:
    """`keys` with a request token."""
    headers = signed(REQUEST, keys, **more)
    reply = await cloud.send("POST", REQUEST, requested_project_id=project_id, **headers)
    assert reply.status == 201, reply.content
    said = dict(parse_qsl(reply.content.decode()))
    return keys._replace(token=said["oauth_token"], token_secret=said["oauth_token_secret"])


async def authorize(user: ApiClient, keys: Keys, *roles: str) -> Reply:
    """A user agrees."""
    body = {"roles": [{"name": name} for name in roles]}
    return await user.send("PUT", f"/v3/OS-OAUTH1/authorize/{keys.token}", body)


async def granted(cloud: Cloud, user: ApiClient, project_id: str, *roles: str) -> Keys:
    """A consumer with an access token of `user`."""
    keys = await asked(cloud, await consumer(cloud, await cloud.admin()), project_id)
    agreed = await authorize(user, keys, *roles)
    assert agreed.status == 200, agreed.content
    keys = keys._replace(verifier=agreed.json()["token"]["oauth_verifier"])
    reply = await cloud.send("POST", ACCESS, **signed(ACCESS, keys))
    assert reply.status == 201, reply.content
    said = dict(parse_qsl(reply.content.decode()))
    return Keys(keys.consumer, keys.consumer_secret, said["oauth_token"], said["oauth_token_secret"])


async def login(cloud: Cloud, keys: Keys, **more: Any) -> Reply:
    """A login with an access token."""
    body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}} | more}
    return await cloud.send("POST", TOKENS, body, **signed(TOKENS, keys))


async def admin_project(cloud: Cloud) -> str:
    """The id of project admin."""
    reply = await cloud.try_login("admin", ADMIN_PASSWORD, project("admin"))
    return str(reply.json()["token"]["project"]["id"])


async def test_a_consumer_acts_with_the_roles_it_was_given_and_no_others(cloud: Cloud) -> None:
    admin, project_id = await cloud.admin(), await admin_project(cloud)
    keys = await granted(cloud, admin, project_id, "reader")
    reply = await login(cloud, keys)
    assert reply.status == 201, reply.content
    token = reply.json()["token"]
    assert token["user"]["name"] == "admin" and token["project"]["id"] == project_id
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["methods"] == ["oauth1"]
    assert token["OS-OAUTH1"] == {"access_token_id": keys.token, "consumer_id": keys.consumer}
    holder = ApiClient(cloud.app, reply.headers["x-subject-token"])
    await holder.post("/v3/users", {"user": {"name": "eve"}}, 403)


async def test_the_user_sees_what_it_gave_and_takes_it_back(cloud: Cloud) -> None:
    admin, project_id = await cloud.admin(), await admin_project(cloud)
    keys = await granted(cloud, admin, project_id, "reader")
    path = f"/v3/users/{cloud.made.user_ids['admin']}/OS-OAUTH1/access_tokens"
    (seen,) = (await admin.get(path))["access_tokens"]
    assert seen["id"] == keys.token and seen["consumer_id"] == keys.consumer and "secret" not in seen
    assert (await admin.get(f"{path}/{keys.token}"))["access_token"] == seen
    (role,) = (await admin.get(f"{path}/{keys.token}/roles"))["roles"]
    assert (await admin.get(f"{path}/{keys.token}/roles/{role['id']}"))["role"]["name"] == "reader"
    await admin.get(f"{path}/{keys.token}/roles/nothing", 404)
    holder = ApiClient(cloud.app, (await login(cloud, keys)).headers["x-subject-token"])
    await holder.get("/v3/auth/projects")
    await admin.delete(f"{path}/{keys.token}")
    await holder.get("/v3/auth/projects", 401)
    assert (await login(cloud, keys)).status == 401
    await admin.get(f"{path}/{keys.token}", 404)


async def test_consumers_are_kept_by_administrators(cloud: Cloud) -> None:
    admin = await cloud.admin()
    keys = await consumer(cloud, admin)
    path = f"/v3/OS-OAUTH1/consumers/{keys.consumer}"
    shown = (await admin.get(path))["consumer"]
    assert shown["description"] == "a robot" and "secret" not in shown
    changed = await admin.patch(path, {"consumer": {"description": "another"}})
    assert changed["consumer"]["description"] == "another"
    await admin.patch(path, {"consumer": {"secret": "mine"}}, 400)
    await ApiClient(cloud.app, await cloud.login("demo", "battery-staple")).get(path, 403)
    await admin.delete(path)
    await admin.get(path, 404)
    reply = await cloud.send("POST", REQUEST, requested_project_id="x", **signed(REQUEST, keys))
    assert reply.status == 401


@pytest.mark.parametrize("method", [oauth1.SIGNATURE_HMAC_SHA256, oauth1.SIGNATURE_HMAC_SHA512])
async def test_stronger_signatures_are_taken_too(cloud: Cloud, method: str) -> None:
    keys = await consumer(cloud, await cloud.admin())
    assert (await asked(cloud, keys, cloud.made.project_id, signature_method=method)).token


async def test_a_wish_names_a_project_that_exists(cloud: Cloud) -> None:
    keys = await consumer(cloud, await cloud.admin())
    assert (await cloud.send("POST", REQUEST, **signed(REQUEST, keys))).status == 400
    reply = await cloud.send("POST", REQUEST, requested_project_id="nothing", **signed(REQUEST, keys))
    assert reply.status == 404
