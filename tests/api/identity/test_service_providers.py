"""Service providers: other clouds that every token names while they are enabled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.identity.support import DEMO_PASSWORD, Cloud, demo, project

PATH = "/v3/OS-FEDERATION/service_providers"
EAST: dict[str, Any] = {"auth_url": "https://east.example.org/v3", "sp_url": "https://east.example.org/Shibboleth.sso"}


async def _named(cloud: Cloud, scope: Any) -> Any:
    reply = await cloud.try_login("demo", DEMO_PASSWORD, scope)
    return reply.json()["token"].get("service_providers")


async def test_it_is_kept_changed_and_forgotten(cloud: Cloud) -> None:
    admin = await cloud.admin()
    made = (await admin.put(f"{PATH}/east", {"service_provider": EAST}, 201))["service_provider"]
    links = {"self": made["links"]["self"]}
    wanted = EAST | {"id": "east", "description": None, "enabled": False, "relay_state_prefix": "ss:mem:"}
    assert made == wanted | {"links": links}
    assert (await admin.send("PUT", f"{PATH}/east", {"service_provider": EAST})).status == 409
    changed = await admin.patch(f"{PATH}/east", {"service_provider": {"description": "the east"}})
    assert changed["service_provider"] == made | {"description": "the east"}
    assert await admin.get(f"{PATH}/east") == changed
    assert (await admin.get(PATH))["service_providers"] == [changed["service_provider"]]
    await admin.delete(f"{PATH}/east")
    assert (await admin.send("GET", f"{PATH}/east")).status == 404


async def test_tokens_name_those_that_are_enabled(cloud: Cloud) -> None:
    admin = await cloud.admin()
    assert await _named(cloud, project("demo")) is None
    await admin.put(f"{PATH}/east", {"service_provider": EAST | {"enabled": True}}, 201)
    await admin.put(f"{PATH}/west", {"service_provider": EAST}, 201)
    for scope in (project("demo"), "unscoped"):
        assert await _named(cloud, scope) == [{"id": "east", **EAST}]
    await admin.patch(f"{PATH}/east", {"service_provider": {"enabled": False}})
    assert await _named(cloud, project("demo")) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"auth_url": "https://x"},
        EAST | {"auth_url": "nowhere"},
        EAST | {"sp_url": "https://x y"},
        EAST | {"sp_url": "https://" + "x" * 300},
        EAST | {"enabled": "yes"},
        EAST | {"odd": 1},
    ],
)
async def test_what_is_none_is_refused(cloud: Cloud, body: dict[str, Any]) -> None:
    admin = await cloud.admin()
    assert (await admin.send("PUT", f"{PATH}/east", {"service_provider": body})).status == 400
    assert (await admin.get(PATH))["service_providers"] == []


async def test_members_neither_see_nor_change_them(cloud: Cloud) -> None:
    member = await demo(cloud)
    assert (await member.send("GET", PATH)).status == 403
    assert (await member.send("PUT", f"{PATH}/east", {"service_provider": EAST})).status == 403
