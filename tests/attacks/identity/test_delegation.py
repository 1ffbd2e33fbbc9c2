"""Attacks by delegation: what was lent must not become more than was lent (OSSA-2013-032, 2014-018, 2014-022)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from kilonova.base.clock import iso_micros_z
from tests.api.identity.support import Cloud, by_trust, demo, project, trust
from tests.api.support import ApiClient, api_client
from tests.attacks.identity.signing import signed_2


async def _holder(cloud: Cloud, trust_id: str, name: str) -> ApiClient:
    return ApiClient(cloud.app, await cloud.login(name, name, by_trust(trust_id)))


async def _chain(cloud: Cloud, **first: Any) -> tuple[ApiClient, str, str, str]:
    """(mallory with a token of demo's trust, the trust, mallory's id, another's id)"""
    admin = await cloud.admin()
    mallory = (await cloud.user(admin, "mallory"))["id"]
    other = (await cloud.user(admin, "other"))["id"]
    lent = {"allow_redelegation": True, "impersonation": True, **first}
    made = (await trust(cloud, await demo(cloud), mallory, **lent)).json()["trust"]["id"]
    return await _holder(cloud, made, "mallory"), made, mallory, other


async def _signed(cloud: Cloud, keys: dict[str, Any]) -> Any:
    nova = ApiClient(cloud.app, await cloud.login("nova", "n" * 43, project("service")))
    return await nova.send("POST", "/v3/ec2tokens", {"credentials": signed_2(keys["access"], keys["secret"])})


async def test_a40_keys_made_with_a_trust_never_give_more_than_the_trust(cloud: Cloud) -> None:
    mallory, _, _, _ = await _chain(cloud)  # it lends `reader`; making keys needs `member`
    me = cloud.made.user_ids["demo"]
    eve_id = (await cloud.user(await cloud.admin(), "eve"))["id"]
    wide = await trust(
        cloud, await demo(cloud), eve_id, impersonation=True, roles=[{"name": "member"}], expires_at=None
    )
    eve = await _holder(cloud, wide.json()["trust"]["id"], "eve")
    path = f"/v3/users/{me}/credentials/OS-EC2"
    await mallory.post(path, {"tenant_id": cloud.made.project_id}, 403)
    await eve.post(path, {"tenant_id": cloud.made.admin_project_id}, 403)
    keys = (await eve.post(path, {"tenant_id": cloud.made.project_id}, 201))["credential"]
    token = (await _signed(cloud, keys)).json()["token"]
    assert sorted(role["name"] for role in token["roles"]) == ["member", "reader"]
    assert token["OS-TRUST:trust"]["id"] == wide.json()["trust"]["id"]
    # a blob that says otherwise, or a change that takes the limit away, does not help
    blob = json.dumps({"access": "a" * 20, "secret": "s", "trust_id": None})
    body = {"type": "ec2", "blob": blob, "user_id": me, "project_id": cloud.made.project_id}
    made = (await eve.post("/v3/credentials", {"credential": body}, 201))["credential"]
    assert json.loads(made["blob"])["trust_id"] == wide.json()["trust"]["id"]
    one = f"/v3/credentials/{made['id']}"
    await eve.patch(one, {"credential": {"blob": blob}}, 400)
    await eve.patch(one, {"credential": {"project_id": cloud.made.admin_project_id}}, 403)
    await eve.patch(one, {"credential": {"type": "cert"}}, 403)
    await (await demo(cloud)).delete(f"/v3/OS-TRUST/trusts/{wide.json()['trust']['id']}")
    assert (await _signed(cloud, keys)).status == 401


async def test_a40_whoever_impersonates_does_not_get_at_the_secrets_of_the_other(cloud: Cloud) -> None:
    mine = await demo(cloud)
    me = cloud.made.user_ids["demo"]
    path = f"/v3/users/{me}/credentials/OS-EC2"
    own = (await mine.post(path, {"tenant_id": cloud.made.project_id}, 201))["credential"]
    mallory, _, _, _ = await _chain(cloud)
    await mallory.get(f"{path}/{own['access']}", 403)
    assert (await mallory.get(path))["credentials"] == []
    assert (await mallory.get("/v3/credentials"))["credentials"] == []
    (id_,) = [one["id"] for one in (await mine.get("/v3/credentials"))["credentials"]]
    blob = json.dumps({"access": own["access"], "secret": "mallory's"})
    await mallory.patch(f"/v3/credentials/{id_}", {"credential": {"blob": blob}}, 403)
    await mallory.delete(f"/v3/credentials/{id_}", 403)
    await mallory.post(f"/v3/users/{me}/application_credentials", {"application_credential": {"name": "x"}}, 403)
    again = {"identity": {"methods": ["token"], "token": {"id": mallory._token}}, "scope": project("demo")}
    assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": again})).status == 403


async def test_a41_a_chain_of_trusts_never_grows(cloud: Cloud) -> None:
    until = cloud.service.world.clock.now() + timedelta(hours=1)
    mallory, lent, _, other = await _chain(cloud, expires_at=iso_micros_z(until), redelegation_count=1)
    too_much: tuple[dict[str, Any], ...] = (
        {"roles": [{"name": "member"}]},
        {"project_id": cloud.made.admin_project_id},
        {"expires_at": iso_micros_z(until + timedelta(seconds=1))},
        {"allow_redelegation": True, "redelegation_count": 1},
        {"trustor_user_id": other},
    )
    for body in too_much:
        reply = await trust(cloud, mallory, other, **{"impersonation": True, **body})
        assert reply.status in (403, 404), (body, reply.content)
    second = (await trust(cloud, mallory, other, impersonation=True)).json()["trust"]
    assert second["expires_at"] == iso_micros_z(until) and second["redelegation_count"] == 0
    assert second["redelegated_trust_id"] == lent
    holder = await _holder(cloud, second["id"], "other")
    assert (await trust(cloud, holder, cloud.made.admin_user_id, impersonation=True)).status == 403
    await (await demo(cloud)).delete(f"/v3/OS-TRUST/trusts/{lent}")  # the chain falls with its first link
    await holder.get("/v3/auth/projects", 401)
    assert (await cloud.try_login("other", "other", by_trust(second["id"]))).status == 404


async def test_a41_nobody_impersonates_through_a_trust_that_does_not(cloud: Cloud) -> None:
    mallory, _, mallory_id, other = await _chain(cloud, impersonation=False)
    assert (await trust(cloud, mallory, other, impersonation=True)).status == 403
    assert (await trust(cloud, mallory, other, impersonation=True, trustor_user_id=mallory_id)).status == 403
    lent = await trust(cloud, mallory, other, trustor_user_id=mallory_id)
    assert lent.status == 201
    token = (await cloud.try_login("other", "other", by_trust(lent.json()["trust"]["id"]))).json()["token"]
    assert [role["name"] for role in token["roles"]] == ["reader"]  # of demo, where the chain began


async def test_a_restricted_application_credential_makes_nothing_that_outlives_it(cloud: Cloud) -> None:
    mine = await demo(cloud)
    me = cloud.made.user_ids["demo"]
    path = f"/v3/users/{me}/application_credentials"
    made = (await mine.post(path, {"application_credential": {"name": "ci"}}, 201))["application_credential"]
    method = {"id": made["id"], "secret": made["secret"]}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": method}}
    reply = await cloud.send("POST", "/v3/auth/tokens", {"auth": auth})
    program = api_client(cloud.app, reply.headers["x-subject-token"])
    await program.post(path, {"application_credential": {"name": "more"}}, 403)
    await program.post(f"/v3/users/{me}/credentials/OS-EC2", {"tenant_id": cloud.made.project_id}, 403)
    body = {"type": "cert", "blob": "x", "user_id": me}
    await program.post("/v3/credentials", {"credential": body}, 403)
    assert (await trust(cloud, program, cloud.made.admin_user_id)).status == 403


async def test_access_rules_hold_at_every_door(cloud: Cloud) -> None:
    mine = await demo(cloud)
    me = cloud.made.user_ids["demo"]
    path = f"/v3/users/{me}/application_credentials"
    rules = [
        {"service": "identity", "method": "GET", "path": "/v3/users/*"},
        {"service": "compute", "method": "GET", "path": "/v2.1/servers/**"},
    ]
    body = {"application_credential": {"name": "ci", "access_rules": rules}}
    made = (await mine.post(path, body, 201))["application_credential"]
    method = {"id": made["id"], "secret": made["secret"]}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": method}}
    token = (await cloud.send("POST", "/v3/auth/tokens", {"auth": auth})).headers["x-subject-token"]
    program = api_client(cloud.app, token)
    await program.get(f"/v3/users/{me}")
    for forbidden in ("/v3/auth/projects", f"/v3/users/{me}/groups", "/v3/users", f"/v3//users/{me}"):
        await program.get(forbidden, 401)
    await program.patch(f"/v3/users/{me}", {"user": {}}, 401)
    # a service that does not enforce the rules is told that there is no such token
    admin = (await cloud.admin())._token
    asked = await cloud.send("GET", "/v3/auth/tokens", token=admin, x_subject_token=token)
    assert asked.status == 404
    aware = {"x_subject_token": token, "openstack_identity_access_rules": "1.0"}
    asked = await cloud.send("GET", "/v3/auth/tokens", token=admin, **aware)
    shown = asked.json()["token"]["application_credential"]["access_rules"]
    assert {(one["service"], one["path"]) for one in shown} == {(one["service"], one["path"]) for one in rules}
    (used, *_) = (await mine.get(f"/v3/users/{me}/access_rules"))["access_rules"]
    await mine.delete(f"/v3/users/{me}/access_rules/{used['id']}", 403)
    await mine.delete(f"{path}/{made['id']}")
    await mine.delete(f"/v3/users/{me}/access_rules/{used['id']}")
