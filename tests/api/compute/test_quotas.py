"""Quotas and limits: fields by microversion, defaults, overrides, who may look and who may set."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.compute.quota import store
from tests.api.compute.support import Api
from tests.api.support import OTHER_PROJECT, PROJECT

URL = f"/v2.1/os-quota-sets/{PROJECT}"
CORE = {"cores": 20, "instances": 10, "key_pairs": 100, "metadata_items": 128, "ram": 51200}
GROUPS = {"server_groups": 10, "server_group_members": 10}
INJECTED = {"injected_files": 5, "injected_file_content_bytes": 10240, "injected_file_path_bytes": 255}
NETWORK = {"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1}
BY_VERSION = [
    ("2.1", CORE | GROUPS | INJECTED | NETWORK),
    ("2.36", CORE | GROUPS | INJECTED),
    ("2.57", CORE | GROUPS),
]


@pytest.mark.parametrize(("version", "limits"), BY_VERSION)
async def test_the_fields_of_each_version(api: Api, version: str, limits: dict[str, int]) -> None:
    reader = api.as_("reader", version)
    assert (await reader.get(URL))["quota_set"] == {"id": PROJECT, **limits}
    assert (await reader.get(f"{URL}/defaults"))["quota_set"] == {"id": PROJECT, **limits}
    detail = (await reader.get(f"{URL}/detail"))["quota_set"]
    assert detail.pop("id") == PROJECT
    assert detail == {name: {"limit": limit, "in_use": 0, "reserved": 0} for name, limit in limits.items()}
    changed = await api.as_("admin", version).put(URL, {"quota_set": {"cores": "30", "ram": -1}})
    assert changed == {"quota_set": limits | {"cores": 30, "ram": -1}}


async def test_what_was_set_holds_until_it_is_forgotten(api: Api) -> None:
    admin = api.as_("admin")
    await admin.put(URL, {"quota_set": {"instances": 45, "force": "True"}})
    assert (await api.as_("member").get(URL))["quota_set"]["instances"] == 45
    assert (await api.as_("member").get(f"{URL}/defaults"))["quota_set"]["instances"] == 10
    assert (await admin.get(f"/v2.1/os-quota-sets/{OTHER_PROJECT}"))["quota_set"]["instances"] == 10
    await admin.delete(URL, 202)
    assert (await api.as_("member").get(URL))["quota_set"]["instances"] == 10


async def test_a_user_has_a_quota_within_the_projects(api: Api) -> None:
    admin, url = api.as_("admin"), f"{URL}?user_id=user-member"
    assert (await admin.put(url, {"quota_set": {"instances": 9}}))["quota_set"]["instances"] == 9
    assert (await admin.get(url))["quota_set"]["instances"] == 9
    assert (await admin.get(URL))["quota_set"]["instances"] == 10
    await admin.put(url, {"quota_set": {"instances": 11}}, 400)
    await admin.delete(url, 202)
    assert (await admin.get(url))["quota_set"]["instances"] == 10


@pytest.mark.parametrize(
    ("version", "wrong"),
    [
        ("2.1", {"instances": -2}), ("2.1", {"instances": "many"}), ("2.1", {"instances": 2**31}),
        ("2.1", {"gold": 1}), ("2.36", {"floating_ips": 1}), ("2.57", {"injected_files": 1}),
        ("2.1", {"instances": None}), ("2.1", {"force": "perhaps"}), ("2.1", {"cores": True}),
    ],
)  # fmt: skip
async def test_what_is_refused(api: Api, version: str, wrong: dict[str, Any]) -> None:
    before = await api.as_("admin").get(URL)
    await api.as_("admin", version).put(URL, {"quota_set": {"metadata_items": 1, **wrong}}, 400)
    assert await api.as_("admin").get(URL) == before


async def test_only_operators_set_quotas_and_look_at_others(api: Api) -> None:
    for persona in ("manager", "member", "reader"):
        client = api.as_(persona)
        await client.put(URL, {"quota_set": {"instances": 1}}, 403)
        await client.delete(URL, 403)
        await client.get(f"/v2.1/os-quota-sets/{OTHER_PROJECT}", 403)
        await client.get(f"/v2.1/os-quota-sets/{OTHER_PROJECT}/detail", 403)
        await client.get(f"/v2.1/os-quota-sets/{OTHER_PROJECT}/defaults")
        await client.get("/v2.1/os-quota-class-sets/default", 403)
        await client.put("/v2.1/os-quota-class-sets/default", {"quota_class_set": {"cores": 1}}, 403)
        await client.get(f"/v2.1/limits?tenant_id={OTHER_PROJECT}", 403)


@pytest.mark.parametrize(
    ("version", "limits"),
    [("2.1", CORE | INJECTED | NETWORK), ("2.50", CORE | GROUPS | INJECTED), ("2.57", CORE | GROUPS)],
)
async def test_the_default_class_is_the_default_of_all(api: Api, version: str, limits: dict[str, int]) -> None:
    admin, url = api.as_("admin", version), "/v2.1/os-quota-class-sets/default"
    assert (await admin.get(url))["quota_class_set"] == {"id": "default", **limits}
    changed = (await admin.put(url, {"quota_class_set": {"cores": 50}}))["quota_class_set"]
    assert changed == limits | {"cores": 50}
    assert (await api.as_("member").get(URL))["quota_set"]["cores"] == 50
    await api.as_("admin").put(URL, {"quota_set": {"cores": 7}})
    assert (await api.as_("member").get(URL))["quota_set"]["cores"] == 7


@pytest.mark.parametrize(("version", "keys"), [("2.1", 19), ("2.36", 14), ("2.39", 13), ("2.57", 11)])
async def test_limits(api: Api, version: str, keys: int) -> None:
    await api.as_("admin").put(URL, {"quota_set": {"cores": 7}})
    limits = (await api.as_("reader", version).get("/v2.1/limits"))["limits"]
    assert limits["rate"] == [] and len(limits["absolute"]) == keys
    assert limits["absolute"]["maxTotalCores"] == 7 and limits["absolute"]["totalInstancesUsed"] == 0
    other = (await api.as_("admin", version).get(f"/v2.1/limits?tenant_id={PROJECT}"))["limits"]
    assert other == limits


async def test_a_check_counts_rows_and_stops_at_the_limit(api: Api) -> None:
    db = api.compute.db
    await db.write(store.change, "project", PROJECT, "", {"instances": 3, "cores": -1})
    await db.write(store.check_and_lock, PROJECT, {"instances": 1, "cores": 1000}, lambda _c, _r: 2)
    with pytest.raises(Fault) as refused:
        await db.write(store.check_and_lock, PROJECT, {"cores": 1, "instances": 2}, lambda _c, _r: 2)
    assert refused.value.kind is Kind.OVER_QUOTA
    assert refused.value.data == {"resource": "instances", "wanted": 2, "used": 2, "limit": 3}
