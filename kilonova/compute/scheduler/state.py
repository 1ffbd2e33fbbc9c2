"""What the scheduler knows of hosts: its own view from compute's host table, joined with placement's books."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kilonova.compute.contract import GroupSpec
from kilonova.placement.contract import ProviderSummary


class HostState(msgspec.Struct, frozen=True):
    """A compute host as compute knows it. Room is not here: placement's books decide that."""

    host: str
    node: str
    provider_id: str
    up: bool = True  # reported lately, and not forced down
    enabled: bool = True
    disabled_reason: str = ""
    availability_zone: str = "nova"
    hypervisor_type: str = ""
    cpu_info: dict[str, Any] = {}
    servers: frozenset[str] = frozenset()  # ids of the servers that live there
    building: int = 0  # servers in building, resizing, snapshotting, …: they load disk and network


class Candidate(msgspec.Struct, frozen=True):
    """A host with room, as placement saw it."""

    state: HostState
    books: ProviderSummary

    def free(self, resource_class: str) -> int:
        """How much is left of a class; 0 when the host has none of it."""
        return self.books.capacity.get(resource_class, 0) - self.books.used.get(resource_class, 0)


class Hosts(Protocol):
    """Where the scheduler's view of hosts comes from."""

    async def states(self) -> list[HostState]:
        """All compute hosts, down and disabled ones too."""
        ...

    async def group_of(self, server_id: str) -> GroupSpec | None:
        """The server's group and where the others of it are; None when it is in none."""
        ...
