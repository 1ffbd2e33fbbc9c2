"""The reshaper: inventories and what is held of them move to a child, and back, in one request each."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.placement.doors import HOST, OTHER_HOST, OTHER_SERVER, SERVER
from tests.api.support import PROJECT, ApiClient

CHILD = OTHER_HOST


def held(allocations: dict[str, dict[str, int]], generation: int | None) -> dict[str, Any]:
    return {
        "allocations": {id_: {"resources": resources} for id_, resources in allocations.items()},
        "project_id": PROJECT,
        "user_id": "u",
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
    }


@pytest.fixture(autouse=True)
async def a_host_in_use(admin: ApiClient) -> None:
    await admin.post("/resource_providers", {"uuid": HOST, "name": "host"}, 200)
    await admin.post("/resource_providers", {"uuid": CHILD, "name": "numa", "parent_provider_uuid": HOST}, 200)
    inventories = {"VCPU": {"total": 8}, "DISK_GB": {"total": 100}}
    path = f"/resource_providers/{HOST}/inventories"
    await admin.put(path, {"resource_provider_generation": 0, "inventories": inventories})
    await admin.put(f"/allocations/{SERVER}", held({HOST: {"VCPU": 4, "DISK_GB": 10}}, None), 204)
    await admin.put(f"/allocations/{OTHER_SERVER}", held({HOST: {"VCPU": 4}}, None), 204)


async def moving(admin: ApiClient, **changed: Any) -> dict[str, Any]:
    """A request that moves the VCPUs to the child."""
    generations = [(await admin.get(f"/resource_providers/{id_}"))["generation"] for id_ in (HOST, CHILD)]
    inventories = {
        HOST: {"resource_provider_generation": generations[0], "inventories": {"DISK_GB": {"total": 100}}},
        CHILD: {"resource_provider_generation": generations[1], "inventories": {"VCPU": {"total": 8}}},
    }
    allocations = {
        SERVER: held({HOST: {"DISK_GB": 10}, CHILD: {"VCPU": 4}}, 1),
        OTHER_SERVER: held({CHILD: {"VCPU": 4}}, 1),
    }
    return {"inventories": inventories, "allocations": allocations} | changed


async def usages(admin: ApiClient) -> list[dict[str, int]]:
    return [(await admin.get(f"/resource_providers/{id_}/usages"))["usages"] for id_ in (HOST, CHILD)]


async def test_what_is_held_moves_with_its_inventory(admin: ApiClient) -> None:
    await admin.post("/reshaper", await moving(admin), 204)
    assert await usages(admin) == [{"DISK_GB": 10}, {"VCPU": 8}]
    shown = await admin.get(f"/allocations/{SERVER}")
    assert {id_: part["resources"] for id_, part in shown["allocations"].items()} == {
        HOST: {"DISK_GB": 10},
        CHILD: {"VCPU": 4},
    }
    full = await admin.get("/allocation_candidates?resources=VCPU:1")
    assert full["allocation_requests"] == [], "the search knows at once"


async def test_it_happens_whole_or_not_at_all(admin: ApiClient) -> None:
    before = await usages(admin)
    left = {SERVER: held({HOST: {"DISK_GB": 10}, CHILD: {"VCPU": 4}}, 1)}
    refused = await admin.post("/reshaper", await moving(admin, allocations=left), 409)
    assert refused["errors"][0]["code"] == "placement.inventory.inuse", "somebody still holds what would go"
    too_much = {**left, OTHER_SERVER: held({CHILD: {"VCPU": 5}}, 1)}
    assert (
        "exceed"
        in (await admin.post("/reshaper", await moving(admin, allocations=too_much), 409))["errors"][0]["detail"]
    )
    assert await usages(admin) == before


async def test_whoever_came_late_is_told(admin: ApiClient) -> None:
    body = await moving(admin)
    await admin.put(f"/allocations/{OTHER_SERVER}", held({HOST: {"VCPU": 4}}, 1), 204)
    refused = await admin.post("/reshaper", body, 409)
    assert refused["errors"][0]["code"] == "placement.concurrent_update", "the provider's generation"
    refused = await admin.post("/reshaper", await moving(admin), 409)
    assert refused["errors"][0]["code"] == "placement.concurrent_update", "the consumer's generation"


async def test_bad_shapes_are_refused(admin: ApiClient) -> None:
    nobody = "11111111-0000-4000-8000-000000000000"
    strange = {nobody: {"resource_provider_generation": 0, "inventories": {}}}
    refused = await admin.post("/reshaper", await moving(admin, inventories=strange), 400)
    assert refused["errors"][0]["code"] == "placement.resource_provider.not_found"
    for wrong in ({"inventories": {}}, {"inventories": {HOST: {}}}, {"allocations": {"x": {}}}, {"more": 1}):
        await admin.post("/reshaper", await moving(admin, **wrong), 400)
    await admin.as_("member").post("/reshaper", await moving(admin), 403)
