"""What each filter lets through, and the reason it gives."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.compute.contract import GroupSpec, NumaCell, PciPool
from kilonova.compute.scheduler.filters import Limits, known_filters
from kilonova.compute.scheduler.state import AggregateState
from tests.unit.compute.scheduler.hosts import host, request, table_of

X86 = {"arch": "x86_64"}
VERSION = {"hypervisor_version": 8002001}
NEAR_IP = {"build_near_host_ip": "10.0.0.1", "cidr": "/24"}
ENOUGH = '["and", [">=", "$free_ram_mb", 1024], ["<", "$num_io_ops", 5]]'


def within(**metadata: str) -> dict[str, Any]:
    """A host in an aggregate with this metadata."""
    number = sum(map(ord, repr(metadata)))
    return {"aggregates": (AggregateState(number, "one", metadata),)}


CELLS = (NumaCell(0, (0,), (1,), 4096), NumaCell(1, (2, 3), (), 4096))
FILTERS = known_filters(Limits(isolated_images=("special",)))


@pytest.mark.parametrize(
    ("name", "state", "asked", "reason"),
    [
        ("ComputeFilter", {}, {}, ""),
        ("ComputeFilter", {"up": False}, {}, "the compute service is down"),
        ("ComputeFilter", {"enabled": False, "disabled_reason": "fan"}, {}, "the compute service is disabled: fan"),
        ("AvailabilityZoneFilter", {"availability_zone": "a"}, {}, ""),
        ("AvailabilityZoneFilter", {"availability_zone": "a"}, {"availability_zone": "a"}, ""),
        ("AvailabilityZoneFilter", {"availability_zone": "a"}, {"availability_zone": "b"}, "in availability zone a"),
        ("RequestedHostFilter", {}, {"requested_host": "node1"}, ""),
        ("RequestedHostFilter", {}, {"requested_host": "node1.example"}, ""),
        ("RequestedHostFilter", {}, {"requested_host": "node2"}, "node2 was asked for"),
        ("RequestedHostFilter", {}, {"ignore_hosts": ["node1"]}, "tried before"),
        ("ImagePropertiesFilter", {"cpu_info": X86}, {"image_properties": {"hw_architecture": "x86_64"}}, ""),
        ("ImagePropertiesFilter", {"cpu_info": X86}, {"image_properties": {"architecture": "amd64"}}, ""),
        ("ImagePropertiesFilter", {"cpu_info": X86}, {"image_properties": {"hw_architecture": "aarch64"}}, "aarch64"),
        ("ImagePropertiesFilter", {}, {"image_properties": {"hw_architecture": "aarch64"}}, ""),
        ("ImagePropertiesFilter", {"hypervisor_type": "QEMU"}, {"image_properties": {"img_hv_type": "kvm"}}, ""),
        ("ImagePropertiesFilter", {"hypervisor_type": "QEMU"}, {"image_properties": {"img_hv_type": "xen"}}, "xen"),
        ("ImagePropertiesFilter", VERSION, {"image_properties": {"img_hv_requested_version": ">=6.0,<9"}}, ""),
        ("ImagePropertiesFilter", VERSION, {"image_properties": {"img_hv_requested_version": ">=9.0"}}, "version"),
        ("SameHostFilter", {}, {}, ""),
        ("SameHostFilter", {}, {"scheduler_hints": {"same_host": ["b", "a"]}, "near": {"a": "node1"}}, ""),
        ("SameHostFilter", {}, {"scheduler_hints": {"same_host": "b"}, "near": {"b": "node2"}}, "near"),
        ("SameHostFilter", {}, {"scheduler_hints": {"same_host": "gone"}}, "near"),
        ("DifferentHostFilter", {}, {"scheduler_hints": {"different_host": "b"}, "near": {"b": "node2"}}, ""),
        ("DifferentHostFilter", {}, {"scheduler_hints": {"different_host": ["a"]}, "near": {"a": "node1"}}, "a is"),
        ("SimpleCIDRAffinityFilter", {"host_ip": "10.0.0.7"}, {}, ""),
        ("SimpleCIDRAffinityFilter", {"host_ip": "10.0.0.7"}, {"scheduler_hints": NEAR_IP}, ""),
        ("SimpleCIDRAffinityFilter", {"host_ip": "10.0.1.7"}, {"scheduler_hints": NEAR_IP}, "not in 10.0.0.0/24"),
        ("ServerGroupAntiAffinityFilter", {}, {"group": GroupSpec("anti-affinity", 1, {"node2": 1})}, ""),
        ("ServerGroupAntiAffinityFilter", {}, {"group": GroupSpec("anti-affinity", 1, {"node1": 1})}, "1 of its group"),
        ("ServerGroupAntiAffinityFilter", {}, {"group": GroupSpec("anti-affinity", 2, {"node1": 1})}, ""),
        ("ServerGroupAffinityFilter", {}, {"group": GroupSpec("affinity", 1, {"node1": 1})}, ""),
        ("ServerGroupAffinityFilter", {}, {"group": GroupSpec("affinity", 1, {})}, ""),
        ("ServerGroupAffinityFilter", {}, {"group": GroupSpec("affinity", 1, {"node2": 1})}, "elsewhere"),
        ("JsonFilter", {"capacity": {"MEMORY_MB": 2048}}, {"scheduler_hints": {"query": ENOUGH}}, ""),
        ("JsonFilter", {"capacity": {"MEMORY_MB": 512}}, {"scheduler_hints": {"query": ENOUGH}}, "does not match"),
        ("JsonFilter", {}, {"scheduler_hints": {"query": '["or", ["=", "$host", "node1"]]'}}, ""),
        ("JsonFilter", {}, {"scheduler_hints": {"query": '["not", ["in", "$host", "node1", "x"]]'}}, "not match"),
        ("JsonFilter", {}, {"scheduler_hints": {"query": '["run", "$host"]'}}, "cannot be understood"),
        ("JsonFilter", {}, {"scheduler_hints": {"query": "[" * 500}}, "cannot be understood"),
        ("JsonFilter", {}, {"scheduler_hints": {"query": ["=", "$secret", "x"]}}, "a host has no $secret"),
        ("ComputeCapabilitiesFilter", {"cpu_info": X86}, {"extra_specs": {"capabilities:cpu_info:arch": "x86_64"}}, ""),
        (
            "ComputeCapabilitiesFilter",
            {"cpu_info": X86},
            {"extra_specs": {"capabilities:cpu_info:arch": "<or> a <or> b"}},
            "has x86_64",
        ),
        (
            "ComputeCapabilitiesFilter",
            {"cpu_info": {"features": ["vmx", "aes"]}},
            {"extra_specs": {"capabilities:cpu_info:features": "<all-in> aes vmx"}},
            "",
        ),
        (
            "ComputeCapabilitiesFilter",
            VERSION,
            {"extra_specs": {"capabilities:hypervisor_version": ">= 9000000"}},
            "asks",
        ),
        ("ComputeCapabilitiesFilter", {}, {"extra_specs": {"capabilities:gpu": "yes"}}, "tells nothing"),
        ("ComputeCapabilitiesFilter", {}, {"extra_specs": {"hw:mem_page_size": "large", "plain": "x"}}, ""),
        ("NUMATopologyFilter", {}, {}, ""),
        ("NUMATopologyFilter", {}, {"extra_specs": {"hw:cpu_policy": "shared"}}, ""),
        ("NUMATopologyFilter", {}, {"extra_specs": {"hw:cpu_policy": "dedicated"}}, "tells of no NUMA"),
        ("NUMATopologyFilter", {"numa_cells": CELLS}, {"extra_specs": {"hw:numa_nodes": "1"}}, ""),
        ("NUMATopologyFilter", {"numa_cells": CELLS[:1]}, {"extra_specs": {"hw:cpu_policy": "dedicated"}}, ""),
        (
            "NUMATopologyFilter",
            {"numa_cells": CELLS[1:]},
            {"extra_specs": {"hw:cpu_policy": "dedicated"}},
            "0 dedicated",
        ),
        ("NUMATopologyFilter", {"numa_cells": CELLS}, {"extra_specs": {"hw:mem_page_size": "2MB"}}, "not enough"),
        ("NUMATopologyFilter", {"numa_cells": CELLS}, {"extra_specs": {"hw:numa_nodes": "2"}}, "divided evenly"),
        ("PciPassthroughFilter", {}, {"extra_specs": {"pci_passthrough:alias": "gpu:2"}}, "0 free PCI devices gpu, 2"),
        (
            "PciPassthroughFilter",
            {"pci_pools": (PciPool("10de", "1eb8", ("gpu",), None, 4, 2),)},
            {"extra_specs": {"pci_passthrough:alias": "gpu:2"}},
            "",
        ),
        ("AggregateInstanceExtraSpecsFilter", within(ssd="true, yes"), {"extra_specs": {"ssd": "true"}}, ""),
        ("AggregateInstanceExtraSpecsFilter", within(ssd="false"), {"extra_specs": {"ssd": "true"}}, "have false"),
        (
            "AggregateInstanceExtraSpecsFilter",
            within(),
            {"extra_specs": {"aggregate_instance_extra_specs:ssd": "true"}},
            "no aggregate",
        ),
        ("AggregateInstanceExtraSpecsFilter", within(), {"extra_specs": {"hw:other": "x"}}, ""),
        (
            "AggregateImagePropertiesIsolation",
            within(os_distro="windows"),
            {"image_properties": {"os_distro": "debian"}},
            "the host is for windows",
        ),
        (
            "AggregateImagePropertiesIsolation",
            within(os_distro="windows,debian"),
            {"image_properties": {"os_distro": "debian"}},
            "",
        ),
        ("AggregateImagePropertiesIsolation", within(os_distro="windows"), {}, ""),
        ("AggregateMultiTenancyIsolation", within(filter_tenant_id="a,b"), {"project_id": "b"}, ""),
        (
            "AggregateMultiTenancyIsolation",
            within(filter_tenant_id="a", filter_tenant_id2="c"),
            {"project_id": "c"},
            "",
        ),
        ("AggregateMultiTenancyIsolation", within(filter_tenant_id="a"), {"project_id": "b"}, "other projects"),
        ("AggregateTypeAffinityFilter", within(instance_type="m1.tiny,m1.huge"), {}, ""),
        ("AggregateTypeAffinityFilter", within(instance_type="m1.huge"), {}, "for flavors m1.huge"),
        ("IsolatedAggregatesFilter", within(**{"trait:CUSTOM_GPU": "required"}), {}, "require CUSTOM_GPU"),
        (
            "IsolatedAggregatesFilter",
            within(**{"trait:CUSTOM_GPU": "required"}),
            {"extra_specs": {"trait:CUSTOM_GPU": "required"}},
            "",
        ),
        ("IoOpsFilter", {"building": 7}, {}, ""),
        ("IoOpsFilter", {"building": 8}, {}, "8 servers are being built"),
        ("AggregateIoOpsFilter", {"building": 3, **within(max_io_ops_per_host="3")}, {}, "3 may be"),
        ("NumInstancesFilter", {"servers": 50}, {}, "50 servers are there"),
        ("AggregateNumInstancesFilter", {"servers": 50, **within(max_instances_per_host="60")}, {}, ""),
        ("AggregateNumInstancesFilter", {"servers": 50}, {}, "50 may be"),
        ("IsolatedHostsFilter", {}, {"image_id": "special"}, "isolated hosts"),
        ("IsolatedHostsFilter", {}, {"image_id": "plain"}, ""),
        ("AllHostsFilter", {"up": False}, {}, ""),
    ],
)
def test_a_filter_says_why(name: str, state: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    told = FILTERS[name].refuses(host(**state), request(**asked))
    assert bool(told) == bool(reason)
    assert reason in told


def test_isolated_hosts_take_isolated_images_only_unless_told_otherwise() -> None:
    for restrict in (True, False):
        limits = Limits(isolated_hosts=("node1",), isolated_images=("special",),
                        restrict_isolated_hosts_to_isolated_images=restrict)  # fmt: skip
        one = known_filters(limits)["IsolatedHostsFilter"]
        assert not one.refuses(host(), request(image_id="special"))
        assert bool(one.refuses(host(), request(image_id="plain"))) == restrict


STATES = [
    host(1, host_ip="10.0.0.1", cpu_info=X86, hypervisor_type="QEMU"),
    host(2, up=False, host_ip="10.0.1.2", servers=60, building=9),
    host(3, enabled=False, disabled_reason="fan", availability_zone="b", servers=2),
    host(4, availability_zone="b", cpu_info={"arch": "aarch64"}, **within(filter_tenant_id="x", ssd="true")),
    host(5, **within(instance_type="m1.huge"), hypervisor_version=6002001, building=2),
]
REQUESTS = [
    request(),
    request(availability_zone="b", project_id="x"),
    request(requested_host="node4.example", ignore_hosts=["node1"]),
    request(ignore_hosts=["node5"], image_properties={"hw_architecture": "x86_64", "os_distro": "debian"}),
    request(scheduler_hints={"same_host": ["s"]}, near={"s": "node3"}),
    request(scheduler_hints={"same_host": ["gone"]}),
    request(scheduler_hints={"different_host": ["s", "t"]}, near={"s": "node3", "t": "node1"}),
    request(scheduler_hints={"build_near_host_ip": "10.0.0.9", "query": '["<", "$num_instances", 3]'}),
    request(group=GroupSpec("anti-affinity", 2, {"node1": 2, "node2": 1})),
    request(group=GroupSpec("affinity", 1, {"node1": 2, "node2": 1})),
    request(extra_specs={"ssd": "true", "hw:numa_nodes": "2", "capabilities:cpu_info:arch": "aarch64"}),
]


@pytest.mark.parametrize("name", sorted(known_filters()))
def test_all_hosts_at_once_and_one_by_one_are_of_one_mind(name: str) -> None:
    one, table = known_filters()[name], table_of(STATES)
    for spec in REQUESTS:
        alone = [not one.refuses(table.state(row), spec) for row in range(len(STATES))]
        if not one.asks(spec):
            assert all(alone), "a filter that has nothing to ask refuses nobody"
        elif one.leaves is not None:
            found = one.leaves(table, spec)
            assert alone == ([True] * len(STATES) if found is None else found.tolist())
