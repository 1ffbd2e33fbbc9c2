"""What the scheduler is asked and answers."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from kilonova.bus import rpc
from kilonova.compute.contract.server import Flavor

DRY_RUN_MOST: Final = 1000  # servers of one dry run


class GroupSpec(msgspec.Struct, frozen=True):
    """A server's group: its policy, and how many of the other members are on which host."""

    policy: str  # affinity | anti-affinity | soft-affinity | soft-anti-affinity
    most_per_host: int = 1
    hosts: dict[str, int] = {}

    def refuses(self, host: str) -> str:
        """Why the server may not go to the host, or ""."""
        here = self.hosts.get(host, 0)
        if self.policy == "affinity" and self.hosts and not here:
            return "the other servers of its group are elsewhere"
        if self.policy == "anti-affinity" and here >= self.most_per_host:
            return f"{here} of its group are there, and {self.most_per_host} may be"
        return ""


class RequestSpec(msgspec.Struct):
    """What a server needs of a host."""

    server_id: str
    project_id: str
    user_id: str
    flavor: Flavor
    resources: dict[str, int]  # VCPU, MEMORY_MB, DISK_GB, … from flavor and whether it boots from a volume
    image_properties: dict[str, str] = {}
    image_id: str = ""  # "" when it boots from a volume
    least_memory_mb: int = 0  # what the image asks of any flavor
    least_disk_gb: int = 0
    availability_zone: str = ""
    requested_host: str = ""
    scheduler_hints: dict[str, Any] = {}
    ignore_hosts: list[str] = []
    group: GroupSpec | None = None  # read afresh by the scheduler for each decision
    near: dict[str, str] = {}  # the same: where the servers live that hints name; server id → host


class Destination(msgspec.Struct, frozen=True):
    """A host that fits, with the resources claimed there (for the first) or to be claimed (for alternates)."""

    host: str
    node: str
    provider_id: str
    resources: dict[str, int]
    allocations: dict[str, dict[str, int]] = {}  # provider id → resources, when several providers of its tree serve it

    @property
    def held(self) -> dict[str, dict[str, int]]:
        """What is claimed of whom."""
        return self.allocations or {self.provider_id: self.resources}


class Short(msgspec.Struct, frozen=True):
    """A class of which a host has too little: `free` of `capacity`, which is what it has times its `ratio`."""

    asked: int
    free: int
    capacity: int
    ratio: float


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a host was not chosen, with the numbers when it lacks room; host names are for operators only."""

    host: str
    filter: str
    reason: str
    short: dict[str, Short] = {}


class Fit(msgspec.Struct, frozen=True):
    """The answer of a dry run: how many fit, on which hosts, and what stops the next ("" when all fit)."""

    fits: int
    where: dict[str, int]
    message: str = ""
    rejections: list[Rejection] = []
    counts: list[tuple[str, int]] = []  # (filter, hosts left) of the last that was tried
    snapshot: int = 0


class Scheduler(Protocol):
    """Served on topic `scheduler`."""

    @rpc.call(15)
    async def select_destinations(self, spec: RequestSpec) -> list[Destination]:
        """The chosen host, claimed in placement, then up to 2 alternates. NO_CAPACITY with reasons when none fits."""
        ...

    @rpc.call(30)
    async def refusals(self, spec: RequestSpec) -> list[Rejection]:
        """Why the requested host, on which the server is, may not run it; nothing is claimed, room is not asked for."""
        ...

    @rpc.call(60)
    async def could_boot(self, spec: RequestSpec, count: int) -> Fit:
        """Where `count` such servers could go now (at most 1000 are tried); nothing is claimed."""
        ...
