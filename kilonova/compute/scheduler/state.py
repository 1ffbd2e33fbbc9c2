"""What the scheduler knows of hosts: its own view from compute's tables, joined with placement's books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kilonova.compute.contract import Flavor, NumaCell, PciPool, RequestSpec


class AggregateState(msgspec.Struct, frozen=True):
    """An aggregate that a host is in."""

    id: int
    name: str
    metadata: dict[str, str] = {}


class HostState(msgspec.Struct):
    """A compute host: what it reported, what operators said of it, and how full placement's books are.

    Filters and weighers read it, one host at a time. Amounts are in units of their class (MEMORY_MB in MB).
    """

    host: str
    node: str
    provider_id: str
    up: bool = True  # reported lately, and not forced down
    enabled: bool = True
    disabled_reason: str = ""
    availability_zone: str = "nova"
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    cpu_info: dict[str, Any] = {}
    host_ip: str = ""
    traits: tuple[str, ...] = ()
    aggregates: tuple[AggregateState, ...] = ()
    metrics: dict[str, float] = {}
    numa_cells: tuple[NumaCell, ...] = ()
    pci_pools: tuple[PciPool, ...] = ()
    servers: int = 0  # how many live there
    building: int = 0  # of them in building, resizing, snapshotting, …: they load disk and network
    failed_builds: int = 0  # since it last built one
    capacity: dict[str, int] = {}
    used: dict[str, int] = {}
    ratios: dict[str, float] = {}  # of what there is, how much may be promised; it is in `capacity` already

    def free(self, resource_class: str) -> int:
        """How much is left of a class; 0 when the host has none of it."""
        return self.capacity.get(resource_class, 0) - self.used.get(resource_class, 0)

    def tagged(self, key: str) -> list[str]:
        """The values of a metadata key in the aggregates that the host is in."""
        return [one.metadata[key] for one in self.aggregates if key in one.metadata]


class HostsView(msgspec.Struct, frozen=True):
    """All compute hosts, down and disabled ones too. A new `version` says that `states` may differ from before."""

    version: int
    states: Sequence[HostState]
    counts_version: int = 0
    counts: dict[str, tuple[int, int]] = {}  # host → (servers, of them building)


class Hosts(Protocol):
    """Where the scheduler's view of hosts comes from."""

    async def current(self, *, afresh: bool = False) -> HostsView:
        """The hosts with all that operators changed before this call; `afresh`: reports of the last second, too."""
        ...

    async def complete(self, specs: Sequence[RequestSpec]) -> None:
        """Fills in what only the database knows: groups (with where their servers are), hosts of hinted servers."""
        ...

    async def flavors(self, project_id: str) -> list[Flavor]:
        """The flavors that the project may use: one of them may fit where another does not."""
        ...
