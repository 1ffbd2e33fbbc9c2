"""The conductor's bus verbs: what wakes an operation, what a host may ask, what a host says."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kilonova.bus import rpc
from kilonova.compute.contract.server import Power, ServerForHost, StepSecrets
from kilonova.compute.contract.topology import NumaCell, PciPool


class HostReport(msgspec.Struct):
    """A host's resources and powers, sent every 10 s (heartbeat) to the conductor."""

    host: str
    node: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    disk_gb: int
    host_ip: str
    cpu_info: dict[str, Any] = {}
    traits: list[str] = []
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    free_disk_gb: int = 0
    running_servers: int = 0
    started_at: str = ""
    pcpus: int = 0  # of `vcpus`, those that one guest has for itself
    numa_cells: list[NumaCell] = []
    pci_pools: list[PciPool] = []
    failed_builds: int = 0  # since it last built a server
    metrics: dict[str, float] = {}  # cpu.percent, cpu.idle.percent, …: shares from 0 to 1 since the report before


class SeenGuest(msgspec.Struct, frozen=True):
    """A guest that a host has."""

    server_id: str
    power: Power


class Conductor(Protocol):
    """Served on topic `conductor`. A compute host is answered only about servers on that host."""

    @rpc.cast
    async def build_instances(self, operation_id: str) -> None:
        """A create waits as an operation row: lease it and run it."""
        ...

    @rpc.cast
    async def run_operation(self, operation_id: str) -> None:
        """Any other operation waits."""
        ...

    @rpc.call()
    async def server_for_host(self, host: str, server_id: str, operation_id: str = "", epoch: int = 0) -> ServerForHost:
        """The server's record; with the operation's sealed secrets when one of its steps asks."""
        ...

    @rpc.call()
    async def step_secrets(self, host: str, operation_id: str, epoch: int) -> StepSecrets:
        """The operation's sealed secrets, while it runs, for a host that has one of its steps."""
        ...

    @rpc.call()
    async def report_host(self, report: HostReport) -> None: ...

    @rpc.call()
    async def guests_seen(self, host: str, guests: list[SeenGuest], *, full: bool) -> list[str]:
        """Power states changed (or all of them, `full`). Answers server ids that should not be on this host."""
        ...

    @rpc.call()
    async def servers_to_run(self, host: str) -> list[str]:
        """Servers on the host that ran when it was last seen, and that nobody stopped: after a machine's restart."""
        ...

    @rpc.call()
    async def check_console(self, token: str) -> tuple[str, str] | None:
        """(server id, host) that a console token opens, used up by this call; None when refused."""
        ...
