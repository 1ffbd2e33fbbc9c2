"""What each filter lets through, and the reason it gives."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.faults import Fault
from kilonova.compute.scheduler.filters import DEFAULT_FILTERS, FILTERS, chosen_filters, run
from tests.unit.compute.scheduler.hosts import candidate, host, request

X86 = {"arch": "x86_64"}


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
        ("SameHostFilter", {}, {}, ""),
        ("SameHostFilter", {"servers": frozenset("a")}, {"scheduler_hints": {"same_host": ["b", "a"]}}, ""),
        ("SameHostFilter", {"servers": frozenset("a")}, {"scheduler_hints": {"same_host": "b"}}, "near"),
        ("DifferentHostFilter", {"servers": frozenset("a")}, {"scheduler_hints": {"different_host": "b"}}, ""),
        (
            "DifferentHostFilter",
            {"servers": frozenset("a")},
            {"scheduler_hints": {"different_host": ["a"]}},
            "a is here",
        ),
    ],
)
def test_a_filter_says_why(name: str, state: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    told = FILTERS[name].refuses(host(**state), request(**asked))
    assert bool(told) == bool(reason)
    assert reason in told


def test_filters_run_in_order_and_count_what_is_left() -> None:
    states = [host(1), host(2, up=False), host(3, availability_zone="b"), host(4, enabled=False)]
    done = run(chosen_filters(DEFAULT_FILTERS), [candidate(state) for state in states], request(availability_zone="b"))
    assert [one.state.host for one in done.left] == ["node3"]
    assert done.counts[:2] == [("ComputeFilter", 2), ("AvailabilityZoneFilter", 1)]
    assert [(one.host, one.filter) for one in done.rejections] == [
        ("node2", "ComputeFilter"),
        ("node4", "ComputeFilter"),
        ("node1", "AvailabilityZoneFilter"),
    ]


def test_after_the_last_host_nothing_is_asked() -> None:
    done = run(chosen_filters(DEFAULT_FILTERS), [candidate(host(1, up=False))], request())
    assert done.counts == [("ComputeFilter", 0)]


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(Fault, match="NumaFilter"):
        chosen_filters(["ComputeFilter", "NumaFilter"])
