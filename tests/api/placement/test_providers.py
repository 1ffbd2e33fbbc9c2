"""Providers, inventories, traits and classes: what clients see, per version, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.placement.doors import HOST, OTHER_HOST
from tests.api.support import ApiClient

ONE = f"/resource_providers/{HOST}"
CHILD = "7d2590ae-fb85-4080-9306-058b4c915e3f"


def code(refusal: Any) -> str:
    return str(refusal["errors"][0]["code"])


async def made(admin: ApiClient, id_: str = HOST, name: str = "node1", **more: Any) -> Any:
    return await admin.post("/resource_providers", {"uuid": id_, "name": name, **more}, 200)


async def test_discovery_needs_no_token(admin: ApiClient) -> None:
    (version,) = (await admin.as_("").get("/"))["versions"]
    assert (version["id"], version["min_version"], version["max_version"]) == ("v1.0", "1.0", "1.39")


@pytest.mark.parametrize(("asked", "got"), [("placement latest", "1.39"), ("placement 1.5", "1.5"), ("", "1.0")])
async def test_versions_are_negotiated(admin: ApiClient, asked: str, got: str) -> None:
    reply = await admin.at(asked).send("GET", "/resource_providers")
    assert reply.headers["openstack-api-version"] == f"placement {got}"
    refused = await admin.at("placement 1.40").send("GET", "/resource_providers")
    assert refused.status == 406


async def test_a_provider_is_made_shown_renamed_and_deleted(admin: ApiClient) -> None:
    shown = await made(admin)
    assert await admin.get(ONE) == shown
    assert shown["generation"] == 0
    assert (shown["parent_provider_uuid"], shown["root_provider_uuid"]) == (None, HOST)
    assert [link["rel"] for link in shown["links"]] == [
        "self", "aggregates", "inventories", "usages", "traits", "allocations",
    ]  # fmt: skip
    assert (await admin.put(ONE, {"name": "renamed"}))["name"] == "renamed"
    assert [p["name"] for p in (await admin.get("/resource_providers?name=renamed"))["resource_providers"]] == [
        "renamed"
    ]
    await admin.delete(ONE)
    await admin.get(ONE, 404)
    await admin.delete(ONE, 404)


async def test_before_1_20_creating_answers_201_without_a_body(admin: ApiClient) -> None:
    reply = await admin.at("placement 1.13").send("POST", "/resource_providers", {"name": "old"})
    assert (reply.status, reply.content) == (201, b"")
    path = "/resource_providers/" + reply.headers["location"].rsplit("/", 1)[1]
    shown = await admin.at("placement 1.0").get(path)
    assert shown.keys() == {"uuid", "name", "generation", "links"}
    assert [link["rel"] for link in shown["links"]] == ["self", "inventories", "usages"]


async def test_names_and_ids_are_taken_once(admin: ApiClient) -> None:
    await made(admin)
    assert code(await admin.post("/resource_providers", {"name": "node1"}, 409)) == "placement.duplicate_name"
    same_id = {"name": "x", "uuid": HOST.upper()}
    assert code(await admin.post("/resource_providers", same_id, 409)) == "placement.duplicate_name"
    await made(admin, OTHER_HOST, "node2")
    refused = await admin.put(f"/resource_providers/{OTHER_HOST}", {"name": "node1"}, 409)
    assert code(refused) == "placement.duplicate_name"


@pytest.mark.parametrize(
    "body",
    [{}, {"name": 1}, {"name": ""}, {"name": "x" * 201}, {"name": "x", "uuid": "x"}, {"name": "x", "more": 1}, []],
)
async def test_bad_providers_are_refused(admin: ApiClient, body: Any) -> None:
    await admin.post("/resource_providers", body, 400)
    assert (await admin.get("/resource_providers"))["resource_providers"] == []


async def test_trees_hold_together(admin: ApiClient) -> None:
    await made(admin)
    assert (await made(admin, CHILD, "child", parent_provider_uuid=HOST))["root_provider_uuid"] == HOST
    refused = await admin.delete(ONE, 409)
    assert code(refused) == "placement.resource_provider.cannot_delete_parent"
    tree = await admin.get(f"/resource_providers?in_tree={CHILD}")
    assert {p["uuid"] for p in tree["resource_providers"]} == {HOST, CHILD}
    await admin.put(ONE, {"name": "node1", "parent_provider_uuid": CHILD}, 400)
    child = f"/resource_providers/{CHILD}"
    await admin.at("placement 1.36").put(child, {"name": "child", "parent_provider_uuid": None}, 400)
    freed = await admin.put(child, {"name": "child", "parent_provider_uuid": None})
    assert freed["root_provider_uuid"] == CHILD
    await admin.post("/resource_providers", {"name": "x", "parent_provider_uuid": OTHER_HOST}, 400)
    await admin.at("placement 1.13").post("/resource_providers", {"name": "x", "parent_provider_uuid": HOST}, 400)


async def test_inventories_are_replaced_at_a_generation(admin: ApiClient) -> None:
    await made(admin)
    wanted = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4}, "DISK_GB": {"total": 10}}}
    shown = await admin.put(f"{ONE}/inventories", wanted)
    assert shown["resource_provider_generation"] == 1
    assert shown["inventories"]["VCPU"] == {
        "total": 4, "reserved": 0, "min_unit": 1, "max_unit": 2147483647, "step_size": 1, "allocation_ratio": 1.0,
    }  # fmt: skip
    assert code(await admin.put(f"{ONE}/inventories", wanted, 409)) == "placement.concurrent_update"
    one = await admin.put(f"{ONE}/inventories/VCPU", {"total": 8, "resource_provider_generation": 1})
    assert (one["total"], one["resource_provider_generation"]) == (8, 2)
    await admin.put(f"{ONE}/inventories/VGPU", {"total": 8, "resource_provider_generation": 2}, 400)
    added = await admin.post(f"{ONE}/inventories", {"resource_class": "VGPU", "total": 1}, 201)
    assert added["resource_provider_generation"] == 3
    await admin.post(f"{ONE}/inventories", {"resource_class": "VGPU", "total": 1}, 409)
    await admin.delete(f"{ONE}/inventories/VGPU")
    await admin.get(f"{ONE}/inventories/VGPU", 404)
    await admin.delete(f"{ONE}/inventories/VGPU", 404)
    await admin.at("placement 1.4").delete(f"{ONE}/inventories", 405)
    await admin.delete(f"{ONE}/inventories")
    assert (await admin.get(f"{ONE}/inventories"))["inventories"] == {}


@pytest.mark.parametrize(
    "inventory",
    [
        {"total": 0},
        {"total": -1},
        {"total": 1.5},
        {"total": True},
        {"total": 2147483648},
        {"total": 4, "reserved": 5},
        {"total": 4, "step_size": 0},
        {"total": 4, "allocation_ratio": "x"},
        {"total": 4, "unknown": 1},
        {},
    ],
)
async def test_bad_inventories_are_refused(admin: ApiClient, inventory: Any) -> None:
    await made(admin)
    body = {"resource_provider_generation": 0, "inventories": {"VCPU": inventory}}
    await admin.put(f"{ONE}/inventories", body, 400)
    assert (await admin.get(ONE))["generation"] == 0


async def test_all_may_be_reserved_since_1_26(admin: ApiClient) -> None:
    await made(admin)
    body = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4, "reserved": 4}}}
    await admin.at("placement 1.25").put(f"{ONE}/inventories", body, 400)
    await admin.put(f"{ONE}/inventories", body)


async def test_traits_of_a_provider(admin: ApiClient) -> None:
    await made(admin)
    wanted = {"resource_provider_generation": 0, "traits": ["HW_CPU_X86_VMX", "CUSTOM_FAST"]}
    assert "CUSTOM_FAST" in (await admin.put(f"{ONE}/traits", wanted, 400))["errors"][0]["detail"]
    assert (await admin.send("PUT", "/traits/CUSTOM_FAST")).status == 201
    assert (await admin.send("PUT", "/traits/CUSTOM_FAST")).status == 204
    assert await admin.put(f"{ONE}/traits", wanted) == {
        "resource_provider_generation": 1,
        "traits": ["CUSTOM_FAST", "HW_CPU_X86_VMX"],
    }
    assert code(await admin.put(f"{ONE}/traits", wanted, 409)) == "placement.concurrent_update"
    assert (await admin.get("/traits?associated=true"))["traits"] == ["CUSTOM_FAST", "HW_CPU_X86_VMX"]
    assert (await admin.get("/traits?name=startswith:CUSTOM_"))["traits"] == ["CUSTOM_FAST"]
    assert (await admin.get("/traits?name=in:CUSTOM_FAST,COMPUTE_NODE,NONE"))["traits"] == [
        "COMPUTE_NODE",
        "CUSTOM_FAST",
    ]
    await admin.delete("/traits/CUSTOM_FAST", 409)
    await admin.delete(f"{ONE}/traits")
    await admin.delete("/traits/CUSTOM_FAST")
    await admin.get("/traits/CUSTOM_FAST", 404)
    await admin.get("/traits/HW_CPU_X86_VMX", 204)
    await admin.delete("/traits/HW_CPU_X86_VMX", 400)
    await admin.put("/traits/HW_MINE", None, 400)
    await admin.get("/traits?name=HW", 400)
    await admin.at("placement 1.5").get("/traits", 404)


async def test_resource_classes(admin: ApiClient) -> None:
    await admin.post("/resource_classes", {"name": "CUSTOM_FPGA"}, 201)
    await admin.post("/resource_classes", {"name": "CUSTOM_FPGA"}, 409)
    await admin.post("/resource_classes", {"name": "FPGA_2"}, 400)
    assert (await admin.send("PUT", "/resource_classes/CUSTOM_FPGA")).status == 204
    assert (await admin.send("PUT", "/resource_classes/CUSTOM_OTHER")).status == 201
    names = [shown["name"] for shown in (await admin.get("/resource_classes"))["resource_classes"]]
    assert names[:3] == ["VCPU", "MEMORY_MB", "DISK_GB"]
    assert names[-2:] == ["CUSTOM_FPGA", "CUSTOM_OTHER"]
    await made(admin)
    body = {"resource_class": "CUSTOM_FPGA", "total": 1}
    await admin.post(f"{ONE}/inventories", body, 201)
    await admin.delete("/resource_classes/CUSTOM_FPGA", 409)
    await admin.delete("/resource_classes/VCPU", 400)
    await admin.delete("/resource_classes/CUSTOM_OTHER")
    await admin.get("/resource_classes/CUSTOM_OTHER", 404)


async def test_only_administrators_and_services_look_in(admin: ApiClient) -> None:
    await made(admin)
    for path in ("/resource_providers", ONE, f"{ONE}/inventories", "/traits", "/resource_classes", f"{ONE}/usages"):
        await admin.as_("service").get(path)
        await admin.as_("member").get(path, 403)
        await admin.as_("").get(path, 401)
