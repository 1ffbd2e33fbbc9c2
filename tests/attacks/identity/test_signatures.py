"""A35, A48: a captured signature is worth nothing to who captured it (OSSA-2025-002)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kilonova.http.client import Reply
from tests.api.identity.support import Cloud, demo, project
from tests.api.support import ApiClient
from tests.attacks.identity.signing import signed_2, signed_4, signed_s3


async def _keys(cloud: Cloud) -> dict[str, Any]:
    path = f"/v3/users/{cloud.made.user_ids['demo']}/credentials/OS-EC2"
    made = await (await demo(cloud)).post(path, {"tenant_id": cloud.made.project_id}, 201)
    return dict(made["credential"])


async def _service(cloud: Cloud) -> ApiClient:
    return ApiClient(cloud.app, await cloud.login("nova", "n" * 43, project("service")))


async def _ask(asker: ApiClient, described: dict[str, Any], kind: str = "ec2") -> Reply:
    return await asker.send("POST", f"/v3/{kind}tokens", {"credentials": described})


@pytest.mark.parametrize(("sign", "kind"), [(signed_2, "ec2"), (signed_4, "ec2"), (signed_s3, "s3")])
async def test_a_service_learns_who_signed_and_nobody_else_does(cloud: Cloud, sign: Any, kind: str) -> None:
    keys = await _keys(cloud)
    described = sign(keys["access"], keys["secret"])
    reply = await _ask(await _service(cloud), described, kind)
    assert reply.status == 200, reply.content
    token = reply.json()["token"]
    assert token["user"]["id"] == cloud.made.user_ids["demo"] and token["project"]["id"] == cloud.made.project_id
    assert (await _ask(ApiClient(cloud.app, ""), described, kind)).status == 401
    assert (await _ask(await demo(cloud), described, kind)).status == 403
    # what a signature got is no way to other scopes
    again = {"identity": {"methods": ["token"], "token": {"id": reply.headers["x-subject-token"]}}}
    assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": again})).status == 403


@pytest.mark.parametrize(("sign", "kind"), [(signed_2, "ec2"), (signed_4, "ec2"), (signed_s3, "s3")])
async def test_wrong_unknown_old_and_bent_signatures_all_look_alike(cloud: Cloud, sign: Any, kind: str) -> None:
    keys, asker = await _keys(cloud), await _service(cloud)
    right = sign(keys["access"], keys["secret"])
    wrong = [
        sign(keys["access"], "another secret"),
        sign("nobody", keys["secret"]),
        right | {"signature": ""},
        right | {"signature": right["signature"][:-1]},
        right | {"signature": "é" * 20},
        right | ({"token": "!"} if kind == "s3" else {"path": "/other", "params": {"SignatureVersion": "9"}}),
    ]
    if kind == "ec2":
        wrong.append(sign(keys["access"], keys["secret"], datetime.now(UTC) - timedelta(minutes=16)))
        wrong.append(right | {"params": {}, "headers": {}})
    replies = [await _ask(asker, one, kind) for one in wrong]
    assert {reply.status for reply in replies} == {401}
    assert len({reply.content for reply in replies}) == 1
    for broken in ({}, {"access": 5}, {"params": "x"}):
        assert (await _ask(asker, broken, kind)).status == 400


async def test_keys_die_with_their_user_their_project_and_themselves(cloud: Cloud) -> None:
    keys, asker = await _keys(cloud), await _service(cloud)
    admin = await cloud.admin()
    reply = await _ask(asker, signed_2(keys["access"], keys["secret"]))
    holder = ApiClient(cloud.app, reply.headers["x-subject-token"])
    await holder.get("/v3/auth/projects")
    path = f"/v3/users/{cloud.made.user_ids['demo']}"
    await admin.patch(path, {"user": {"enabled": False}})
    await holder.get("/v3/auth/projects", 401)
    assert (await _ask(asker, signed_2(keys["access"], keys["secret"]))).status == 401
    await admin.patch(path, {"user": {"enabled": True}})
    assert (await _ask(asker, signed_2(keys["access"], keys["secret"]))).status == 200
    await admin.delete(f"{path}/credentials/OS-EC2/{keys['access']}")
    assert (await _ask(asker, signed_2(keys["access"], keys["secret"]))).status == 401
