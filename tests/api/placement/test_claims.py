"""The books under claims: capacity, constraints, generations, and many at once."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.world import LiveWorld
from kilonova.http.app import App
from kilonova.placement.contract import Inventory
from tests.api.placement.doors import HOST, OTHER_HOST, OTHER_SERVER, SERVER, placement_client
from tests.api.support import OTHER_PROJECT, PROJECT, ApiClient


def body(resources: dict[str, int], generation: int | None = None, host: str = HOST, **more: Any) -> dict[str, Any]:
    return {
        "allocations": {host: {"resources": resources}} if resources else {},
        "project_id": PROJECT,
        "user_id": "user-member",
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
        **more,
    }


@pytest.fixture(autouse=True)
async def two_hosts(admin: ApiClient) -> None:
    for id_, name in ((HOST, "node1"), (OTHER_HOST, "node2")):
        await admin.post("/resource_providers", {"uuid": id_, "name": name}, 200)
        inventories = {"VCPU": {"total": 4, "allocation_ratio": 2.0}, "MEMORY_MB": {"total": 4096, "reserved": 1024}}
        wanted = {"resource_provider_generation": 0, "inventories": inventories}
        await admin.put(f"/resource_providers/{id_}/inventories", wanted)


async def test_a_claim_is_seen_from_all_sides(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 2, "MEMORY_MB": 512}), 204)
    assert await admin.get(f"/allocations/{SERVER}") == {
        "allocations": {HOST: {"generation": 2, "resources": {"VCPU": 2, "MEMORY_MB": 512}}},
        "project_id": PROJECT,
        "user_id": "user-member",
        "consumer_generation": 1,
        "consumer_type": "INSTANCE",
    }
    held = await admin.get(f"/resource_providers/{HOST}/allocations")
    assert held["allocations"][SERVER] == {"resources": {"VCPU": 2, "MEMORY_MB": 512}, "consumer_generation": 1}
    usages = await admin.get(f"/resource_providers/{HOST}/usages")
    assert usages == {"resource_provider_generation": 2, "usages": {"MEMORY_MB": 512, "VCPU": 2}}
    mine = await admin.get(f"/usages?project_id={PROJECT}")
    assert mine == {"usages": {"INSTANCE": {"consumer_count": 1, "VCPU": 2, "MEMORY_MB": 512}}}
    assert await admin.at("placement 1.9").get(f"/usages?project_id={PROJECT}") == {
        "usages": {"VCPU": 2, "MEMORY_MB": 512}
    }
    await admin.delete(f"/allocations/{SERVER}")
    assert await admin.get(f"/allocations/{SERVER}") == {"allocations": {}}
    assert (await admin.get(f"/resource_providers/{HOST}/usages"))["usages"] == {"MEMORY_MB": 0, "VCPU": 0}
    await admin.delete(f"/allocations/{SERVER}", 404)


async def test_a_claim_that_does_not_fit_changes_nothing(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 8, "MEMORY_MB": 3000}), 204)
    refused = await admin.put(f"/allocations/{OTHER_SERVER}", body({"MEMORY_MB": 73}), 409)
    assert refused["errors"][0]["code"] == "placement.undefined_code"
    assert "exceed the capacity" in refused["errors"][0]["detail"]
    assert await admin.get(f"/allocations/{OTHER_SERVER}") == {"allocations": {}}
    await admin.put(f"/allocations/{OTHER_SERVER}", body({"MEMORY_MB": 72}), 204)
    refused = await admin.put(f"/allocations/{SERVER}", body({"DISK_GB": 1}, 1), 409)
    assert "Inventory for 'DISK_GB'" in refused["errors"][0]["detail"]
    assert (await admin.get(f"/allocations/{SERVER}"))["allocations"][HOST]["resources"]["VCPU"] == 8


async def test_generations_say_who_came_late(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 1}), 204)
    for stale in (None, 0, 7):
        refused = await admin.put(f"/allocations/{SERVER}", body({"VCPU": 2}, stale), 409)
        assert refused["errors"][0]["code"] == "placement.concurrent_update"
    refused = await admin.put(f"/allocations/{OTHER_SERVER}", body({"VCPU": 2}, 3), 409)
    assert refused["errors"][0]["code"] == "placement.concurrent_update"
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 2}, 1), 204)
    await admin.put(f"/allocations/{SERVER}", body({}, 2), 204)
    assert await admin.get(f"/allocations/{SERVER}") == {"allocations": {}}


async def test_a_move_hands_over_in_one_request(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 8}), 204)
    move = {SERVER: body({"VCPU": 8}, 1, OTHER_HOST), OTHER_SERVER: body({"VCPU": 8}, consumer_type="MIGRATION")}
    await admin.post("/allocations", move, 204)
    for server, host in ((SERVER, OTHER_HOST), (OTHER_SERVER, HOST)):
        assert list((await admin.get(f"/allocations/{server}"))["allocations"]) == [host]
    too_much = {SERVER: body({}, 2), OTHER_SERVER: body({"VCPU": 9}, 1)}
    await admin.post("/allocations", too_much, 409)
    assert list((await admin.get(f"/allocations/{SERVER}"))["allocations"]) == [OTHER_HOST], "all or nothing"


async def test_inventories_in_use_stay(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 1}), 204)
    path = f"/resource_providers/{HOST}"
    wanted = {"resource_provider_generation": 2, "inventories": {"MEMORY_MB": {"total": 1}}}
    refused = await admin.put(f"{path}/inventories", wanted, 409)
    assert refused["errors"][0]["code"] == "placement.inventory.inuse"
    assert (await admin.delete(f"{path}/inventories/VCPU", 409))["errors"][0]["code"] == "placement.inventory.inuse"
    assert (await admin.delete(path, 409))["errors"][0]["code"] == "placement.resource_provider.inuse"
    await admin.delete(f"{path}/inventories/MEMORY_MB")
    await admin.delete(f"/allocations/{SERVER}")
    await admin.delete(path)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"allocations": {"x": {"resources": {"VCPU": 1}}}}, 400),
        ({"allocations": {HOST: {"resources": {"VCPU": 0}}}}, 400),
        ({"allocations": {HOST: {"resources": {"VCPU": 1.5}}}}, 400),
        ({"allocations": {HOST: {"resources": {"vcpu": 1}}}}, 400),
        ({"allocations": {HOST: {"resources": {"CUSTOM_NOT_THERE": 1}}}}, 400),
        ({"allocations": {HOST: {"resources": {}}}}, 400),
        ({"allocations": {SERVER: {"resources": {"VCPU": 1}}}}, 400),
        ({"project_id": ""}, 400),
        ({"extra": 1}, 400),
        ({"consumer_type": "lower"}, 400),
        ({"allocations": {HOST: {"resources": {"VCPU": 9}}}}, 409),
    ],
)
async def test_bad_claims_are_refused(admin: ApiClient, change: dict[str, Any], status: int) -> None:
    await admin.put(f"/allocations/{SERVER}", {**body({"VCPU": 1}), **change}, status)
    assert await admin.get(f"/allocations/{SERVER}") == {"allocations": {}}


async def test_older_versions_speak_their_own_forms(admin: ApiClient) -> None:
    listed = {"allocations": [{"resource_provider": {"uuid": HOST}, "resources": {"VCPU": 1}}]}
    await admin.at("placement 1.7").put(f"/allocations/{SERVER}", listed, 204)
    await admin.at("placement 1.8").put(f"/allocations/{SERVER}", listed, 400)
    owned = {**listed, "project_id": PROJECT, "user_id": "u"}
    await admin.at("placement 1.7").put(f"/allocations/{SERVER}", owned, 400)
    await admin.at("placement 1.11").put(f"/allocations/{SERVER}", owned, 204)
    await admin.at("placement 1.12").put(f"/allocations/{SERVER}", owned, 400)
    shown = await admin.at("placement 1.12").get(f"/allocations/{SERVER}")
    assert shown.keys() == {"allocations", "project_id", "user_id"}
    with_generation = {k: v for k, v in body({"VCPU": 1}, 2).items() if k != "consumer_type"}
    await admin.at("placement 1.27").put(f"/allocations/{SERVER}", with_generation, 400)
    await admin.at("placement 1.28").put(f"/allocations/{SERVER}", with_generation, 204)
    await admin.at("placement 1.38").put(f"/allocations/{SERVER}", with_generation, 400)


async def test_tenants_read_their_own_usage_only(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", body({"VCPU": 1}), 204)
    reader = admin.as_("reader")
    assert (await reader.get(f"/usages?project_id={PROJECT}"))["usages"]["INSTANCE"]["VCPU"] == 1
    await reader.get(f"/usages?project_id={OTHER_PROJECT}", 403)
    await admin.as_("member").put(f"/allocations/{SERVER}", body({"VCPU": 1}, 1), 403)
    await admin.as_("").get(f"/allocations/{SERVER}", 401)


async def test_the_client_claims_and_releases(app: App, world: LiveWorld, admin: ApiClient) -> None:
    placement = placement_client(app, world)
    gpu = {"CUSTOM_NOT_YET"}
    await placement.ensure_provider(HOST, "node1", {"VCPU": Inventory(2)}, ["COMPUTE_NODE", *gpu])
    before = (await admin.get(f"/resource_providers/{HOST}"))["generation"]
    await placement.ensure_provider(HOST, "node1", {"VCPU": Inventory(2)}, ["COMPUTE_NODE", *gpu])
    assert (await admin.get(f"/resource_providers/{HOST}"))["generation"] == before, "a repeat writes nothing"
    for _ in range(2):
        assert await placement.claim(SERVER, HOST, {"VCPU": 2, "DISK_GB": 0}, PROJECT, "user")
    assert not await placement.claim(OTHER_SERVER, HOST, {"VCPU": 1}, PROJECT, "user")
    assert await placement.allocations(SERVER) == {HOST: {"VCPU": 2}}
    assert await placement.consumers_on(HOST) == [SERVER]
    assert (await placement.candidates({"VCPU": 1}, [], [])).fits[0].id == OTHER_HOST
    await placement.release(SERVER)
    await placement.release(SERVER)
    found = await placement.candidates({"VCPU": 2}, ["COMPUTE_NODE"], ["HW_CPU_X86_VMX"])
    assert [(p.id, p.capacity, p.used) for p in found.fits] == [(HOST, {"VCPU": 2}, {"VCPU": 0})]
    assert {p.name for p in await placement.providers()} == {"node1", "node2"}
