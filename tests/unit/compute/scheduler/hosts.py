"""Hosts, requests and a placement in memory, for tests of the scheduler."""

from __future__ import annotations

from typing import Any

from kilonova.compute.contract import Flavor, RequestSpec
from kilonova.compute.scheduler.state import Candidate, HostState
from kilonova.placement.contract import ProviderSummary


def host(number: int = 1, **more: Any) -> HostState:
    return HostState(f"node{number}", f"node{number}.example", f"provider-{number}", **more)


def candidate(state: HostState, **free: int) -> Candidate:
    """A host that has `free` of each class and nothing used."""
    return Candidate(state, ProviderSummary(state.provider_id, "", 0, dict(free), {}))


def request(**more: Any) -> RequestSpec:
    flavor = Flavor("1", "m1.tiny", 1, 512, 1, extra_specs=more.pop("extra_specs", {}))
    resources = more.pop("resources", {"VCPU": 1, "MEMORY_MB": 512})
    return RequestSpec("server-1", "project", "user", flavor, resources, **more)
