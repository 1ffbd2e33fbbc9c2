"""What is configured for one domain only."""

from __future__ import annotations

from kilonova.identity.domain_config.resource import read_config
from tests.api.identity.support import Cloud, demo

LDAP = {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://localhost", "password": "canary-secret"}}


async def test_options_are_kept_and_the_secret_ones_never_shown(cloud: Cloud) -> None:
    admin = await cloud.admin()
    domain_id = (await admin.post("/v3/domains", {"domain": {"name": "corp"}}, 201))["domain"]["id"]
    path = f"/v3/domains/{domain_id}/config"
    await admin.get(path, 404)
    shown = await admin.put(path, {"config": LDAP}, 201)
    assert shown == {"config": {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://localhost"}}}
    assert await admin.get(path) == shown
    assert await admin.get(f"{path}/ldap/url") == {"config": {"url": "ldap://localhost"}}
    await admin.get(f"{path}/ldap/password", 404)
    assert (await read_config(cloud.service, domain_id))["ldap"]["password"] == "canary-secret"
    await admin.patch(f"{path}/ldap/url", {"config": {"url": "ldaps://there"}})
    assert (await admin.get(f"{path}/ldap"))["config"] == {"ldap": {"url": "ldaps://there"}}
    await admin.put(path, {"config": {"identity": {"driver": "sql"}}}, 200)
    await admin.get(f"{path}/ldap", 404)
    await admin.delete(path)
    await admin.delete(path, 404)


async def test_what_is_refused(cloud: Cloud) -> None:
    admin = await cloud.admin()
    path = "/v3/domains/default/config"
    await admin.put(path, {"config": {"database": {"connection": "sqlite://"}}}, 403)
    await admin.put(path, {"config": {"ldap": {"colour": "red"}}}, 403)
    await admin.put(path, {"config": {}}, 400)
    await admin.put(path, {"config": {"ldap": "x"}}, 400)
    await admin.put("/v3/domains/nowhere/config", {"config": LDAP}, 404)
    await admin.get(path, 404)
    await (await demo(cloud)).put(path, {"config": LDAP}, 403)
    assert "driver" in (await admin.get("/v3/domains/config/identity/default"))["config"]["identity"]
    whole = (await (await demo(cloud)).get(f"{path}/security_compliance"))["config"]
    assert whole == {"security_compliance": {"password_regex": None, "password_regex_description": None}}
