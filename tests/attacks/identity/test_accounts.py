"""Attacks on accounts: others' credentials, oracles, huge input, look-alike names (A39, A47, A49, A53, A93)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kilonova.base.world import LiveWorld
from kilonova.identity.passwords import Passwords
from kilonova.identity.settings import IdentitySettings
from tests.api.identity.support import Cloud, demo
from tests.api.identity.support import cloud as make_cloud
from tests.api.support import ApiClient, api_client


class CountingWorld(LiveWorld):
    """Counts what is hashed: the work that a login costs, whatever the machine does besides."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.hashed = 0

    async def blocking(self, fn: Callable[..., Any], *args: Any) -> Any:
        self.hashed += 1
        return await super().blocking(fn, *args)


async def test_a39_a_member_sees_and_changes_its_own_credentials_only(cloud: Cloud) -> None:
    admin = await cloud.admin()
    other = (await cloud.user(admin, "other", "member", project_id=cloud.made.project_id))["id"]
    body = {"type": "cert", "blob": "canary", "user_id": other}
    theirs = (await admin.post("/v3/credentials", {"credential": body}, 201))["credential"]
    mine = await demo(cloud)
    own = {"type": "cert", "blob": "own", "user_id": cloud.made.user_ids["demo"]}
    made = (await mine.post("/v3/credentials", {"credential": own}, 201))["credential"]
    assert [one["id"] for one in (await mine.get("/v3/credentials"))["credentials"]] == [made["id"]]
    assert (await mine.get(f"/v3/credentials?user_id={other}"))["credentials"] == []
    path = f"/v3/credentials/{theirs['id']}"
    await mine.get(path, 403)
    await mine.patch(path, {"credential": {"blob": "x"}}, 403)
    await mine.delete(path, 403)
    await mine.post("/v3/credentials", {"credential": body}, 403)
    await mine.patch(f"/v3/credentials/{made['id']}", {"credential": {"user_id": other}}, 403)
    await mine.get(f"/v3/users/{other}/credentials/OS-EC2", 403)
    assert (await admin.get(path))["credential"]["blob"] == "canary"


@pytest.mark.parametrize("lockout", [0, 2])
async def test_a47_nothing_tells_known_names_from_unknown_ones(lockout: int) -> None:
    async with make_cloud(IdentitySettings(lockout_failure_attempts=lockout)) as cloud:
        admin = await cloud.admin()
        await admin.post("/v3/users", {"user": {"name": "no password"}}, 201)
        world = CountingWorld()
        cloud.service.passwords = Passwords(world, 2)
        bodies, costs = set(), set()
        for name in ("demo", "nobody", "admin", "no password"):
            for _ in range(3):
                before = world.hashed
                reply = await cloud.try_login(name, "wrong")
                assert reply.status == 401
                bodies.add(reply.content)
                costs.add(world.hashed - before)
        assert len(bodies) == 1 and cloud.made.user_ids["demo"].encode() not in bodies.pop()
        assert costs == {1}
        await world.close()


async def test_a49_huge_passwords_and_method_lists_are_refused_before_any_work(cloud: Cloud) -> None:
    world = CountingWorld()
    cloud.service.passwords = Passwords(world, 2)
    long = "x" * 5000
    assert (await cloud.try_login("demo", long)).status == 400
    user = {"name": "demo", "domain": {"id": "default"}, "password": "x" * 10_000_000}
    auth = {"identity": {"methods": ["password"], "password": {"user": user}}}
    reply = await cloud.send("POST", "/v3/auth/tokens", {"auth": auth})
    assert reply.status == 400 and len(reply.content) < 1000
    user["password"] = "wrong"
    for methods in (["password"] * 10_000, [f"m{n}" for n in range(10_000)], []):
        auth["identity"]["methods"] = methods
        assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": auth})).status == 400
    path = f"/v3/users/{cloud.made.user_ids['demo']}/password"
    change = {"user": {"original_password": long, "password": long}}
    await api_client(cloud.app, "").post(path, change, 400)
    assert world.hashed == 0
    await world.close()


@pytest.mark.parametrize("noun", ["user", "project", "domain", "group", "role"])
async def test_a53_names_that_look_the_same_are_the_same(cloud: Cloud, noun: str) -> None:
    admin = await cloud.admin()
    path = f"/v3/{noun}s"
    await admin.post(path, {noun: {"name": "Älice one"}}, 201)
    before = await admin.get(path)
    for twin in ("älice one", "A\u0308lice one", "Älice one ", "Ä\uff4cice one", "Älice\u200b one", "Älice\u00a0one"):
        await admin.post(path, {noun: {"name": twin}}, 409)
    for nothing in ("", "  ", "\u200b", "a\x00b", "a\nb", "x" * 256, 5, None, ["x"], {}):
        await admin.post(path, {noun: {"name": nothing}}, 400)
    assert await admin.get(path) == before


async def test_a93_oversize_and_ill_typed_bodies_write_nothing(cloud: Cloud) -> None:
    admin = await cloud.admin()
    before = [await admin.get(path) for path in ("/v3/users", "/v3/projects")]
    bodies: tuple[Any, ...] = (
        {"user": {"name": "x", "email": "y" * 20_000}},
        {"user": "x"},
        {"user": {"name": "x", "enabled": "yes please"}},
        {"user": {"name": "x", "options": []}},
        [],
        None,
    )
    for body in bodies:
        assert (await admin.send("POST", "/v3/users", body)).status == 400
    assert (await admin.send("POST", "/v3/users", b"{" * 100_000)).status == 400
    huge = json.dumps({"user": {"name": "x" * (2 << 20)}}).encode()
    assert (await admin.send("POST", "/v3/users", huge)).status == 400
    project = {"name": "x", "tags": ["t"] * 81}
    await admin.post("/v3/projects", {"project": project}, 400)
    assert [await admin.get(path) for path in ("/v3/users", "/v3/projects")] == before


async def test_ids_of_other_domains_are_no_way_in(cloud: Cloud) -> None:
    admin = await cloud.admin()
    domain = (await admin.post("/v3/domains", {"domain": {"name": "rival"}}, 201))["domain"]["id"]
    boss = {"name": "boss", "password": "p", "domain_id": domain}
    boss_id = (await admin.post("/v3/users", {"user": boss}, 201))["user"]["id"]
    role = cloud.made.role_ids["manager"]
    await admin.put(f"/v3/domains/{domain}/users/{boss_id}/roles/{role}", None, 204)
    token = await cloud.login("boss", "p", {"domain": {"id": domain}}, {"id": domain})
    rival = ApiClient(cloud.app, token)
    victim, project = cloud.made.user_ids["demo"], cloud.made.project_id
    for path in (f"/v3/users/{victim}", f"/v3/projects/{project}"):
        await rival.get(path, 403)
        await rival.patch(path, {path.split("/")[2][:-1]: {"enabled": False}}, 403)
        await rival.delete(path, 403)
    await rival.put(f"/v3/projects/{project}/users/{boss_id}/roles/{cloud.made.role_ids['member']}", None, 403)
    await rival.post("/v3/projects", {"project": {"name": "x", "parent_id": project}}, 403)
    assert {one["domain_id"] for one in (await rival.get(f"/v3/users?domain_id={domain}"))["users"]} == {domain}
    assert (await rival.get("/v3/users?domain_id=default"))["users"] == []
