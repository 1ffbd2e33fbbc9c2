"""Second factors hold: passcodes are used once, receipts open nothing, and guessing locks out."""

from __future__ import annotations

from kilonova.identity.settings import IdentitySettings
from tests.api.identity.support import DEMO_PASSWORD, Cloud, demo
from tests.api.identity.support import cloud as make_cloud
from tests.api.identity.test_factors import code, enrolled, factors
from tests.api.support import ApiClient


async def test_a_passcode_is_good_once(cloud: Cloud) -> None:
    await enrolled(cloud)
    seen = code(cloud)
    assert (await factors(cloud, given=seen)).status == 201
    assert (await factors(cloud, given=seen)).status == 401
    assert (await factors(cloud, given=code(cloud, -1))).status == 401  # nor is an earlier one, once a later was used


async def test_old_future_and_odd_passcodes_are_refused_alike(cloud: Cloud) -> None:
    await enrolled(cloud)
    wrong = [code(cloud, -5), code(cloud, 5), code(cloud, secret=b"another"), "é" * 6, "0" * 100_000, "-1"]
    replies = [await factors(cloud, given=one) for one in wrong]
    assert {reply.status for reply in replies} == {401}
    assert len({reply.content for reply in replies}) == 1


async def test_a_receipt_is_no_token_and_a_token_no_receipt(cloud: Cloud) -> None:
    await enrolled(cloud)
    token = (await factors(cloud, password=DEMO_PASSWORD)).headers["x-subject-token"]
    client = await demo(cloud)
    await enrolled(cloud, factors=True)
    receipt = (await factors(cloud, password=DEMO_PASSWORD)).headers["openstack-auth-receipt"]
    await ApiClient(cloud.app, receipt).get("/v3/auth/projects", 401)
    exchange = {"identity": {"methods": ["token"], "token": {"id": receipt}}}
    assert (await cloud.send("POST", "/v3/auth/tokens", {"auth": exchange})).status == 404
    assert (await client.send("GET", "/v3/auth/tokens", x_subject_token=receipt)).status == 404
    assert (await factors(cloud, given=code(cloud), receipt=token)).status == 401
    assert (await factors(cloud, given=code(cloud), receipt=receipt[:-2] + "xx")).status == 401


async def test_a_receipt_of_another_user_is_worth_nothing(cloud: Cloud) -> None:
    admin = await cloud.admin()
    mallory = await cloud.user(admin, "mallory", "member", project_id=cloud.made.project_id)
    await enrolled(cloud, factors=True)
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    await admin.patch(f"/v3/users/{mallory['id']}", {"user": {"options": options}})
    of_mallory = (await cloud.try_login("mallory", "mallory")).headers["openstack-auth-receipt"]
    assert (await factors(cloud, given=code(cloud), receipt=of_mallory)).status == 401


async def test_a_receipt_dies_with_a_changed_password_and_a_disabled_user(cloud: Cloud) -> None:
    await enrolled(cloud, factors=True)
    admin, path = await cloud.admin(), f"/v3/users/{cloud.made.user_ids['demo']}"
    receipt = (await factors(cloud, password=DEMO_PASSWORD)).headers["openstack-auth-receipt"]
    await admin.patch(path, {"user": {"password": "another one"}})
    assert (await factors(cloud, given=code(cloud), receipt=receipt)).status == 401


async def test_whoever_knows_the_password_cannot_guess_passcodes_for_ever() -> None:
    async with make_cloud(IdentitySettings(lockout_failure_attempts=3)) as cloud:
        await enrolled(cloud, factors=True)
        for guess in ("000000", "000001", "000002"):
            assert (await factors(cloud, password=DEMO_PASSWORD)).status == 401  # a right password between the guesses
            assert (await factors(cloud, password=DEMO_PASSWORD, given=guess)).status == 401
        right = await factors(cloud, password=DEMO_PASSWORD, given=code(cloud))
        assert right.status == 401 and "openstack-auth-receipt" not in right.headers


async def test_delegated_tokens_do_not_make_a_second_factor(cloud: Cloud) -> None:
    client, user_id = await demo(cloud), cloud.made.user_ids["demo"]
    body = {"name": "robot", "unrestricted": True}
    made = await client.post(f"/v3/users/{user_id}/application_credentials", {"application_credential": body}, 201)
    robot = made["application_credential"]
    login = {
        "methods": ["application_credential"],
        "application_credential": {"id": robot["id"], "secret": robot["secret"]},
    }
    reply = await cloud.send("POST", "/v3/auth/tokens", {"auth": {"identity": login}})
    secret = {"user_id": user_id, "type": "totp", "blob": "GEZDGNBVGY3TQOJQ"}
    await ApiClient(cloud.app, reply.headers["x-subject-token"]).post("/v3/credentials", {"credential": secret}, 403)
