"""What each answer holds at each microversion: the keys of every documented resource, and what every refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.placement.doors import HOST, OTHER_HOST, OTHER_SERVER, SERVER
from tests.api.support import PROJECT, ApiClient

ONE = f"/resource_providers/{HOST}"
RACK = "f0000000-0000-4000-8000-000000000000"
GONE = "99999999-0000-4000-8000-000000000000"
LATEST = 39


@pytest.fixture(autouse=True)
async def stocked(admin: ApiClient) -> None:
    """A host with a child, a trait, an aggregate, and a server that holds something of it."""
    await admin.post("/resource_providers", {"uuid": HOST, "name": "node1"}, 200)
    child = {"uuid": OTHER_HOST, "name": "numa0", "parent_provider_uuid": HOST}
    await admin.post("/resource_providers", child, 200)
    inventories = {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096}}
    await admin.put(f"{ONE}/inventories", {"resource_provider_generation": 0, "inventories": inventories})
    await admin.put(f"{ONE}/traits", {"resource_provider_generation": 1, "traits": ["HW_CPU_X86_AVX2"]})
    await admin.put(f"{ONE}/aggregates", {"resource_provider_generation": 2, "aggregates": [RACK]})
    claim = {"allocations": {HOST: {"resources": {"VCPU": 2, "MEMORY_MB": 512}}}, "project_id": PROJECT, "user_id": "u"}
    await admin.put(f"/allocations/{SERVER}", {**claim, "consumer_generation": None, "consumer_type": "INSTANCE"}, 204)


def keys(value: Any, path: str) -> set[str]:
    """The keys below a dotted path; `*` is whatever comes first."""
    for part in filter(None, path.split(".")):
        first = part == "*"
        value = value[part] if not first else value[0] if isinstance(value, list) else next(iter(value.values()))
    return set(value)


PROVIDER = {"uuid", "name", "generation", "links"}
TREE = {"parent_provider_uuid", "root_provider_uuid"}
INVENTORY = {"total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio"}
ROOM = "/allocation_candidates?resources=VCPU:1"


@pytest.mark.parametrize(
    ("path", "below", "first", "last", "expected"),
    [
        ("/", "versions.*", 0, LATEST, {"id", "min_version", "max_version", "status", "links"}),
        ("/resource_providers", "", 0, LATEST, {"resource_providers"}),
        (ONE, "", 0, 13, PROVIDER),
        (ONE, "", 14, LATEST, PROVIDER | TREE),
        ("/resource_providers?name=node1", "resource_providers.*", 0, 13, PROVIDER),
        ("/resource_providers?name=node1", "resource_providers.*", 14, LATEST, PROVIDER | TREE),
        (f"{ONE}/inventories", "", 0, LATEST, {"inventories", "resource_provider_generation"}),
        (f"{ONE}/inventories", "inventories.VCPU", 0, LATEST, INVENTORY),
        (f"{ONE}/inventories/VCPU", "", 0, LATEST, INVENTORY | {"resource_provider_generation"}),
        (f"{ONE}/usages", "", 0, LATEST, {"usages", "resource_provider_generation"}),
        (f"{ONE}/usages", "usages", 0, LATEST, {"VCPU", "MEMORY_MB"}),
        (f"{ONE}/aggregates", "", 1, 18, {"aggregates"}),
        (f"{ONE}/aggregates", "", 19, LATEST, {"aggregates", "resource_provider_generation"}),
        (f"{ONE}/traits", "", 6, LATEST, {"traits", "resource_provider_generation"}),
        (f"{ONE}/allocations", "", 0, LATEST, {"allocations", "resource_provider_generation"}),
        (f"{ONE}/allocations", "allocations.*", 0, 27, {"resources"}),
        (f"{ONE}/allocations", "allocations.*", 28, LATEST, {"resources", "consumer_generation"}),
        (f"/allocations/{SERVER}", "", 0, 11, {"allocations"}),
        (f"/allocations/{SERVER}", "", 12, 27, {"allocations", "project_id", "user_id"}),
        (f"/allocations/{SERVER}", "", 28, 37, {"allocations", "project_id", "user_id", "consumer_generation"}),
        (f"/allocations/{SERVER}", "", 38, LATEST,
         {"allocations", "project_id", "user_id", "consumer_generation", "consumer_type"}),
        (f"/allocations/{SERVER}", "allocations.*", 0, LATEST, {"resources", "generation"}),
        (f"/allocations/{GONE}", "", 0, LATEST, {"allocations"}),
        ("/resource_classes", "resource_classes.*", 2, LATEST, {"name", "links"}),
        ("/resource_classes/VCPU", "", 2, LATEST, {"name", "links"}),
        ("/traits", "", 6, LATEST, {"traits"}),
        (f"/usages?project_id={PROJECT}", "usages", 9, 37, {"VCPU", "MEMORY_MB"}),
        (f"/usages?project_id={PROJECT}", "usages", 38, LATEST, {"INSTANCE"}),
        (f"/usages?project_id={PROJECT}", "usages.INSTANCE", 38, LATEST, {"consumer_count", "VCPU", "MEMORY_MB"}),
        (f"/usages?project_id={PROJECT}&user_id=u&consumer_type=all", "usages", 38, LATEST, {"all"}),
        (ROOM, "", 10, LATEST, {"allocation_requests", "provider_summaries"}),
        (ROOM, "allocation_requests.*", 10, 33, {"allocations"}),
        (ROOM, "allocation_requests.*", 34, LATEST, {"allocations", "mappings"}),
        (ROOM, "allocation_requests.*.allocations.*", 10, 11, {"resource_provider", "resources"}),
        (ROOM, "allocation_requests.*.allocations", 12, LATEST, {HOST}),
        (ROOM, "allocation_requests.*.mappings", 34, LATEST, {""}),
        (ROOM, "provider_summaries.*", 10, 16, {"resources"}),
        (ROOM, "provider_summaries.*", 17, 28, {"resources", "traits"}),
        (ROOM, f"provider_summaries.{HOST}", 29, LATEST, {"resources", "traits", *TREE}),
        (ROOM, f"provider_summaries.{HOST}.resources", 10, 26, {"VCPU"}),
        (ROOM, f"provider_summaries.{HOST}.resources", 27, LATEST, {"VCPU", "MEMORY_MB"}),
        (ROOM, f"provider_summaries.{HOST}.resources.VCPU", 10, LATEST, {"capacity", "used"}),
    ],
)  # fmt: skip
async def test_the_keys_of_an_answer(
    admin: ApiClient, path: str, below: str, first: int, last: int, expected: set[str]
) -> None:
    for version in {first, last}:
        shown = await admin.at(f"placement 1.{version}").get(path)
        assert keys(shown, below) == expected, version


@pytest.mark.parametrize(
    ("first", "last", "rels"),
    [
        (0, 0, {"self", "inventories", "usages"}),
        (1, 5, {"self", "inventories", "usages", "aggregates"}),
        (6, 10, {"self", "inventories", "usages", "aggregates", "traits"}),
        (11, LATEST, {"self", "inventories", "usages", "aggregates", "traits", "allocations"}),
    ],
)
async def test_the_links_of_a_provider(admin: ApiClient, first: int, last: int, rels: set[str]) -> None:
    for version in {first, last}:
        links = (await admin.at(f"placement 1.{version}").get(ONE))["links"]
        assert {link["rel"] for link in links} == rels, version
        assert all(
            link["href"].endswith(f"{ONE}{'' if link['rel'] == 'self' else '/' + link['rel']}") for link in links
        )


CLAIM = {
    "allocations": {HOST: {"resources": {"VCPU": 1}}},
    "project_id": PROJECT,
    "user_id": "u",
    "consumer_generation": None,
    "consumer_type": "INSTANCE",
}


def claim(host: str, **resources: int) -> dict[str, Any]:
    return {**CLAIM, "allocations": {host: {"resources": resources}}}


LATE, IN_USE = "placement.concurrent_update", "placement.inventory.inuse"
NONE = "placement.undefined_code"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", f"/resource_providers/{GONE}", None, 404, NONE),
        ("DELETE", f"/resource_providers/{GONE}", None, 404, NONE),
        ("PUT", f"/resource_providers/{GONE}", {"name": "x"}, 404, NONE),
        ("DELETE", ONE, None, 409, "placement.resource_provider.cannot_delete_parent"),
        ("POST", "/resource_providers", {"name": "node1"}, 409, "placement.duplicate_name"),
        ("PUT", f"/resource_providers/{OTHER_HOST}", {"name": "node1"}, 409, "placement.duplicate_name"),
        ("GET", f"/resource_providers/{GONE}/inventories", None, 404, NONE),
        ("GET", f"{ONE}/inventories/DISK_GB", None, 404, NONE),
        ("DELETE", f"{ONE}/inventories/DISK_GB", None, 404, NONE),
        ("DELETE", f"{ONE}/inventories/VCPU", None, 409, IN_USE),
        ("DELETE", f"{ONE}/inventories", None, 409, IN_USE),
        ("PUT", f"{ONE}/inventories", {"resource_provider_generation": 99, "inventories": {}}, 409, LATE),
        ("PUT", f"{ONE}/inventories/VCPU", {"resource_provider_generation": 99, "total": 1}, 409, LATE),
        ("PUT", f"{ONE}/inventories", {"resource_provider_generation": 4, "inventories": {}}, 409, IN_USE),
        ("PUT", f"{ONE}/traits", {"resource_provider_generation": 99, "traits": []}, 409, LATE),
        ("PUT", f"{ONE}/traits", {"resource_provider_generation": 4, "traits": ["CUSTOM_UNHEARD_OF"]}, 400, NONE),
        ("GET", f"/resource_providers/{GONE}/traits", None, 404, NONE),
        ("DELETE", f"/resource_providers/{GONE}/traits", None, 404, NONE),
        ("PUT", f"{ONE}/aggregates", {"resource_provider_generation": 99, "aggregates": []}, 409, LATE),
        ("PUT", f"{ONE}/aggregates", {"resource_provider_generation": 4, "aggregates": ["x"]}, 400, NONE),
        ("GET", f"/resource_providers/{GONE}/aggregates", None, 404, NONE),
        ("GET", f"/resource_providers/{GONE}/usages", None, 404, NONE),
        ("GET", f"/resource_providers/{GONE}/allocations", None, 404, NONE),
        ("GET", "/traits/CUSTOM_UNHEARD_OF", None, 404, NONE),
        ("DELETE", "/traits/CUSTOM_UNHEARD_OF", None, 404, NONE),
        ("DELETE", "/traits/HW_CPU_X86_AVX2", None, 400, NONE),
        ("PUT", "/traits/NOT_CUSTOM", None, 400, NONE),
        ("GET", "/resource_classes/CUSTOM_UNHEARD_OF", None, 404, NONE),
        ("DELETE", "/resource_classes/CUSTOM_UNHEARD_OF", None, 404, NONE),
        ("DELETE", "/resource_classes/VCPU", None, 400, NONE),
        ("POST", "/resource_classes", {"name": "VCPU"}, 400, NONE),
        ("DELETE", f"/allocations/{GONE}", None, 404, NONE),
        ("PUT", f"/allocations/{SERVER}", CLAIM, 409, LATE),
        ("PUT", f"/allocations/{OTHER_SERVER}", claim(GONE, VCPU=1), 400, NONE),
        ("PUT", f"/allocations/{OTHER_SERVER}", claim(HOST, VCPU=9), 409, NONE),
        ("PUT", f"/allocations/{OTHER_SERVER}", claim(HOST, DISK_GB=1), 409,
         NONE),
        ("POST", "/allocations", {SERVER: CLAIM}, 409, LATE),
        ("GET", "/usages", None, 400, "placement.query.missing_value"),
        ("GET", "/allocation_candidates", None, 400, "placement.query.missing_value"),
        ("GET", "/allocation_candidates?resources=VCPU:0", None, 400, "placement.query.bad_value"),
        ("GET", "/allocation_candidates?resources=NOTHING:1", None, 400, NONE),
    ],
)  # fmt: skip
async def test_a_refusal_has_its_status_and_code(
    admin: ApiClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    reply = await admin.send(method, path, body)
    assert reply.status == status, reply.content[:300]
    (error,) = reply.json()["errors"]
    assert (error["status"], error["code"]) == (status, code)
    assert error["title"] and error["detail"] and error["request_id"]
    before = await admin.at("placement 1.22").send(method, path, body)
    if before.status == status:
        assert "code" not in before.json()["errors"][0], "codes came with 1.23"


async def test_what_was_refused_changed_nothing(admin: ApiClient) -> None:
    before = [await admin.get(path) for path in (ONE, f"{ONE}/inventories", f"{ONE}/traits", f"/allocations/{SERVER}")]
    await admin.put(f"{ONE}/inventories", {"resource_provider_generation": 4, "inventories": {}}, 409)
    await admin.put(f"/allocations/{SERVER}", CLAIM, 409)
    both = {SERVER: {**CLAIM, "consumer_generation": 1}, OTHER_SERVER: {**CLAIM, "consumer_generation": 7}}
    await admin.post("/allocations", both, 409)
    after = [await admin.get(path) for path in (ONE, f"{ONE}/inventories", f"{ONE}/traits", f"/allocations/{SERVER}")]
    assert after == before
