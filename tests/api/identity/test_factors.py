"""One-time passcodes, users of several factors, and the receipt between two of them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kilonova.http.client import Reply
from kilonova.identity.token.totp import STEP_SECONDS, passcode
from tests.api.identity.support import DEFAULT, DEMO_PASSWORD, Cloud, demo

SECRET = b"12345678901234567890"
RULES = [["password", "totp"]]


def code(cloud: Cloud, steps: int = 0, secret: bytes = SECRET) -> str:
    """The passcode of now, or of some steps of time from now."""
    return passcode(secret, int(cloud.service.world.clock.now().timestamp()) // STEP_SECONDS + steps)


async def enrolled(cloud: Cloud, *, factors: bool = False) -> None:
    """demo has a passcode generator, and needs it when `factors`."""
    user_id = cloud.made.user_ids["demo"]
    made = {"user_id": user_id, "type": "totp", "blob": base64.b32encode(SECRET).decode()}
    await (await demo(cloud)).post("/v3/credentials", {"credential": made}, 201)
    if factors:
        options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": RULES}
        await (await cloud.admin()).patch(f"/v3/users/{user_id}", {"user": {"options": options}})


async def factors(cloud: Cloud, *, password: str = "", given: str = "", receipt: str = "") -> Reply:
    """A login of demo with what is given."""
    identity: dict[str, Any] = {"methods": []}
    for method, key, value in (("password", "password", password), ("totp", "passcode", given)):
        if value:
            identity["methods"].append(method)
            identity[method] = {"user": {"name": "demo", "domain": DEFAULT, key: value}}
    headers = {"openstack_auth_receipt": receipt} if receipt else {}
    return await cloud.send("POST", "/v3/auth/tokens", {"auth": {"identity": identity}}, **headers)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_passcodes_are_those_of_the_standard(moment: int, expected: str) -> None:
    assert passcode(SECRET, moment // STEP_SECONDS) == expected  # RFC 6238, appendix B, the last six digits


async def test_a_passcode_logs_in(cloud: Cloud) -> None:
    await enrolled(cloud)
    reply = await factors(cloud, given=code(cloud))
    assert reply.status == 201, reply.content
    assert reply.json()["token"]["methods"] == ["totp"]
    assert reply.json()["token"]["user"]["id"] == cloud.made.user_ids["demo"]


async def test_who_needs_two_factors_gets_a_receipt_for_the_first(cloud: Cloud) -> None:
    await enrolled(cloud, factors=True)
    first = await factors(cloud, password=DEMO_PASSWORD)
    assert first.status == 401 and "x-subject-token" not in first.headers
    body = first.json()
    assert body["required_auth_methods"] == RULES
    assert body["receipt"]["methods"] == ["password"]
    assert body["receipt"]["user"]["domain"]["id"] == "default" and body["receipt"]["expires_at"].endswith("Z")
    second = await factors(cloud, given=code(cloud), receipt=first.headers["openstack-auth-receipt"])
    assert second.status == 201, second.content
    assert second.json()["token"]["methods"] == ["password", "totp"]
    assert second.json()["token"]["project"]["id"] == cloud.made.project_id  # the default project, as ever


async def test_both_factors_may_come_at_once(cloud: Cloud) -> None:
    await enrolled(cloud, factors=True)
    reply = await factors(cloud, password=DEMO_PASSWORD, given=code(cloud))
    assert reply.status == 201 and reply.json()["token"]["methods"] == ["password", "totp"]
    token = reply.headers["x-subject-token"]
    again = {"identity": {"methods": ["token"], "token": {"id": token}}}
    assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": again})).status == 201


@pytest.mark.parametrize("blob", ["", "not base32!", "0189"])
async def test_a_secret_that_is_none_is_refused(cloud: Cloud, blob: str) -> None:
    body = {"user_id": cloud.made.user_ids["demo"], "type": "totp", "blob": blob}
    await (await demo(cloud)).post("/v3/credentials", {"credential": body}, 400)
