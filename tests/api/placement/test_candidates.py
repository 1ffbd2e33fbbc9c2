"""Candidates: who has room, with which traits, told in each version's form; and how fast."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.world import LiveWorld
from kilonova.http.app import App
from kilonova.placement.contract import Inventory
from tests.api.placement.doors import HOST, OTHER_HOST, SERVER, placement_client
from tests.api.support import PROJECT, ApiClient

WANTED = "/allocation_candidates?resources=VCPU:1,MEMORY_MB:512"


@pytest.fixture(autouse=True)
async def two_hosts(app: App, world: LiveWorld) -> None:
    placement = placement_client(app, world)
    book = {"VCPU": Inventory(4), "MEMORY_MB": Inventory(2048, step_size=256), "DISK_GB": Inventory(10, max_unit=5)}
    await placement.ensure_provider(HOST, "node1", book, ["COMPUTE_NODE", "CUSTOM_FAST"])
    await placement.ensure_provider(OTHER_HOST, "node2", book, ["COMPUTE_NODE", "HW_CPU_X86_VMX"])
    await placement.claim(SERVER, HOST, {"VCPU": 3}, PROJECT, "user")


async def who(admin: ApiClient, query: str) -> set[str]:
    answer = await admin.get(f"/allocation_candidates?{query}")
    return {id_ for request in answer["allocation_requests"] for id_ in request["allocations"]}


@pytest.mark.parametrize(
    ("query", "hosts"),
    [
        ("resources=VCPU:1", {HOST, OTHER_HOST}),
        ("resources=VCPU:2", {OTHER_HOST}),
        ("resources=VCPU:5", set()),
        ("resources=MEMORY_MB:300", set()),
        ("resources=MEMORY_MB:512", {HOST, OTHER_HOST}),
        ("resources=DISK_GB:6", set()),
        ("resources=VCPU:1,VGPU:1", set()),
        ("resources=VCPU:1&required=CUSTOM_FAST", {HOST}),
        ("resources=VCPU:1&required=COMPUTE_NODE,!CUSTOM_FAST", {OTHER_HOST}),
        ("resources=VCPU:1&required=in:CUSTOM_FAST,HW_CPU_X86_VMX&required=COMPUTE_NODE", {HOST, OTHER_HOST}),
        ("resources=VCPU:1&required=in:CUSTOM_FAST,HW_CPU_X86_VMX&required=!HW_CPU_X86_VMX", {HOST}),
        (f"resources=VCPU:1&in_tree={OTHER_HOST}", {OTHER_HOST}),
        (f"resources=VCPU:1&in_tree={SERVER}", set()),
        ("resources=VCPU:1&limit=1", {HOST}),
    ],
)
async def test_who_has_room(admin: ApiClient, query: str, hosts: set[str]) -> None:
    assert await who(admin, query) == hosts
    if "limit" not in query:
        found = await admin.get(f"/resource_providers?{query}")
        assert {provider["uuid"] for provider in found["resource_providers"]} == hosts


async def test_the_form_of_an_answer(admin: ApiClient) -> None:
    answer = await admin.get(f"{WANTED}&required=CUSTOM_FAST")
    wanted = {"VCPU": 1, "MEMORY_MB": 512}
    assert answer == {
        "allocation_requests": [{"allocations": {HOST: {"resources": wanted}}, "mappings": {"": [HOST]}}],
        "provider_summaries": {
            HOST: {
                "resources": {
                    "VCPU": {"capacity": 4, "used": 3},
                    "MEMORY_MB": {"capacity": 2048, "used": 0},
                    "DISK_GB": {"capacity": 10, "used": 0},
                },
                "traits": ["COMPUTE_NODE", "CUSTOM_FAST"],
                "parent_provider_uuid": None,
                "root_provider_uuid": HOST,
            }
        },
    }
    old = await admin.at("placement 1.10").get(WANTED)
    first = old["allocation_requests"][0]
    assert first == {"allocations": [{"resource_provider": {"uuid": HOST}, "resources": wanted}]}
    assert old["provider_summaries"][HOST].keys() == {"resources"}
    assert old["provider_summaries"][HOST]["resources"].keys() == wanted.keys()
    await admin.at("placement 1.9").get(WANTED, 404)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "resources=",
        "resources=VCPU",
        "resources=VCPU:0",
        "resources=VCPU:-1",
        "resources=VCPU:1,VCPU:2",
        "resources=CUSTOM_NONE:1",
        "resources=VCPU:1&required=",
        "resources=VCPU:1&required=CUSTOM_NONE",
        "resources=VCPU:1&required=COMPUTE_NODE,!COMPUTE_NODE",
        "resources=VCPU:1&required=in:COMPUTE_NODE,!CUSTOM_FAST",
        "resources=VCPU:1&limit=0",
        "resources=VCPU:1&limit=x",
        "resources=VCPU:1&in_tree=x",
        "resources=VCPU:1&unknown=1",
        "resources=VCPU:1&resources=VCPU:2",
        "resources1=VCPU:1&resources2=VCPU:1",
        "resources1=VCPU:1&resources2=VCPU:1&group_policy=some",
        "resources1=VCPU:1&required2=COMPUTE_NODE&group_policy=none",
    ],
)
async def test_bad_questions_are_refused(admin: ApiClient, query: str) -> None:
    refused: Any = await admin.get(f"/allocation_candidates?{query}", 400)
    assert refused["errors"][0]["detail"]


async def test_aggregates_narrow_the_search(admin: ApiClient) -> None:
    rack, floor, nowhere = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2, 3))
    path = "/resource_providers/{}/aggregates"
    generation = (await admin.get(f"/resource_providers/{HOST}"))["generation"]
    wanted = {"aggregates": [rack, floor], "resource_provider_generation": generation}
    shown = await admin.put(path.format(HOST), wanted)
    assert shown == {"aggregates": [rack, floor], "resource_provider_generation": generation + 1}
    refused = await admin.put(path.format(HOST), wanted, 409)
    assert refused["errors"][0]["code"] == "placement.concurrent_update"
    old = admin.at("placement 1.18")
    assert await old.put(path.format(OTHER_HOST), [floor]) == {"aggregates": [floor]}
    assert await old.get(path.format(OTHER_HOST)) == {"aggregates": [floor]}
    for query, hosts in (
        (f"member_of={rack}", {HOST}),
        (f"member_of={floor}", {HOST, OTHER_HOST}),
        (f"member_of=in:{rack},{nowhere}", {HOST}),
        (f"member_of={nowhere}", set()),
        (f"member_of={floor}&member_of={rack}", {HOST}),
        (f"member_of={floor}&member_of=!{rack}", {OTHER_HOST}),
        (f"member_of=!in:{rack},{nowhere}", {OTHER_HOST}),
    ):
        assert await who(admin, f"resources=VCPU:1&{query}") == hosts
    for query in ("member_of=x", "member_of=", "member_of=in:"):
        await admin.get(f"{WANTED}&{query}", 400)
    await admin.at("placement 1.20").get(f"{WANTED}&member_of={rack}", 400)
    await admin.at("placement 1.31").get(f"{WANTED}&member_of=!{rack}", 400)
    await admin.put(path.format(HOST), {"aggregates": [rack, rack], "resource_provider_generation": 0}, 400)


async def test_older_versions_know_fewer_questions(admin: ApiClient) -> None:
    await admin.at("placement 1.15").get(f"{WANTED}&limit=1", 400)
    await admin.at("placement 1.16").get(f"{WANTED}&required=COMPUTE_NODE", 400)
    await admin.at("placement 1.21").get(f"{WANTED}&required=!CUSTOM_FAST", 400)
    await admin.at("placement 1.38").get(f"{WANTED}&required=in:CUSTOM_FAST", 400)
    await admin.at("placement 1.30").get(f"{WANTED}&in_tree={HOST}", 400)


async def test_a_thousand_providers_are_all_found(app: App, world: LiveWorld) -> None:
    placement = placement_client(app, world)
    books = {"VCPU": Inventory(64), "MEMORY_MB": Inventory(65536), "DISK_GB": Inventory(1000)}
    for number in range(1000):
        await placement.ensure_provider(world.ids.uuid(), f"host{number}", books, [])
    found = await placement.candidates({"VCPU": 8, "MEMORY_MB": 8192}, [], [])
    assert len(found.fits) == 1000
