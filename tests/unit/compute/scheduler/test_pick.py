"""The order of hosts: weights, ties by chance, the subset; and what a decision costs."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from kilonova.base.faults import Fault
from kilonova.compute.scheduler.pick import Rules, SchedulerSettings, pick
from kilonova.compute.scheduler.state import Candidate
from tests.unit.compute.scheduler.hosts import candidate, host, request


def order(candidates: list[Candidate], settings: SchedulerSettings, seed: int = 1) -> list[str]:
    found, _ = pick(Rules.of(settings), candidates, request(), random.Random(seed))
    return [one.state.host for one in found]


THREE = [
    candidate(host(1, building=2), VCPU=4, MEMORY_MB=1000),
    candidate(host(2, servers=frozenset("abc")), VCPU=8, MEMORY_MB=4000),
    candidate(host(3), VCPU=6, MEMORY_MB=2000),
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


def test_equal_hosts_come_in_random_order() -> None:
    equals = [candidate(host(number), VCPU=4) for number in range(4)]
    firsts = Counter(order(equals, SchedulerSettings(), seed)[0] for seed in range(200))
    assert len(firsts) == 4
    assert min(firsts.values()) > 20
    assert order(equals, SchedulerSettings(), 7) == order(equals, SchedulerSettings(), 7), "one seed, one history"


def test_the_first_is_drawn_among_the_best() -> None:
    firsts = {order(THREE, SchedulerSettings(host_subset_size=2), seed)[0] for seed in range(50)}
    assert firsts == {"node2", "node3"}
    assert sorted(order(THREE, SchedulerSettings(host_subset_size=9))) == ["node1", "node2", "node3"]


def test_unknown_weighers_are_named() -> None:
    with pytest.raises(Fault, match="LuckWeigher"):
        Rules.of(SchedulerSettings(weights={"LuckWeigher": 1.0}))


def test_a_hundred_hosts_are_decided_in_about_a_millisecond() -> None:
    hosts = [candidate(host(n), VCPU=n, MEMORY_MB=n * 100, DISK_GB=n) for n in range(100)]
    rules, spec, dice = Rules.of(SchedulerSettings()), request(), random.Random(1)
    started = time.process_time()
    for _ in range(50):
        pick(rules, hosts, spec, dice)
    each_ms = (time.process_time() - started) * 1000 / 50
    print(f"decision among 100 hosts: {each_ms:.2f} ms")
    assert each_ms < 5
