"""Flavors: who sees which, at which microversion, and what operators may do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.compute.support import Api
from tests.api.support import OTHER_PROJECT, PROJECT

URL = "/v2.1/flavors"
OLD_KEYS = {
    "id", "name", "ram", "disk", "vcpus", "swap", "OS-FLV-EXT-DATA:ephemeral", "OS-FLV-DISABLED:disabled",
    "os-flavor-access:is_public", "rxtx_factor", "links",
}  # fmt: skip


def body(name: str = "m1.tiny", **more: Any) -> dict[str, Any]:
    return {"flavor": {"name": name, "ram": 512, "vcpus": 1, "disk": 1, "id": name, **more}}


async def make(api: Api, name: str, version: str = "", **more: Any) -> dict[str, Any]:
    made = await api.as_("admin", version).post(URL, body(name, **more), 200)
    return dict(made["flavor"])


async def names(api: Api, token: str, query: str = "", version: str = "") -> list[str]:
    return [one["name"] for one in (await api.as_(token, version).get(f"{URL}{query}"))["flavors"]]


@pytest.mark.parametrize(
    ("version", "keys", "swap"),
    [
        ("2.1", OLD_KEYS, ""),
        ("2.55", OLD_KEYS | {"description"}, ""),
        ("2.61", OLD_KEYS | {"description", "extra_specs"}, ""),
        ("2.75", OLD_KEYS | {"description", "extra_specs"}, 0),
        ("2.102", OLD_KEYS - {"rxtx_factor", "OS-FLV-DISABLED:disabled"} | {"description", "extra_specs"}, 0),
    ],
)
async def test_what_each_microversion_shows(api: Api, version: str, keys: set[str], swap: Any) -> None:
    made = await make(api, "m1.tiny", version)
    member = api.as_("member", version)
    shown = (await member.get(f"{URL}/m1.tiny"))["flavor"]
    assert set(shown) == keys and shown["swap"] == swap and made == shown
    assert (await member.get(f"{URL}/detail"))["flavors"] == [shown]
    listed = (await member.get(URL))["flavors"][0]
    assert set(listed) == {"id", "name", "links"} | ({"description"} & keys)
    assert {link["rel"] for link in listed["links"]} == {"self", "bookmark"}
    assert listed["links"][0]["href"].endswith("/v2.1/flavors/m1.tiny")


async def test_the_same_below_a_project_id(api: Api) -> None:
    await make(api, "m1.tiny")
    assert (await api.as_("member").get(f"/v2.1/{PROJECT}/flavors/m1.tiny"))["flavor"]["id"] == "m1.tiny"


async def test_a_private_flavor_is_there_only_for_those_it_was_given_to(api: Api) -> None:
    await make(api, "secret", **{"os-flavor-access:is_public": False})
    await make(api, "open")
    assert await names(api, "member") == ["open"]
    await api.as_("member").get(f"{URL}/secret", 404)
    await api.as_("member").get(f"{URL}/secret/os-extra_specs", 404)
    admin = api.as_("admin")
    given = await admin.post(f"{URL}/secret/action", {"addTenantAccess": {"tenant": PROJECT}}, 200)
    assert given == {"flavor_access": [{"flavor_id": "secret", "tenant_id": PROJECT}]}
    assert await names(api, "member") == ["open", "secret"]
    assert await names(api, "other") == ["open"]
    assert (await api.as_("reader").get(f"{URL}/secret"))["flavor"]["os-flavor-access:is_public"] is False
    await admin.post(f"{URL}/secret/action", {"addTenantAccess": {"tenant": PROJECT}}, 409)
    assert (await admin.get(f"{URL}/secret/os-flavor-access")) == given
    await admin.post(f"{URL}/secret/action", {"removeTenantAccess": {"tenant": OTHER_PROJECT}}, 404)
    await admin.post(f"{URL}/secret/action", {"removeTenantAccess": {"tenant": PROJECT}}, 200)
    await api.as_("member").get(f"{URL}/secret", 404)
    await admin.get(f"{URL}/open/os-flavor-access", 404)
    await api.as_("admin", "2.7").post(f"{URL}/open/action", {"addTenantAccess": {"tenant": PROJECT}}, 409)


async def test_is_public_is_a_filter_for_operators_only(api: Api) -> None:
    await make(api, "secret", **{"os-flavor-access:is_public": "False"})
    await make(api, "open")
    assert await names(api, "admin", "?is_public=none") == ["open", "secret"]
    assert await names(api, "admin", "?is_public=False") == ["secret"]
    assert await names(api, "member", "?is_public=False") == ["open"]
    await api.as_("admin").get(f"{URL}?is_public=perhaps", 400)


async def test_filters_sorts_and_pages(api: Api) -> None:
    for number in range(1, 6):
        await make(api, f"f{number}", ram=1024 * number, disk=10 - number)
    assert await names(api, "member", "?minRam=3072") == ["f3", "f4", "f5"]
    assert await names(api, "member", "?minDisk=7") == ["f1", "f2", "f3"]
    assert await names(api, "member", "?sort_key=root_gb&sort_dir=asc") == ["f5", "f4", "f3", "f2", "f1"]
    first = await api.as_("member").get(f"{URL}?limit=2&sort_key=memory_mb&sort_dir=desc")
    assert [one["name"] for one in first["flavors"]] == ["f5", "f4"]
    href = first["flavors_links"][0]["href"]
    second = await api.as_("member").get(href[href.index("/v2.1") :])
    assert [one["name"] for one in second["flavors"]] == ["f3", "f2"]
    for wrong in ("minRam=x", "limit=-1", "marker=nowhere", "sort_key=colour", "sort_dir=up"):
        await api.as_("member").get(f"{URL}?{wrong}", 400)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ram": 0}, {"ram": "many"}, {"vcpus": 0}, {"disk": -1}, {"swap": 2**31}, {"name": ""}, {"name": " tiny"},
        {"name": "x" * 256}, {"name": "a\nb"}, {"id": "a/b"}, {"id": " "}, {"rxtx_factor": 0}, {"rxtx_factor": "a"},
        {"os-flavor-access:is_public": "perhaps"}, {"colour": "red"}, {"description": "needs 2.55"}, {"ram": True},
    ],
)  # fmt: skip
async def test_a_bad_flavor_is_refused_and_not_made(api: Api, wrong: dict[str, Any]) -> None:
    await api.as_("admin").post(URL, {"flavor": {**body()["flavor"], **wrong}}, 400)
    assert await names(api, "admin", "?is_public=none") == []


async def test_ids_are_chosen_and_names_and_ids_are_unique(api: Api) -> None:
    admin = api.as_("admin")
    chosen = (await admin.post(URL, body("a", id="auto"), 200))["flavor"]["id"]
    assert len(chosen) == 36
    assert (await admin.post(URL, body("seven", id=7), 200))["flavor"]["id"] == "7"
    await admin.post(URL, body("a", id="other"), 409)
    await admin.post(URL, body("b", id="7"), 409)


async def test_description_is_all_that_changes(api: Api) -> None:
    await make(api, "m1.tiny", "2.55", description="small")
    admin = api.as_("admin", "2.55")
    changed = (await admin.put(f"{URL}/m1.tiny", {"flavor": {"description": None}}))["flavor"]
    assert changed["description"] is None
    await admin.put(f"{URL}/m1.tiny", {"flavor": {"description": "a", "ram": 1}}, 400)
    await admin.put(f"{URL}/m1.tiny", {"flavor": {}}, 400)
    await admin.put(f"{URL}/nothing", {"flavor": {"description": "a"}}, 404)
    await api.as_("admin", "2.54").put(f"{URL}/m1.tiny", {"flavor": {"description": "a"}}, 404)


async def test_extra_specs(api: Api) -> None:
    await make(api, "m1.tiny")
    admin, url = api.as_("admin"), f"{URL}/m1.tiny/os-extra_specs"
    specs = {"hw:cpu_policy": "shared", "hw:numa_nodes": "1"}
    assert await admin.post(url, {"extra_specs": specs}, 200) == {"extra_specs": specs}
    assert await admin.put(f"{url}/hw:numa_nodes", {"hw:numa_nodes": "2"}) == {"hw:numa_nodes": "2"}
    assert await api.as_("reader").get(f"{url}/hw:numa_nodes") == {"hw:numa_nodes": "2"}
    assert (await api.as_("member", "2.61").get(f"{URL}/m1.tiny"))["flavor"]["extra_specs"]["hw:numa_nodes"] == "2"
    await admin.put(f"{url}/hw:numa_nodes", {"hw:other": "2"}, 400)
    await admin.post(url, {"extra_specs": {"käse": "1"}}, 400)
    await admin.post(url, {"extra_specs": {"a": None}}, 400)
    await admin.delete(f"{url}/hw:numa_nodes", 200)
    await admin.delete(f"{url}/hw:numa_nodes", 404)
    await admin.get(f"{url}/hw:numa_nodes", 404)
    assert await api.as_("member").get(url) == {"extra_specs": {"hw:cpu_policy": "shared"}}


async def test_only_operators_change_flavors(api: Api) -> None:
    await make(api, "m1.tiny")
    for persona in ("manager", "member", "reader", "service-less"):
        status = 401 if persona == "service-less" else 403
        client = api.as_(persona, "2.61")
        await client.post(URL, body("mine"), status)
        await client.put(f"{URL}/m1.tiny", {"flavor": {"description": "x"}}, status)
        await client.delete(f"{URL}/m1.tiny", status)
        await client.post(f"{URL}/m1.tiny/os-extra_specs", {"extra_specs": {"a": "b"}}, status)
        await client.post(f"{URL}/m1.tiny/action", {"addTenantAccess": {"tenant": PROJECT}}, status)
        await client.get(f"{URL}/m1.tiny/os-flavor-access", status)
    assert await api.as_("member", "2.61").get(f"{URL}/m1.tiny/os-extra_specs") == {"extra_specs": {}}


async def test_a_deleted_flavor_is_gone(api: Api) -> None:
    await make(api, "m1.tiny")
    await api.as_("admin").delete(f"{URL}/m1.tiny", 202)
    await api.as_("admin").delete(f"{URL}/m1.tiny", 404)
    await api.as_("member").get(f"{URL}/m1.tiny", 404)
    await make(api, "m1.tiny")
