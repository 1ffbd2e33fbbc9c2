"""Candidates in trees: numbered and named groups, what may serve them together, and what is shared from outside.

The cloud of these tests (each host with its aggregates):

    host1 [A]                     host2 [A, B]            pool [A] shares DISK_GB: 1000
      numa1 [C] VCPU 4, MB 4096     VCPU 4, MB 4096
        nic1  VF 2, CUSTOM_RED
      numa2     VCPU 4, MB 4096
        nic2  VF 2, CUSTOM_BLUE
"""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.world import LiveWorld
from kilonova.http.app import App
from kilonova.placement.contract import Inventory
from tests.api.placement.doors import placement_client
from tests.api.support import ApiClient

NAMES = ("host1", "numa1", "nic1", "numa2", "nic2", "host2", "pool")
ID = {name: f"{number}0000000-0000-4000-8000-000000000000" for number, name in enumerate(NAMES, 1)}
NAME = {id_: name for name, id_ in ID.items()}
AGGREGATE = {name: f"{name.lower() * 8}-0000-4000-8000-000000000000" for name in "ABC"}
PARENTS = {"numa1": "host1", "numa2": "host1", "nic1": "numa1", "nic2": "numa2"}
CPU = {"VCPU": Inventory(4), "MEMORY_MB": Inventory(4096)}
VF = {"SRIOV_NET_VF": Inventory(2)}
BOOKS = {"numa1": CPU, "nic1": VF, "numa2": CPU, "nic2": VF, "host2": CPU, "pool": {"DISK_GB": Inventory(1000)}}
TRAITS = {
    "nic1": ["CUSTOM_RED"],
    "nic2": ["CUSTOM_BLUE"],
    "pool": ["MISC_SHARES_VIA_AGGREGATE"],
    "host1": ["COMPUTE_NODE"],
}
MEMBERS = {"host1": "A", "host2": "AB", "pool": "A", "numa1": "C"}


@pytest.fixture(autouse=True)
async def cloud(admin: ApiClient, app: App, world: LiveWorld) -> None:
    placement = placement_client(app, world)
    for name in NAMES:
        parent = ID.get(PARENTS.get(name, ""))
        await admin.post("/resource_providers", {"uuid": ID[name], "name": name, "parent_provider_uuid": parent}, 200)
        await placement.ensure_provider(ID[name], name, BOOKS.get(name, {}), TRAITS.get(name, []))
        if groups := MEMBERS.get(name):
            path = f"/resource_providers/{ID[name]}"
            generation = (await admin.get(path))["generation"]
            wanted = [AGGREGATE[group] for group in groups]
            body = {"aggregates": wanted, "resource_provider_generation": generation}
            await admin.put(f"{path}/aggregates", body)


async def ways(admin: ApiClient, query: str) -> set[tuple[str, ...]]:
    """Each candidate as its providers' names; how much of what is left out."""
    for name, id_ in ID.items():
        query = query.replace(f"<{name}>", id_)
    for name, id_ in AGGREGATE.items():
        query = query.replace(f"<{name}>", id_)
    answer = await admin.get(f"/allocation_candidates?{query}")
    found = [tuple(sorted(NAME[id_] for id_ in one["allocations"])) for one in answer["allocation_requests"]]
    roots = {part["root_provider_uuid"] for part in answer["provider_summaries"].values()}
    used = {id_ for one in answer["allocation_requests"] for id_ in one["allocations"]}
    assert used <= answer["provider_summaries"].keys()
    assert all(answer["provider_summaries"][id_]["root_provider_uuid"] in roots for id_ in used)
    assert len(found) == len({str(one) for one in answer["allocation_requests"]}), "no way is told twice"
    return set(found)


ALONE = {("numa1",), ("numa2",), ("host2",)}
WAYS: list[tuple[str, set[tuple[str, ...]]]] = [
    ("resources=VCPU:1", ALONE),
    ("resources=VCPU:5", set()),
    ("resources=VCPU:1,SRIOV_NET_VF:1", {("nic1", "numa1"), ("nic2", "numa1"), ("nic1", "numa2"), ("nic2", "numa2")}),
    ("resources=VCPU:1,SRIOV_NET_VF:1&required=CUSTOM_RED", {("nic1", "numa1"), ("nic1", "numa2")}),
    ("resources=VCPU:1,SRIOV_NET_VF:1&required=!CUSTOM_RED", {("nic2", "numa1"), ("nic2", "numa2")}),
    ("resources=SRIOV_NET_VF:1&required=in:CUSTOM_RED,CUSTOM_BLUE", {("nic1",), ("nic2",)}),
    ("resources=VCPU:1&in_tree=<nic1>", {("numa1",), ("numa2",)}),
    ("resources=VCPU:1&resources1=SRIOV_NET_VF:1&in_tree1=<host2>", set()),
    ("resources=VCPU:1&root_required=COMPUTE_NODE", {("numa1",), ("numa2",)}),
    ("resources=VCPU:1&root_required=!COMPUTE_NODE", {("host2",)}),
    # one provider serves all of a suffixed group
    ("resources1=VCPU:1,MEMORY_MB:512", ALONE),
    ("resources1=VCPU:1,SRIOV_NET_VF:1", set()),
    ("resources_NET=SRIOV_NET_VF:1&required_NET=CUSTOM_BLUE", {("nic2",)}),
    ("resources1=VCPU:2&resources2=VCPU:2&group_policy=isolate", {("numa1", "numa2")}),
    ("resources1=VCPU:2&resources2=VCPU:2&group_policy=none", {*ALONE, ("numa1", "numa2")}),
    ("resources1=VCPU:3&resources2=VCPU:3&group_policy=none", {("numa1", "numa2")}),
    (
        "resources_C=VCPU:1&resources_N=SRIOV_NET_VF:1&group_policy=none&same_subtree=_C,_N",
        {("nic1", "numa1"), ("nic2", "numa2")},
    ),
    (
        "resources_N=SRIOV_NET_VF:1&member_of_R=<C>&group_policy=none&same_subtree=_R,_N",
        {("nic1",)},
    ),
    # aggregates: a root's hold its tree for the unsuffixed group, each its own for the others
    ("resources=VCPU:1&member_of=<A>", ALONE),
    ("resources=VCPU:1&member_of=<B>", {("host2",)}),
    ("resources=VCPU:1&member_of=<C>", {("numa1",)}),
    ("resources=VCPU:1&member_of=!<B>", {("numa1",), ("numa2",)}),
    ("resources1=VCPU:1&member_of1=<A>", {("host2",)}),
    # what the pool shares serves every tree that is in an aggregate with it
    ("resources=DISK_GB:10", {("pool",)}),
    ("resources=VCPU:1,DISK_GB:10", {("numa1", "pool"), ("numa2", "pool"), ("host2", "pool")}),
    ("resources=VCPU:1,DISK_GB:10&member_of=<B>", set()),
    ("resources=VCPU:1,DISK_GB:10&in_tree=<host2>", set()),
    ("resources=VCPU:1&resources1=DISK_GB:10&in_tree1=<pool>&in_tree=<host2>", {("host2", "pool")}),
]


@pytest.mark.parametrize(("query", "expected"), WAYS, ids=[query for query, _ in WAYS])
async def test_who_serves_together(admin: ApiClient, query: str, expected: set[tuple[str, ...]]) -> None:
    assert await ways(admin, query) == expected


async def test_the_same_provider_gives_the_sum_of_its_groups(admin: ApiClient) -> None:
    query = "resources=MEMORY_MB:100&resources1=VCPU:1&resources2=VCPU:2&group_policy=none&in_tree=<host2>"
    answer = await admin.get(f"/allocation_candidates?{query.replace('<host2>', ID['host2'])}")
    (one,) = [r for r in answer["allocation_requests"] if set(r["allocations"]) == {ID["host2"]}]
    assert one["allocations"] == {ID["host2"]: {"resources": {"MEMORY_MB": 100, "VCPU": 3}}}
    assert one["mappings"] == {"": [ID["host2"]], "1": [ID["host2"]], "2": [ID["host2"]]}
    body = {**one, "project_id": "p", "user_id": "u", "consumer_generation": None, "consumer_type": "INSTANCE"}
    await admin.put(f"/allocations/{ID['host1']}", body, 204)


async def test_a_limit_takes_each_tree_before_second_choices(admin: ApiClient) -> None:
    answer = await admin.get("/allocation_candidates?resources1=VCPU:1&limit=2&required1=!CUSTOM_RED")
    assert len(answer["allocation_requests"]) == 2
    both = await ways(admin, "resources=VCPU:1,MEMORY_MB:1&limit=2")
    assert ("host2",) in both and len(both) == 2


async def test_before_trees_a_tree_serves_with_one_provider(admin: ApiClient) -> None:
    query = "/allocation_candidates?resources=VCPU:1,SRIOV_NET_VF:1"
    old = await admin.at("placement 1.28").get(query)
    assert old == {"allocation_requests": [], "provider_summaries": {}}
    single = await admin.at("placement 1.28").get("/allocation_candidates?resources=VCPU:1")
    assert {NAME[id_] for id_ in single["provider_summaries"]} == {"numa1", "numa2", "host2"}
    assert single["provider_summaries"][ID["host2"]].keys() == {"resources", "traits"}
    today = await admin.get("/allocation_candidates?resources=VCPU:1")
    assert {NAME[id_] for id_ in today["provider_summaries"]} == {*NAMES} - {"pool"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("resources1=VCPU:1&resources2=VCPU:1", "placement.query.missing_value"),
        ("resources1=VCPU:1&group_policy=some", "placement.query.bad_value"),
        ("resources_@=VCPU:1", "placement.query.bad_value"),
        (f"resources{'x' * 65}=VCPU:1", "placement.query.bad_value"),
        ("member_of1=<A>", "placement.query.missing_value"),
        ("resources1=VCPU:1&member_of2=<A>&group_policy=none", "placement.query.bad_value"),
        ("resources1=VCPU:1&same_subtree=1,2", "placement.query.bad_value"),
        ("resources1=VCPU:1&same_subtree=1,", "placement.query.bad_value"),
        ("resources=VCPU:1&root_required=COMPUTE_NODE,!COMPUTE_NODE", "placement.query.bad_value"),
        ("resources=VCPU:1&root_required=a&root_required=b", "placement.query.duplicate_key"),
    ],
)
async def test_bad_groups_are_refused(admin: ApiClient, query: str, code: str) -> None:
    refused: Any = await admin.get(f"/allocation_candidates?{query.replace('<A>', AGGREGATE['A'])}", 400)
    assert refused["errors"][0]["code"] == code


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("resources=VCPU:1&limit=1", 16),
        ("resources=VCPU:1&required=COMPUTE_NODE", 17),
        ("resources=VCPU:1&member_of=<A>", 21),
        ("resources=VCPU:1&required=!COMPUTE_NODE", 22),
        ("resources=VCPU:1&member_of=<A>&member_of=<B>", 24),
        ("resources1=VCPU:1&resources2=VCPU:1&group_policy=none", 25),
        ("resources=VCPU:1&in_tree=<host2>", 31),
        ("resources1=VCPU:1&in_tree1=<host2>", 31),
        ("resources=VCPU:1&member_of=!<A>", 32),
        ("resources_NAME=VCPU:1", 33),
        ("resources=VCPU:1&root_required=COMPUTE_NODE", 35),
        ("resources1=VCPU:1&same_subtree=1", 36),
        ("resources=VCPU:1&required=in:COMPUTE_NODE,CUSTOM_RED", 39),
    ],
)
async def test_when_questions_came(admin: ApiClient, query: str, first: int) -> None:
    for name, id_ in {**ID, **AGGREGATE}.items():
        query = query.replace(f"<{name}>", id_)
    await admin.at(f"placement 1.{first}").get(f"/allocation_candidates?{query}")
    await admin.at(f"placement 1.{first - 1}").get(f"/allocation_candidates?{query}", 400)


async def test_a_tree_that_moves_is_found_where_it_is(admin: ApiClient) -> None:
    assert await ways(admin, "resources=VCPU:1,SRIOV_NET_VF:1&in_tree=<host2>") == set()
    path, body = f"/resource_providers/{ID['nic1']}", {"name": "nic1", "parent_provider_uuid": ID["host2"]}
    await admin.at("placement 1.36").put(path, body, 400)
    await admin.put(path, body)
    assert await ways(admin, "resources=VCPU:1,SRIOV_NET_VF:1&in_tree=<host2>") == {("host2", "nic1")}
    await admin.put(path, {"name": "nic1", "parent_provider_uuid": None})
    assert await ways(admin, "resources=SRIOV_NET_VF:1") == {("nic1",), ("nic2",)}
    await admin.put(f"/resource_providers/{ID['host1']}", {"name": "h", "parent_provider_uuid": ID["nic2"]}, 400)
    await admin.delete(f"/resource_providers/{ID['numa2']}", 409)
    await admin.delete(path)
    assert await ways(admin, "resources=SRIOV_NET_VF:1") == {("nic2",)}
