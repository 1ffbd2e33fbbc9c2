"""Placement's books with the unmodified `openstack` client and osc-placement: every command of it."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.api.clients.conftest import Client

pytest.importorskip("osc_placement", reason="needs osc-placement: pip install .[client]")

VERSION = "--os-placement-api-version 1.39"
RACK = "f0000000-0000-4000-8000-000000000000"
CONSUMER = "c0000000-0000-4000-8000-000000000000"


class Books:
    """`openstack` at placement's latest version."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, command: str) -> Any:
        return self._client(f"{VERSION} {command}")

    def do(self, command: str) -> None:
        self._client.do(f"{VERSION} {command}")

    def refused(self, command: str) -> str:
        return self._client.refused(f"{VERSION} {command}")


@pytest.fixture
def books(admin: Client) -> Books:
    return Books(admin)


def test_a_tree_of_providers_from_first_to_last(books: Books) -> None:
    host = books("resource provider create osc-host")["uuid"]
    numa = books(f"resource provider create osc-numa --parent-provider {host}")
    assert (numa["root_provider_uuid"], numa["parent_provider_uuid"]) == (host, host)
    assert books(f"resource provider set {host} --name osc-renamed")["name"] == "osc-renamed"
    assert {row["uuid"] for row in books(f"resource provider list --in-tree {host}")} == {host, numa["uuid"]}
    _stock(books, host)
    _describe(books, host)
    _claim_and_release(books, host)

    books.do(f"resource provider trait delete {host}")
    books.do("trait delete CUSTOM_OSC_FAST")
    books.do(f"resource provider inventory delete {host}")
    for name in ("CUSTOM_OSC", "CUSTOM_OSC_TOO"):
        books.do(f"resource class delete {name}")
    assert "child resource providers" in books.refused(f"resource provider delete {host}")
    books.do(f"resource provider delete {numa['uuid']}")
    books.do(f"resource provider delete {host}")
    assert books.refused(f"resource provider show {host}")


def _stock(books: Books, host: str) -> None:
    books.do("resource class create CUSTOM_OSC")
    books.do("resource class set CUSTOM_OSC_TOO")
    assert "CUSTOM_OSC" in {row["name"] for row in books("resource class list")}
    assert books("resource class show CUSTOM_OSC")["name"] == "CUSTOM_OSC"
    vcpus = f"resource provider inventory set {host} --resource VCPU=8 --resource VCPU:allocation_ratio=2.0"
    stock = {row["resource_class"]: row for row in books(f"{vcpus} --resource CUSTOM_OSC=4")}
    assert stock["VCPU"]["total"] == 8 and stock["VCPU"]["allocation_ratio"] == 2.0
    changed = books(f"resource provider inventory class set {host} CUSTOM_OSC --total 6 --reserved 1")
    assert (changed["total"], changed["reserved"]) == (6, 1)
    assert books(f"resource provider inventory show {host} VCPU")["max_unit"] == 2147483647
    listed = {row["resource_class"] for row in books(f"resource provider inventory list {host}")}
    assert listed == {"VCPU", "CUSTOM_OSC"}


def _describe(books: Books, host: str) -> None:
    books.do("trait create CUSTOM_OSC_FAST")
    assert books("trait show CUSTOM_OSC_FAST")["name"] == "CUSTOM_OSC_FAST"
    traits = f"resource provider trait set {host} --trait CUSTOM_OSC_FAST --trait STORAGE_DISK_SSD"
    assert {row["name"] for row in books(traits)} == {"CUSTOM_OSC_FAST", "STORAGE_DISK_SSD"}
    assert len(books(f"resource provider trait list {host}")) == 2
    assert "CUSTOM_OSC_FAST" in {row["name"] for row in books("trait list --associated")}
    generation = books(f"resource provider show {host}")["generation"]
    aggregates = f"resource provider aggregate set {host} --aggregate {RACK} --generation {generation}"
    assert [row["uuid"] for row in books(aggregates)] == [RACK]
    assert [row["uuid"] for row in books(f"resource provider aggregate list {host}")] == [RACK]
    filters = f"--required CUSTOM_OSC_FAST --forbidden COMPUTE_NODE --member-of {RACK} --resource VCPU=1"
    assert [row["uuid"] for row in books(f"resource provider list {filters}")] == [host]


def _claim_and_release(books: Books, host: str) -> None:
    wanted = f"--resource CUSTOM_OSC=1 --required CUSTOM_OSC_FAST --limit 5 --member-of {RACK}"
    found = books(f"allocation candidate list {wanted}")
    assert {row["resource provider"] for row in found} == {host}
    groups = "--group 1 --resource VCPU=1 --group 2 --resource CUSTOM_OSC=1 --group-policy none"
    assert {row["resource provider"] for row in books(f"allocation candidate list {groups}")} == {host}
    owner = "--project-id osc-project --user-id osc-user --consumer-type INSTANCE"
    given = books(f"resource provider allocation set {CONSUMER} --allocation rp={host},VCPU=3,CUSTOM_OSC=1 {owner}")
    assert given[0]["resource_provider"] == host and given[0]["resources"] == {"VCPU": 3, "CUSTOM_OSC": 1}
    assert books(f"resource provider allocation show {CONSUMER}")[0]["consumer_type"] == "INSTANCE"
    usage = {row["resource_class"]: row["usage"] for row in books(f"resource provider usage show {host}")}
    assert usage == {"VCPU": 3, "CUSTOM_OSC": 1}
    assert books("resource usage show osc-project --user-id osc-user")
    assert "in use" in books.refused(f"resource provider inventory delete {host} --resource-class VCPU")
    left = books(f"resource provider allocation unset {CONSUMER} --resource-class CUSTOM_OSC")
    assert left[0]["resources"] == {"VCPU": 3}
    assert books(f"resource provider show {host} --allocations")["allocations"]
    books.do(f"resource provider allocation delete {CONSUMER}")


def test_members_have_no_look_at_the_books(member: Client) -> None:
    assert "HTTP 403" in member.refused(f"{VERSION} resource provider list")


def test_no_command_is_left_out() -> None:
    """What the package adds to `openstack`, by its own list, is all in the stories above."""
    told = Path(__file__).read_text()
    commands = [point.name.replace("_", " ") for point in entry_points(group="openstack.placement.v1")]
    assert len(commands) > 30
    assert [one for one in commands if one not in told] == []
