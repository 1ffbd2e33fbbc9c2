"""Weighers: pure numbers that say how good a host is. Each is stretched to 0…1 over the hosts and multiplied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kilonova.base.faults import invalid
from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.state import Candidate

Weigher = Callable[[Candidate, RequestSpec], float]


def _near(policy: str) -> Weigher:
    """How many of the server's group are there, when it has this policy."""

    def weigh(candidate: Candidate, spec: RequestSpec) -> float:
        group = spec.group
        return group.hosts.get(candidate.state.host, 0) if group and group.policy == policy else 0

    return weigh


WEIGHERS: Final[Mapping[str, Weigher]] = {
    "RAMWeigher": lambda candidate, _: candidate.free("MEMORY_MB"),
    "CPUWeigher": lambda candidate, _: candidate.free("VCPU"),
    "DiskWeigher": lambda candidate, _: candidate.free("DISK_GB"),
    "IoOpsWeigher": lambda candidate, _: candidate.state.building,
    "NumInstancesWeigher": lambda candidate, _: len(candidate.state.servers),
    "ServerGroupSoftAffinityWeigher": _near("soft-affinity"),
    "ServerGroupSoftAntiAffinityWeigher": _near("soft-anti-affinity"),
}
# Positive spreads towards hosts that have more, negative stacks; 0 leaves a weigher out.
DEFAULT_MULTIPLIERS: Final[Mapping[str, float]] = {
    "RAMWeigher": 1.0,
    "CPUWeigher": 1.0,
    "DiskWeigher": 1.0,
    "IoOpsWeigher": -1.0,
    "NumInstancesWeigher": 0.0,
    "ServerGroupSoftAffinityWeigher": 10.0,  # what a user asked for counts more than how full hosts are
    "ServerGroupSoftAntiAffinityWeigher": -10.0,
}


def checked(multipliers: Mapping[str, float]) -> dict[str, float]:
    """The defaults with these over them; INVALID for a weigher that is none."""
    if unknown := sorted(multipliers.keys() - WEIGHERS.keys()):
        raise invalid(f"There is no scheduler weigher {', '.join(unknown)}.", hint=f"Known: {', '.join(WEIGHERS)}.")
    return {**DEFAULT_MULTIPLIERS, **multipliers}


def weights(candidates: Sequence[Candidate], multipliers: Mapping[str, float], spec: RequestSpec) -> list[float]:
    """One weight per candidate, more is better."""
    total = [0.0] * len(candidates)
    for name, multiplier in multipliers.items():
        if not multiplier:
            continue
        raw = [WEIGHERS[name](candidate, spec) for candidate in candidates]
        lowest, highest = min(raw, default=0.0), max(raw, default=0.0)
        if highest == lowest:
            continue
        scale = multiplier / (highest - lowest)
        for index, value in enumerate(raw):
            total[index] += (value - lowest) * scale
    return total
