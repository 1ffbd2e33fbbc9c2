"""Weighers: pure numbers that say how good a host is. Each is stretched to 0…1 over the hosts and multiplied.

A weigher may also give its number for all hosts at once (`column`): the same number, faster. Operators' own weighers
need only `weigh`; they come by the entry point group `kilonova.scheduler.weighers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from kilonova.compute.contract import RequestSpec
from kilonova.compute.scheduler.state import HostState

if TYPE_CHECKING:
    from kilonova.compute.scheduler.table import HostTable, Numbers

Weigh = Callable[[HostState, RequestSpec], float]
Column = Callable[["HostTable", RequestSpec], "Numbers | None"]


class Weigher(msgspec.Struct, frozen=True):
    """A named number. `column`: of all hosts at once, None there: it is the same for all.

    `multiplier` is used when the settings name none: positive spreads towards hosts with more, negative stacks, 0 is
    left out.
    """

    name: str
    weigh: Weigh
    multiplier: float = 1.0
    column: Column | None = None
    lasting: bool = False  # what `column` answers depends on what hosts and request are, not on which servers came


def _near(policy: str) -> tuple[Weigh, Column]:
    """How many of the server's group are there, when it has this policy."""

    def weigh(host: HostState, spec: RequestSpec) -> float:
        group = spec.group
        return group.hosts.get(host.host, 0) if group and group.policy == policy else 0

    def column(table: HostTable, spec: RequestSpec) -> Numbers | None:
        group = spec.group
        return table.numbers(group.hosts) if group and group.policy == policy else None

    return weigh, column


def _free(resource_class: str) -> tuple[Weigh, Column]:
    return lambda host, _: host.free(resource_class), lambda table, _: table.free(resource_class)


def metrics(ratios: dict[str, float]) -> Weigh:
    """What a host measures of itself (HostState.metrics), each times its ratio; what it does not tell counts 0."""
    return lambda host, _: sum(host.metrics.get(name, 0.0) * ratio for name, ratio in ratios.items())


def pci(host: HostState, spec: RequestSpec) -> float:
    """Servers that want PCI devices go where many are; others stay away from there."""
    has = sum(pool.count for pool in host.pci_pools)
    return has if spec.flavor.extra_specs.get("pci_passthrough:alias") else -has


def image_properties(ratios: dict[str, float]) -> Weigh:
    """Servers whose images have a property are drawn to hosts whose aggregates name the same value."""

    def weigh(host: HostState, spec: RequestSpec) -> float:
        return sum(
            ratio
            for name, ratio in ratios.items()
            if (has := spec.image_properties.get(name)) is not None and has in host.tagged(name)
        )

    return weigh


def known_weighers(ratios: dict[str, float] | None = None, properties: dict[str, float] | None = None) -> dict[
    str, Weigher
]:  # fmt: skip
    """Every weigher of ours by its name. `ratios` are of metrics, `properties` of image properties."""
    together, together_all = _near("soft-affinity")
    apart, apart_all = _near("soft-anti-affinity")
    measured = metrics(ratios or {})
    memory, processors, disk = _free("MEMORY_MB"), _free("VCPU"), _free("DISK_GB")
    made = (
        Weigher("RAMWeigher", memory[0], 1.0, memory[1]),
        Weigher("CPUWeigher", processors[0], 1.0, processors[1]),
        Weigher("DiskWeigher", disk[0], 1.0, disk[1]),
        Weigher("IoOpsWeigher", lambda host, _: host.building, -1.0, lambda t, _: t.counted(t.building)),
        Weigher("NumInstancesWeigher", lambda host, _: host.servers, 0.0, lambda t, _: t.counted(t.servers)),
        # what a user asked for counts more than how full hosts are
        Weigher("ServerGroupSoftAffinityWeigher", together, 10.0, together_all, lasting=True),
        Weigher("ServerGroupSoftAntiAffinityWeigher", apart, -10.0, apart_all, lasting=True),
        Weigher("MetricsWeigher", measured, 1.0 if ratios else 0.0, lambda t, s: t.told(lambda h: measured(h, s))),
        Weigher("PCIWeigher", pci, 1.0, lambda table, spec: table.each("pci", lambda h: h.pci_pools,
                                                                      lambda h: pci(h, spec)), lasting=True),
        Weigher("BuildFailureWeigher", lambda host, _: host.failed_builds, -1_000_000.0,
                lambda table, _: table.each("failed", lambda h: h.failed_builds, lambda h: h.failed_builds),
                lasting=True),
        Weigher("HypervisorVersionWeigher", lambda host, _: host.hypervisor_version, 1.0,
                lambda table, _: table.each("version", lambda h: h.hypervisor_version, lambda h: h.hypervisor_version),
                lasting=True),
        Weigher("ImagePropertiesWeigher", image_properties(properties or {}), 1.0 if properties else 0.0),
    )  # fmt: skip
    return {one.name: one for one in made}


COUNTING: Final = frozenset({"NumInstancesWeigher"})  # they need servers per host
