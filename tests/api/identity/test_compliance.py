"""Rules about passwords and logins that an operator switches on."""

from __future__ import annotations

from typing import Any

from kilonova.identity.settings import IdentitySettings
from tests.api.identity.support import DEMO_PASSWORD, Cloud
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import api_client


async def _change(cloud: Cloud, old: str, new: str, status: int) -> Any:
    path = f"/v3/users/{cloud.made.user_ids['demo']}/password"
    return await api_client(cloud.app, "").post(path, {"user": {"original_password": old, "password": new}}, status)


async def test_who_mistypes_too_often_waits_even_with_the_right_password() -> None:
    async with make_cloud(IdentitySettings(lockout_failure_attempts=2, lockout_duration_seconds=1)) as cloud:
        wrong = [await cloud.try_login("demo", "wrong") for _ in range(3)]
        locked = await cloud.try_login("demo", DEMO_PASSWORD)
        unknown = await cloud.try_login("nobody", "wrong")
        assert {one.status for one in [*wrong, locked, unknown]} == {401}
        assert len({one.content for one in [*wrong, locked, unknown]}) == 1
        await cloud.service.world.clock.sleep(1.1)
        assert await cloud.login("demo", DEMO_PASSWORD)
        admin = await cloud.admin()
        path = f"/v3/users/{cloud.made.user_ids['demo']}"
        options = {"ignore_lockout_failure_attempts": True}
        await admin.patch(path, {"user": {"options": options}})
        for _ in range(3):
            await cloud.try_login("demo", "wrong")
        assert await cloud.login("demo", DEMO_PASSWORD)


async def test_earlier_passwords_are_not_used_again() -> None:
    async with make_cloud(IdentitySettings(password_history_count=3)) as cloud:
        await _change(cloud, DEMO_PASSWORD, DEMO_PASSWORD, 400)
        await _change(cloud, DEMO_PASSWORD, "second", 204)
        await _change(cloud, "second", "third", 204)
        await _change(cloud, "third", DEMO_PASSWORD, 400)
        await _change(cloud, "third", "fourth", 204)
        await _change(cloud, "fourth", DEMO_PASSWORD, 204)
        admin = await cloud.admin()
        await admin.patch(f"/v3/users/{cloud.made.user_ids['demo']}", {"user": {"password": "fourth"}})


async def test_passwords_have_a_form_an_age_and_an_end() -> None:
    rules = IdentitySettings(password_regex="^.{8,}$", password_regex_description="8 characters")
    async with make_cloud(rules) as cloud:
        admin = await cloud.admin()
        refused = await admin.post("/v3/users", {"user": {"name": "x", "password": "short"}}, 400)
        assert "8 characters" in refused["error"]["message"]
        await admin.post("/v3/users", {"user": {"name": "x", "password": "long enough"}}, 201)
        await _change(cloud, DEMO_PASSWORD, "short", 400)
    async with make_cloud(IdentitySettings(minimum_password_age_days=1)) as cloud:
        await _change(cloud, DEMO_PASSWORD, "second", 204)
        await _change(cloud, "second", "third", 400)
    async with make_cloud(IdentitySettings(change_password_upon_first_use=True)) as cloud:
        admin = await cloud.admin()
        made = (await admin.post("/v3/users", {"user": {"name": "new", "password": "first"}}, 201))["user"]
        reply = await cloud.try_login("new", "first")
        assert reply.status == 401 and "needs to be changed" in reply.json()["error"]["message"]
        change = {"user": {"original_password": "first", "password": "mine"}}
        await api_client(cloud.app, "").post(f"/v3/users/{made['id']}/password", change, 204)
        assert await cloud.login("new", "mine")
    async with make_cloud(IdentitySettings(password_expires_days=1)) as cloud:
        await _change(cloud, DEMO_PASSWORD, "second", 204)
        assert (await cloud.try_login("demo", "second")).json()["token"]["user"]["password_expires_at"]


async def test_options_of_users_are_known_ones_and_count(cloud: Cloud) -> None:
    admin = await cloud.admin()
    path = f"/v3/users/{cloud.made.user_ids['demo']}"
    await admin.patch(path, {"user": {"options": {"colour": True}}}, 400)
    await admin.patch(path, {"user": {"options": {"lock_password": "yes"}}}, 400)
    await admin.patch(path, {"user": {"options": {"lock_password": True}}})
    await _change(cloud, DEMO_PASSWORD, "second", 400)
    factors = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    shown = (await admin.patch(path, {"user": {"options": factors | {"lock_password": None}}}))["user"]
    assert shown["options"] == factors
    assert (await cloud.try_login("demo", DEMO_PASSWORD)).status == 401
