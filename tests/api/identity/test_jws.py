"""Tokens as JWS: they work like Fernet's, keys rotate, and the operator may change from one to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import jwt
import pytest

from kilonova.identity.settings import IdentitySettings
from tests.api.identity.support import DEMO_PASSWORD, Cloud
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import ApiClient


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with make_cloud(IdentitySettings(token_provider="jws", token_cache_size=1)) as made:
        yield made


async def test_a_token_is_signed_with_es256_and_outlives_a_rotation(cloud: Cloud) -> None:
    token = await cloud.login("demo", DEMO_PASSWORD)
    header = jwt.get_unverified_header(token)
    assert header["alg"] == "ES256" and header["kid"]
    holder = ApiClient(cloud.app, token)
    await cloud.service.keys.rotate()
    await holder.get("/v3/auth/projects")
    newer = await cloud.login("demo", DEMO_PASSWORD)
    assert jwt.get_unverified_header(newer)["kid"] != header["kid"]
    for _ in range(cloud.service.settings.fernet_keys_maximum):
        await cloud.service.keys.rotate()
    await holder.get("/v3/auth/projects", 401)


async def test_revoked_tokens_and_forged_ones_are_refused(cloud: Cloud) -> None:
    token = await cloud.login("demo", DEMO_PASSWORD)
    header, payload, signature = token.split(".")
    none = jwt.PyJWS().encode(b"x", None, "none")
    forged = [
        f"{header}.{payload}.",
        f"{header}.{payload[:-4]}AAAA.{signature}",
        f"{none.split('.')[0]}.{payload}.",
        jwt.PyJWS().encode(b"x", "k" * 32, "HS256", headers={"kid": jwt.get_unverified_header(token)["kid"]}),
        "..",
        "a.b.c",
        f"{token}.x",
    ]
    for one in forged:
        await ApiClient(cloud.app, one).get("/v3/auth/projects", 401)
    holder = ApiClient(cloud.app, token)
    await holder.get("/v3/auth/projects")
    await holder.send("DELETE", "/v3/auth/tokens", x_subject_token=token)
    await holder.get("/v3/auth/projects", 401)


async def test_fernet_tokens_stay_good_when_the_operator_changes_to_jws() -> None:
    async with make_cloud() as cloud:
        token = await cloud.login("demo", DEMO_PASSWORD)
        assert "." not in token
        cloud.service.keys._provider = "jws"
        signed = await cloud.login("demo", DEMO_PASSWORD)
        assert signed.count(".") == 2
        for one in (token, signed):
            await ApiClient(cloud.app, one).get("/v3/auth/projects")
