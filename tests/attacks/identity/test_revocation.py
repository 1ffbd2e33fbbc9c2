"""A44: what was taken away is gone within a second, in every process and at every service (OSSA-2012-014, 2016-008)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import AsgiTransport, Client
from kilonova.identity.core import IdentityService
from kilonova.identity.service import identity_app
from kilonova.identity.validator import TokenValidator
from tests.api.identity.support import DEMO_PASSWORD, Cloud, demo, project
from tests.api.support import ApiClient, api_client

Take = Callable[[Cloud, ApiClient, ApiClient], Awaitable[object]]


async def _lose_the_role(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    user, role = cloud.made.user_ids["demo"], cloud.made.role_ids["member"]
    await admin.delete(f"/v3/projects/{cloud.made.project_id}/users/{user}/roles/{role}")


async def _disable_the_user(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    await admin.patch(f"/v3/users/{cloud.made.user_ids['demo']}", {"user": {"enabled": False}})


async def _disable_the_project(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    await admin.patch(f"/v3/projects/{cloud.made.project_id}", {"project": {"enabled": False}})


async def _delete_the_user(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    await admin.delete(f"/v3/users/{cloud.made.user_ids['demo']}")


async def _change_the_password(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    change = {"user": {"original_password": DEMO_PASSWORD, "password": "another"}}
    await mine.post(f"/v3/users/{cloud.made.user_ids['demo']}/password", change, 204)


async def _reset_the_password(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    await admin.patch(f"/v3/users/{cloud.made.user_ids['demo']}", {"user": {"password": "another"}})


async def _log_out(cloud: Cloud, admin: ApiClient, mine: ApiClient) -> None:
    assert (await mine.send("DELETE", "/v3/auth/tokens", x_subject_token=mine._token)).status == 204


async def _die(validator: TokenValidator, cloud: Cloud, token: str) -> float:
    """Seconds until the validator refuses the token; the test fails when it still believes it after a second."""
    clock = cloud.service.world.clock
    began = clock.monotonic()
    while clock.monotonic() - began < 1.0:
        try:
            await validator.authenticate(token, "")
        except Fault as fault:
            assert fault.kind is Kind.UNAUTHENTICATED
            return clock.monotonic() - began
        await clock.sleep(0.02)
    raise AssertionError("the token is still believed after a second")


@pytest.mark.parametrize(
    "take",
    [
        _lose_the_role,
        _disable_the_user,
        _disable_the_project,
        _delete_the_user,
        _change_the_password,
        _reset_the_password,
        _log_out,
    ],
)
async def test_a44_gone_is_gone_at_another_process_and_its_validators(cloud: Cloud, take: Take) -> None:
    """The second copy of identity shares nothing but the database; the validator remembers what it said."""
    second = identity_app(IdentityService(cloud.service.world, cloud.service.db, cloud.service.sealer))
    validator = TokenValidator(cloud.service.world, Client(AsgiTransport(second)))
    admin, mine = await cloud.admin(), await demo(cloud)
    unscoped = {"identity": {"methods": ["token"], "token": {"id": mine._token}}, "scope": project("demo")}
    chained = (await cloud.send("POST", "/v3/auth/tokens", {"auth": unscoped})).headers["x-subject-token"]
    for token in (mine._token, chained):
        assert (await validator.authenticate(token, "")).project_id == cloud.made.project_id
        await api_client(second, token).get("/v3/auth/projects")
    await take(cloud, admin, mine)
    if take is not _lose_the_role and take is not _delete_the_user:
        events = (await admin.get("/v3/OS-REVOKE/events"))["events"]
        assert len(events) == 1 and "issued_before" in events[0]
    for token in (mine._token,) if take is _log_out else (mine._token, chained):
        await _die(validator, cloud, token)
        await api_client(second, token).get("/v3/auth/projects", 401)
        again = {"identity": {"methods": ["token"], "token": {"id": token}}}
        assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": again})).status == 404


async def test_a44_a_disabled_domain_takes_its_users_and_projects_with_it(cloud: Cloud) -> None:
    admin = await cloud.admin()
    domain = (await admin.post("/v3/domains", {"domain": {"name": "acme"}}, 201))["domain"]["id"]
    user = {"name": "worker", "password": "p", "domain_id": domain}
    worker = (await admin.post("/v3/users", {"user": user}, 201))["user"]["id"]
    role = cloud.made.role_ids["member"]
    await admin.put(f"/v3/projects/{cloud.made.project_id}/users/{worker}/roles/{role}", None, 204)
    token = await cloud.login("worker", "p", project("demo"), {"id": domain})
    validator = TokenValidator(cloud.service.world, cloud.client)
    await validator.authenticate(token, "")
    await admin.patch(f"/v3/domains/{domain}", {"domain": {"enabled": False}})
    await _die(validator, cloud, token)
    await admin.patch(f"/v3/domains/{domain}", {"domain": {"enabled": True}})
    await _die(validator, cloud, token)  # what was revoked does not come back


async def test_keys_rotated_elsewhere_sign_here_within_a_second(cloud: Cloud) -> None:
    second = IdentityService(cloud.service.world, cloud.service.db, cloud.service.sealer)
    mine = await demo(cloud)
    for _ in range(cloud.service.settings.fernet_keys_maximum - 1):
        await second.keys.rotate()
    await cloud.service.world.clock.sleep(cloud.service.settings.revocation_poll_seconds)
    fresh = await demo(cloud)
    await mine.get("/v3/auth/projects")  # the oldest key that is kept
    await second.keys.rotate()
    await cloud.service.world.clock.sleep(cloud.service.settings.revocation_poll_seconds)
    await mine.get("/v3/auth/projects", 401)
    await fresh.get("/v3/auth/projects")
