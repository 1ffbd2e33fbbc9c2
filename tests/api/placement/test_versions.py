"""Where each microversion begins: which routes exist, and what bodies and answers hold before and from it on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.placement.doors import HOST, OTHER_HOST, OTHER_SERVER, SERVER
from tests.api.support import PROJECT, ApiClient

ONE = f"/resource_providers/{HOST}"
FREE = {"name": "free", "uuid": OTHER_HOST}


@pytest.fixture(autouse=True)
async def a_host(admin: ApiClient) -> None:
    await admin.post("/resource_providers", {"uuid": HOST, "name": "node1"}, 200)
    inventories = {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096}}
    await admin.put(f"{ONE}/inventories", {"resource_provider_generation": 0, "inventories": inventories})


@pytest.mark.parametrize(
    ("method", "path", "body", "first", "status", "before"),
    [
        ("GET", f"{ONE}/aggregates", None, 1, 200, 404),
        ("PUT", f"{ONE}/aggregates", [], 1, 200, 404),
        ("GET", "/resource_classes", None, 2, 200, 404),
        ("POST", "/resource_classes", {"name": "CUSTOM_GOLD"}, 2, 201, 404),
        ("PUT", "/resource_classes/CUSTOM_GOLD", None, 7, 201, 415),
        ("GET", "/resource_providers?member_of=" + HOST, None, 3, 200, 400),
        ("GET", "/resource_providers?resources=VCPU:1", None, 4, 200, 400),
        ("DELETE", f"{ONE}/inventories", None, 5, 204, 405),
        ("GET", "/traits", None, 6, 200, 404),
        ("PUT", "/traits/CUSTOM_X", None, 6, 201, 404),
        ("GET", f"{ONE}/traits", None, 6, 200, 404),
        ("GET", f"/usages?project_id={PROJECT}", None, 9, 200, 404),
        ("GET", "/allocation_candidates?resources=VCPU:1", None, 10, 200, 404),
        ("POST", "/allocations", {}, 13, 400, 404),
        ("GET", f"/resource_providers?in_tree={HOST}", None, 14, 200, 400),
        ("POST", "/resource_providers", {**FREE, "parent_provider_uuid": HOST}, 14, 201, 400),
        ("GET", "/resource_providers?required=COMPUTE_NODE", None, 18, 200, 400),
        ("GET", "/resource_providers?required=!COMPUTE_NODE", None, 22, 200, 400),
        ("GET", f"/resource_providers?member_of={HOST}&member_of={HOST}", None, 24, 200, 400),
        ("POST", "/reshaper", {"inventories": {}, "allocations": {}}, 30, 400, 404),
        ("GET", f"/resource_providers?member_of=!{HOST}", None, 32, 200, 400),
        ("GET", f"/usages?project_id={PROJECT}&consumer_type=INSTANCE", None, 38, 200, 400),
        ("GET", "/resource_providers?required=in:COMPUTE_NODE,STORAGE_DISK_SSD", None, 39, 200, 400),
    ],
)
async def test_where_a_route_or_parameter_begins(
    admin: ApiClient, method: str, path: str, body: Any, first: int, status: int, before: int
) -> None:
    for version, expected in ((first - 1, before), (first, status)):
        reply = await admin.at(f"placement 1.{version}").send(method, path, body)
        assert reply.status == expected, (version, reply.content[:300])


async def test_a_class_was_renamed_with_put_before_1_7(admin: ApiClient) -> None:
    await admin.post("/resource_classes", {"name": "CUSTOM_OLD"}, 201)
    await admin.post("/resource_classes", {"name": "CUSTOM_TAKEN"}, 201)
    await admin.post(f"{ONE}/inventories", {"resource_class": "CUSTOM_OLD", "total": 3}, 201)
    old = admin.at("placement 1.6")
    shown = await old.put("/resource_classes/CUSTOM_OLD", {"name": "CUSTOM_NEW"})
    assert shown["name"] == "CUSTOM_NEW" and shown["links"][0]["href"].endswith("/resource_classes/CUSTOM_NEW")
    assert (await admin.get(f"{ONE}/inventories"))["inventories"]["CUSTOM_NEW"]["total"] == 3
    assert (await admin.get("/allocation_candidates?resources=CUSTOM_NEW:3"))["allocation_requests"]
    await old.put("/resource_classes/CUSTOM_OLD", {"name": "CUSTOM_OTHER"}, 404)
    await old.put("/resource_classes/CUSTOM_NEW", {"name": "CUSTOM_TAKEN"}, 409)
    await old.put("/resource_classes/VCPU", {"name": "CUSTOM_CPU"}, 400)
    await old.put("/resource_classes/CUSTOM_NEW", {"name": "VCPU"}, 400)


def claim(version: int, **more: Any) -> dict[str, Any]:
    """A body of PUT /allocations/{consumer} as `version` has it."""
    resources = {"VCPU": 1}
    body: dict[str, Any] = {"allocations": {HOST: {"resources": resources}}}
    if version < 12:
        body = {"allocations": [{"resource_provider": {"uuid": HOST}, "resources": resources}]}
    if version >= 8:
        body |= {"project_id": PROJECT, "user_id": "u"}
    if version >= 28:
        body["consumer_generation"] = None
    if version >= 38:
        body["consumer_type"] = "INSTANCE"
    return body | more


@pytest.mark.parametrize("version", [0, 7, 8, 11, 12, 27, 28, 33, 34, 37, 38, 39])
async def test_a_claim_in_the_form_of_each_version(admin: ApiClient, version: int) -> None:
    door, path = admin.at(f"placement 1.{version}"), f"/allocations/{SERVER}"
    await door.put(path, claim(version), 204)
    shown = await door.get(path)
    assert shown["allocations"] == {HOST: {"generation": 2, "resources": {"VCPU": 1}}}
    assert ("project_id" in shown) == (version >= 12)
    assert shown.get("consumer_generation") == (1 if version >= 28 else None)
    assert shown.get("consumer_type") == ("INSTANCE" if version >= 38 else None)
    held = (await door.get(f"{ONE}/allocations"))["allocations"][SERVER]
    assert ("consumer_generation" in held) == (version >= 28)
    used = await admin.at("placement 1.9").get(f"/usages?project_id={PROJECT}")
    assert used == {"usages": {"VCPU": 1} if version >= 8 else {}}
    typed = await admin.get(f"/usages?project_id={PROJECT}&consumer_type=unknown")
    assert typed["usages"] == ({"unknown": {"consumer_count": 1, "VCPU": 1}} if 8 <= version < 38 else {})


@pytest.mark.parametrize(
    ("version", "wrong"),
    [
        (7, {"project_id": "p", "user_id": "u"}),
        (8, {"project_id": ""}),
        (12, {"allocations": {}}),
        (12, {"allocations": []}),
        (12, {"allocations": {HOST: {"resources": {}}}}),
        (12, {"allocations": {"x": {"resources": {"VCPU": 1}}}}),
        (27, {"consumer_generation": 1}),
        (33, {"mappings": {"": [HOST]}}),
        (34, {"mappings": {}}),
        (34, {"mappings": {"": "x"}}),
        (37, {"consumer_type": "INSTANCE"}),
        (38, {"consumer_type": "instance"}),
        (39, {"unknown": 1}),
    ],
)
async def test_what_a_claim_may_not_hold(admin: ApiClient, version: int, wrong: dict[str, Any]) -> None:
    await admin.at(f"placement 1.{version}").put(f"/allocations/{SERVER}", claim(version, **wrong), 400)
    assert await admin.get(f"/allocations/{SERVER}") == {"allocations": {}}


@pytest.mark.parametrize(("version", "missing"), [(8, "user_id"), (28, "consumer_generation"), (38, "consumer_type")])
async def test_what_a_claim_must_hold(admin: ApiClient, version: int, missing: str) -> None:
    body = claim(version)
    del body[missing]
    await admin.at(f"placement 1.{version}").put(f"/allocations/{SERVER}", body, 400)


async def test_a_claim_may_give_all_back_since_1_28(admin: ApiClient) -> None:
    await admin.put(f"/allocations/{SERVER}", claim(39), 204)
    await admin.at("placement 1.27").put(f"/allocations/{SERVER}", claim(27, allocations={}), 400)
    await admin.put(f"/allocations/{SERVER}", claim(39, allocations={}, consumer_generation=1), 204)
    await admin.at("placement 1.13").post("/allocations", {OTHER_SERVER: claim(13, allocations={})}, 204)


async def test_answers_say_when_they_changed_since_1_15(admin: ApiClient) -> None:
    for path in (
        "/",
        "/resource_providers",
        ONE,
        f"{ONE}/inventories",
        f"{ONE}/usages",
        "/traits",
        "/resource_classes",
    ):
        old = await admin.at("placement 1.14").send("GET", path)
        new = await admin.at("placement 1.15").send("GET", path)
        assert "last-modified" not in old.headers and "cache-control" not in old.headers
        assert new.headers["cache-control"] == "no-cache" and new.headers["last-modified"].endswith("GMT")


async def test_json_in_and_out_only(admin: ApiClient) -> None:
    assert (await admin.send("POST", "/resource_providers", FREE, content_type="text/plain")).status == 415
    assert (await admin.send("GET", "/resource_providers", accept="text/html")).status == 406
    assert (await admin.send("GET", "/resource_providers", accept="text/html, */*;q=0.1")).status == 200
