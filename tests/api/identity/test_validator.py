"""What services believe of tokens: expiry, service tokens, revocation, silence of identity, key rotation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.base.world import LiveWorld
from kilonova.http.app import App
from kilonova.http.client import AsgiTransport, Client, Reply
from kilonova.identity.bodies import EXTRA_BYTES
from kilonova.identity.core import IdentityService
from kilonova.identity.revoking import prune_revocations
from kilonova.identity.service import identity_app
from kilonova.identity.tokens_for_services import ServiceTokens, ServiceUser
from kilonova.identity.validator import TokenValidator
from kilonova.trace import spans
from tests.api.identity.support import DEMO_PASSWORD, NOVA_SECRET, Cloud, project


class Moved(SystemClock):
    """A clock that can be put forward."""

    seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


class Counting(AsgiTransport):
    """Identity in this process; counts what it is asked, and can fall silent."""

    asked = 0
    silent = False

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if self.silent:
            raise unavailable("identity does not answer")
        self.asked += "token_version" not in target
        return await super().send(method, target, headers, body)


class Balanced(AsgiTransport):
    """Two copies: one is asked for the version, the other about tokens."""

    def __init__(self, versions: App, tokens: App) -> None:
        super().__init__(versions)
        self._other = AsgiTransport(tokens)

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if "token_version" in target:
            return await super().send(method, target, headers, body)
        return await self._other.send(method, target, headers, body)


def _clock(cloud: Cloud) -> Moved:
    clock = Moved()
    world = cloud.service.world
    assert isinstance(world, LiveWorld)
    world.clock = clock
    return clock


async def _refused(validator: TokenValidator, token: str, service_token: str = "") -> None:
    with pytest.raises(Fault) as refusal:
        await validator.authenticate(token, service_token)
    assert refusal.value.kind is Kind.UNAUTHENTICATED


async def test_a_token_is_asked_about_once(cloud: Cloud) -> None:
    door = Counting(cloud.app)
    validator = TokenValidator(cloud.service.world, Client(door))
    token = await cloud.login("demo", DEMO_PASSWORD)
    context = spans.begin("nova_api")
    with spans.within(context), spans.span("nova_api", "GET /servers"):
        for _ in range(3):
            assert (await validator.authenticate(token, "")).user_name == "demo"
        seen = [(one.target, one.name) for one in spans.RING.spans if one.trace_id == context.trace_id]
    assert door.asked == 1
    assert [name for target, name in seen if target == "keystone"] == ["GET /v3/auth/tokens"]
    assert seen[-2:] == [("nova_api", "token validated (cache)")] * 2
    for _ in range(3):
        await _refused(validator, "forged")
    assert door.asked == 2
    await _refused(validator, "")


async def test_an_expired_token_counts_48_hours_beside_a_services(cloud: Cloud) -> None:
    clock = _clock(cloud)
    world = cloud.service.world
    validator = TokenValidator(world, cloud.client)
    tokens = ServiceTokens(world, cloud.client, ServiceUser("nova", NOVA_SECRET))
    token = await cloud.login("demo", DEMO_PASSWORD)
    first = await tokens.token()
    assert not (await validator.authenticate(token, "")).is_service
    clock.seconds = 3601
    await _refused(validator, token)
    await _refused(validator, token, first)
    second = await tokens.token()
    assert second != first
    caller = await validator.authenticate(token, second)
    assert caller.user_name == "demo" and caller.service_roles == ("service",)
    other = await cloud.login("demo", DEMO_PASSWORD)
    await _refused(validator, token, other)
    clock.seconds = 3600 + 48 * 3600 + 1
    await _refused(validator, token, await tokens.token())


async def test_revocation_is_heard_within_a_second_and_pruned_in_time(cloud: Cloud) -> None:
    clock = _clock(cloud)
    validator = TokenValidator(cloud.service.world, cloud.client)
    token = await cloud.login("demo", DEMO_PASSWORD)
    await validator.authenticate(token, "")
    await cloud.send("DELETE", "/v3/auth/tokens", token=token, x_subject_token=token)
    clock.seconds = 0.9
    await _refused(validator, token)
    assert await prune_revocations(cloud.service) == 0
    clock.seconds = 49 * 3600 + 1
    assert await prune_revocations(cloud.service) == 1


async def test_when_identity_is_silent_known_tokens_count_a_little_longer(cloud: Cloud) -> None:
    clock = _clock(cloud)
    door = Counting(cloud.app)
    validator = TokenValidator(cloud.service.world, Client(door))
    token = await cloud.login("demo", DEMO_PASSWORD)
    await validator.authenticate(token, "")
    door.silent = True
    clock.seconds = 3
    assert (await validator.authenticate(token, "")).user_name == "demo"
    clock.seconds = 9
    with pytest.raises(Fault) as refusal:
        await validator.authenticate(token, "")
    assert refusal.value.kind is Kind.UNAVAILABLE


async def test_tokens_outlive_a_key_rotation_but_not_five(cloud: Cloud) -> None:
    token = await cloud.login("demo", DEMO_PASSWORD)
    await cloud.service.keys.rotate()
    fresh = cloud.service.tokens
    fresh._known.clear()
    assert (await cloud.send("GET", "/v3/auth/projects", token=token)).status == 200
    for _ in range(5):
        await cloud.service.keys.rotate()
    fresh._known.clear()
    assert (await cloud.send("GET", "/v3/auth/projects", token=token)).status == 401


async def test_another_copy_of_identity_knows_all_tokens(cloud: Cloud) -> None:
    first = cloud.service
    second = IdentityService(first.world, first.db, first.keys._sealer)
    token = await cloud.login("demo", DEMO_PASSWORD, project("demo"))
    assert (await second.tokens.validate(token)).info.user.name == "demo"


async def test_a_copy_of_identity_that_has_not_heard_is_not_remembered(cloud: Cloud) -> None:
    """Two copies behind a balancer: one knows of the revocation, the other will within its poll."""
    clock = _clock(cloud)
    late = IdentityService(cloud.service.world, cloud.service.db, cloud.service.keys._sealer)
    door = Balanced(cloud.app, identity_app(late))
    validator = TokenValidator(cloud.service.world, Client(door))
    token = await cloud.login("demo", DEMO_PASSWORD)
    await late.tokens.validate(token)
    await cloud.send("DELETE", "/v3/auth/tokens", token=token, x_subject_token=token)
    assert (await validator.authenticate(token, "")).user_name == "demo"
    clock.seconds = 0.9
    await _refused(validator, token)


async def test_what_clients_keep_with_a_user_has_a_limit(cloud: Cloud) -> None:
    admin = await cloud.admin()
    await admin.post("/v3/users", {"user": {"name": "big", "note": "x" * EXTRA_BYTES}}, 400)
