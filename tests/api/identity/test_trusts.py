"""Trusts: a user lets another act with some of its roles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kilonova.base.clock import iso_micros_z
from kilonova.http.client import Reply
from tests.api.identity.support import Cloud, by_trust, demo, trust
from tests.api.support import ApiClient, api_client


async def _friend(cloud: Cloud) -> tuple[ApiClient, str]:
    admin = await cloud.admin()
    return admin, (await cloud.user(admin, "friend"))["id"]


async def _token(cloud: Cloud, trust_id: str, name: str = "friend") -> Reply:
    return await cloud.try_login(name, name, by_trust(trust_id))


async def test_a_trustee_acts_with_the_roles_it_was_lent_and_no_others(cloud: Cloud) -> None:
    _, friend = await _friend(cloud)
    made = (await trust(cloud, await demo(cloud), friend)).json()["trust"]
    token = (await _token(cloud, made["id"])).json()["token"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["user"]["id"] == friend and token["project"]["id"] == cloud.made.project_id
    me = cloud.made.user_ids["demo"]
    assert token["OS-TRUST:trust"] == {
        "id": made["id"], "impersonation": False, "trustor_user": {"id": me}, "trustee_user": {"id": friend}
    }  # fmt: skip
    assert (await cloud.try_login("admin", "correct horse", by_trust(made["id"]))).status == 403


async def test_an_impersonating_trust_speaks_for_its_trustor(cloud: Cloud) -> None:
    _, friend = await _friend(cloud)
    made = (await trust(cloud, await demo(cloud), friend, impersonation=True)).json()["trust"]
    token = (await _token(cloud, made["id"])).json()["token"]
    assert token["user"]["id"] == cloud.made.user_ids["demo"]


async def test_uses_are_counted_and_time_ends_it(cloud: Cloud) -> None:
    _, friend = await _friend(cloud)
    mine = await demo(cloud)
    twice = (await trust(cloud, mine, friend, remaining_uses=2)).json()["trust"]
    assert [(await _token(cloud, twice["id"])).status for _ in range(3)] == [201, 201, 404]
    soon = iso_micros_z(cloud.service.world.clock.now() + timedelta(seconds=0.4))
    brief = (await trust(cloud, mine, friend, expires_at=soon)).json()["trust"]
    reply = await _token(cloud, brief["id"])
    assert reply.json()["token"]["expires_at"] == soon
    await cloud.service.world.clock.sleep(0.5)
    assert (await _token(cloud, brief["id"])).status == 404
    await api_client(cloud.app, reply.headers["x-subject-token"]).get("/v3/auth/projects", 401)


async def test_what_no_trust_can_be(cloud: Cloud) -> None:
    _, friend = await _friend(cloud)
    mine = await demo(cloud)
    refused: tuple[tuple[int, dict[str, Any]], ...] = (
        (403, {"roles": []}),
        (404, {"roles": [{"name": "admin"}]}),
        (404, {"trustee_user_id": "nobody"}),
        (403, {"trustor_user_id": friend}),
        (400, {"expires_at": "soon"}),
        (400, {"expires_at": "2001-01-01T00:00:00Z"}),
        (400, {"remaining_uses": 0}),
        (400, {"remaining_uses": 1, "allow_redelegation": True}),
        (403, {"allow_redelegation": True, "redelegation_count": 9}),
    )
    for status, body in refused:
        reply = await trust(cloud, mine, friend, **body)
        assert reply.status == status, (body, reply.content)
    assert (await mine.get(f"/v3/OS-TRUST/trusts?trustor_user_id={cloud.made.user_ids['demo']}"))["trusts"] == []


async def test_a_trust_dies_with_what_it_lends(cloud: Cloud) -> None:
    admin, friend = await _friend(cloud)
    mine = await demo(cloud)
    lent = (await trust(cloud, mine, friend)).json()["trust"]["id"]
    holder = api_client(cloud.app, (await _token(cloud, lent)).headers["x-subject-token"])
    await holder.get("/v3/auth/catalog")
    grant = f"/v3/projects/{cloud.made.project_id}/users/{cloud.made.user_ids['demo']}/roles"
    await admin.delete(f"{grant}/{cloud.made.role_ids['member']}")
    await holder.get("/v3/auth/catalog", 401)
    assert (await _token(cloud, lent)).status == 403
    await admin.put(f"{grant}/{cloud.made.role_ids['member']}", None, 204)
    assert (await _token(cloud, lent)).status == 201
    await (await demo(cloud)).delete(f"/v3/OS-TRUST/trusts/{lent}")
    await holder.get("/v3/auth/catalog", 401)


async def test_its_people_see_it_and_others_do_not(cloud: Cloud) -> None:
    admin, friend = await _friend(cloud)
    await cloud.user(admin, "stranger", "reader", project_id=cloud.made.project_id)
    mine = await demo(cloud)
    lent = (await trust(cloud, mine, friend)).json()["trust"]
    path = f"/v3/OS-TRUST/trusts/{lent['id']}"
    assert (await mine.get(path))["trust"]["roles"][0]["name"] == "reader"
    assert [role["name"] for role in (await mine.get(f"{path}/roles"))["roles"]] == ["reader"]
    stranger = ApiClient(cloud.app, await cloud.login("stranger", "stranger", {"project": {"id": lent["project_id"]}}))
    await stranger.get(path, 403)
    await stranger.get(f"/v3/OS-TRUST/trusts?trustee_user_id={friend}", 403)
    await stranger.get("/v3/OS-TRUST/trusts", 403)
    assert [one["id"] for one in (await admin.get("/v3/OS-TRUST/trusts"))["trusts"]] == [lent["id"]]
