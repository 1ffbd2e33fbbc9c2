"""The order of hosts: room, weights, ties by chance, the subset, settings; and what a decision costs."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from kilonova.base.faults import Fault
from kilonova.compute.contract import GroupSpec, PciPool, RequestSpec
from kilonova.compute.scheduler.decide import decide, rejections
from kilonova.compute.scheduler.rules import Rules, SchedulerSettings
from kilonova.compute.scheduler.state import AggregateState, HostState
from kilonova.compute.scheduler.weighers import known_weighers
from tests.unit.compute.scheduler.hosts import host, request, table_of, with_room

POOLS = (PciPool("10de", "1eb8", ("a",), 0, 6, 4),)
SMALL: dict[str, Any] = {"resources": {"VCPU": 1}}


def order(states: list[HostState], settings: SchedulerSettings, seed: int = 1) -> list[str]:
    table = table_of(states)
    made = decide(Rules.of(settings), table, request(**SMALL), random.Random(seed))
    return [table.states[row].host for row, _ in made.order]


THREE = [
    with_room(1, more={"building": 2}, VCPU=4, MEMORY_MB=1000),
    with_room(2, more={"servers": 3}, VCPU=8, MEMORY_MB=4000),
    with_room(3, VCPU=6, MEMORY_MB=2000),
]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, ["node2", "node3", "node1"]),
        ({"RAMWeigher": -1.0, "CPUWeigher": 0.0, "IoOpsWeigher": 0.0}, ["node1", "node3", "node2"]),
        ({"IoOpsWeigher": -10.0, "NumInstancesWeigher": -20.0}, ["node3", "node1", "node2"]),
    ],
)
def test_weights_order_hosts(weights: dict[str, float], expected: list[str]) -> None:
    assert order(THREE, SchedulerSettings(weights=weights)) == expected


@pytest.mark.parametrize(
    ("name", "state", "asked", "number"),
    [
        ("RAMWeigher", {"capacity": {"MEMORY_MB": 10}, "used": {"MEMORY_MB": 4}}, {}, 6),
        ("CPUWeigher", {"capacity": {"VCPU": 10}}, {}, 10),
        ("DiskWeigher", {}, {}, 0),
        ("IoOpsWeigher", {"building": 3}, {}, 3),
        ("NumInstancesWeigher", {"servers": 5}, {}, 5),
        ("ServerGroupSoftAffinityWeigher", {}, {"group": GroupSpec("soft-affinity", 1, {"node1": 2})}, 2),
        ("ServerGroupSoftAntiAffinityWeigher", {}, {"group": GroupSpec("soft-anti-affinity", 1, {"node1": 2})}, 2),
        ("ServerGroupSoftAntiAffinityWeigher", {}, {"group": GroupSpec("soft-affinity", 1, {"node1": 2})}, 0),
        ("MetricsWeigher", {"metrics": {"cpu.idle": 50.0}}, {}, 100),
        ("PCIWeigher", {"pci_pools": POOLS}, {}, -4),
        ("PCIWeigher", {"pci_pools": POOLS}, {"extra_specs": {"pci_passthrough:alias": "a:1"}}, 4),
        ("BuildFailureWeigher", {"failed_builds": 2}, {}, 2),
        ("HypervisorVersionWeigher", {"hypervisor_version": 7}, {}, 7),
        ("ImagePropertiesWeigher", {"aggregates": (AggregateState(1, "a", {"os_distro": "debian"}),)},
         {"image_properties": {"os_distro": "debian"}}, 3),
    ],
)  # fmt: skip
def test_a_weigher_is_a_number(name: str, state: dict[str, Any], asked: dict[str, Any], number: float) -> None:
    one, spec = known_weighers({"cpu.idle": 2.0}, {"os_distro": 3.0})[name], request(**asked)
    states = [host(**state), host(2)]
    assert one.weigh(states[0], spec) == number
    if one.column is not None:
        column = one.column(table_of(states), spec)
        assert (column.tolist() if column is not None else [0, 0]) == [one.weigh(state, spec) for state in states]


def test_equal_hosts_come_in_random_order() -> None:
    for count in (4, 40):
        equals = [with_room(number, VCPU=4) for number in range(count)]
        rules, table, dice = Rules.of(SchedulerSettings()), table_of(equals), random.Random(1)
        firsts = Counter(decide(rules, table, request(**SMALL), dice).order[0][0] for _ in range(50 * count))
        assert len(firsts) == count
        assert min(firsts.values()) > 15
        assert order(equals, SchedulerSettings(), 7) == order(equals, SchedulerSettings(), 7), "one seed, one history"


def test_the_best_of_many_come_first() -> None:
    states = [with_room(number, VCPU=number) for number in range(1, 200)]
    assert order(states, SchedulerSettings())[:3] == ["node199", "node198", "node197"]


def test_the_first_is_drawn_among_the_best() -> None:
    firsts = {order(THREE, SchedulerSettings(host_subset_size=2), seed)[0] for seed in range(50)}
    assert firsts == {"node2", "node3"}
    assert sorted(order(THREE, SchedulerSettings(host_subset_size=9))) == ["node1", "node2", "node3"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"weights": {"RAMWeigherr": 1.0}}, "'RAMWeigher'"),
        ({"filters": ("ComputeFiltre",)}, "'ComputeFilter'"),
        ({"filters": ("Xyz",)}, "Known: AllHostsFilter"),
    ],
)
def test_a_name_that_is_none_is_told_with_the_nearest(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(Fault) as caught:
        Rules.of(SchedulerSettings(**settings))
    assert told in caught.value.hint


def test_filters_run_in_order_and_count_what_is_left() -> None:
    states = [
        with_room(1, VCPU=1),
        with_room(2, VCPU=1, more={"up": False}),
        with_room(3, VCPU=1, more={"availability_zone": "b"}),
        with_room(4, VCPU=1, more={"enabled": False}),
        with_room(5, VCPU=0, used={"VCPU": 4}),
    ]
    rules, table, spec = Rules.of(SchedulerSettings()), table_of(states), request(availability_zone="b", **SMALL)
    made = decide(rules, table, spec, random.Random(1))
    assert [one.host for one in made.destinations(table, spec, 3)] == ["node3"]
    assert made.counts[:3] == [("Placement", 4), ("ComputeFilter", 2), ("AvailabilityZoneFilter", 1)]
    assert [(one.host, one.filter, one.reason) for one in rejections(rules, table, spec, made)] == [
        ("node5", "Placement", "no room for 1 VCPUs (free: 0 of 4, ratio 1)"),
        ("node2", "ComputeFilter", "the compute service is down"),
        ("node4", "ComputeFilter", "the compute service is disabled"),
        ("node1", "AvailabilityZoneFilter", "it is in availability zone nova, not b"),
    ]


def test_traits_are_required_and_forbidden() -> None:
    states = [with_room(1, VCPU=1), with_room(2, VCPU=1), with_room(3, VCPU=1)]
    table = table_of(states, traits={"node1": ("CUSTOM_FAST",), "node2": ("CUSTOM_FAST", "CUSTOM_OLD")})

    def left(settings: SchedulerSettings | None = None, **more: Any) -> list[str]:
        rules = Rules.of(settings or SchedulerSettings())
        found = decide(rules, table, request(**SMALL, **more), random.Random(1))
        return sorted(table.states[row].host for row, _ in found.order)

    fast = {"trait:CUSTOM_FAST": "required"}
    assert left(extra_specs=fast) == ["node1", "node2"]
    assert left(image_properties=fast, extra_specs={"trait:CUSTOM_OLD": "forbidden"}) == ["node1"]
    assert left(extra_specs={"trait:CUSTOM_UNHEARD_OF": "required"}) == []
    strict = SchedulerSettings(require_image_format=True, require_architecture=True)
    assert left(strict, image_properties={"disk_format": "qcow2"}) == []
    assert len(left(strict)) == 3


def test_five_thousand_hosts_are_decided_in_about_a_millisecond() -> None:
    table = table_of([with_room(n, VCPU=n % 64 + 1, MEMORY_MB=n * 10 + 512, DISK_GB=n) for n in range(5000)])
    rules, dice = Rules.of(SchedulerSettings()), random.Random(1)
    spec: RequestSpec = request()
    decide(rules, table, spec, dice)
    started = time.process_time()
    for _ in range(50):
        decide(rules, table, spec, dice)
    each_ms = (time.process_time() - started) * 1000 / 50
    print(f"decision among 5000 hosts: {each_ms:.2f} ms")
    assert each_ms < 5
