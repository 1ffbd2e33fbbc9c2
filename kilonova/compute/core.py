"""Compute: what the API's handlers, the conductor's flows and the loops stand on. Peers are handed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from kilonova.base.world import World
from kilonova.block_storage.contract import Volumes
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.compute.contract import (
    COMPUTE_TOPIC,
    CONDUCTOR_TOPIC,
    EXCHANGE,
    SCHEDULER_TOPIC,
    ComputeAgent,
    ComputeHost,
    Conductor,
    Flavor,
    Scheduler,
)
from kilonova.compute.server.remembered import Remembered
from kilonova.compute.settings import ComputeSettings
from kilonova.db.database import Database
from kilonova.image.contract import MadeImages
from kilonova.network.contract import Networks
from kilonova.placement.contract import Placement
from kilonova.saga.operation import host
from kilonova.saga.seal import Sealer


class Limits(msgspec.Struct, frozen=True):
    """A project's quota, as far as servers count against it; -1 is no limit."""

    instances: int = 10
    cores: int = 20
    ram: int = 51200
    metadata_items: int = 128
    injected_files: int = 5
    injected_file_content_bytes: int = 10240
    injected_file_path_bytes: int = 255

    @property
    def unlimited(self) -> bool:
        """Nothing counts against it: servers need not be counted."""
        return self.instances < 0 and self.cores < 0 and self.ram < 0


class Catalogue(Protocol):
    """Compute's other nouns, as far as a server needs them. Units: they run on the connection of the caller's."""

    def flavor(self, connection: Connection, flavor_id: str, project_id: str) -> Flavor:
        """The flavor, when the project may use it; INVALID otherwise."""
        ...

    def public_key(self, connection: Connection, user_id: str, name: str) -> str:
        """The key pair's public key; INVALID when the user has none of that name."""
        ...

    def lock_limits(self, connection: Connection, project_id: str) -> Limits:
        """The project's limits; until the unit ends no other unit may pass here for this project."""
        ...

    def limits(self, connection: Connection, project_id: str) -> Limits:
        """The project's limits, without the lock."""
        ...

    def user_limits(self, connection: Connection, project_id: str, user_id: str) -> Limits | None:
        """The limits of one user in the project, when any were set for that user."""
        ...

    def zone_of(self, connection: Connection, host: str) -> str:
        """The availability zone of a host."""
        ...

    def zones(self, connection: Connection) -> set[str]:
        """Every availability zone that has hosts."""
        ...

    def join_group(self, connection: Connection, group_id: str, project_id: str, server_id: str) -> None:
        """The server becomes a member of the server group; INVALID when there is none such."""
        ...

    def leave_groups(self, connection: Connection, server_id: str) -> None:
        """The server is a member of no group any more."""
        ...

    def check_group(self, connection: Connection, server_id: str, host: str) -> None:
        """NO_CAPACITY when the server's group forbids the host by now; until the unit ends none of it is placed."""
        ...


@dataclass(frozen=True)
class Peers:
    """The services that compute asks over REST. `own_token` is of compute's own service user."""

    placement: Placement
    networks: Networks
    volumes: Volumes
    images: MadeImages
    own_token: Callable[[], Awaitable[str]]


@dataclass
class Compute:
    """One process' compute service."""

    world: World
    db: Database
    bus: Bus
    sealer: Sealer
    peers: Peers
    catalogue: Catalogue
    settings: ComputeSettings = field(default_factory=ComputeSettings)
    remembered: Remembered = field(default_factory=Remembered)

    def __post_init__(self) -> None:
        self.conductor = rpc.client(Conductor, self.bus, Target(EXCHANGE, CONDUCTOR_TOPIC))
        self.scheduler = rpc.client(Scheduler, self.bus, Target(EXCHANGE, SCHEDULER_TOPIC))

    def agent(self, host_name: str) -> ComputeAgent:
        """The compute agent of a host, for plain calls and casts."""
        return rpc.client(ComputeAgent, self.bus, Target(EXCHANGE, COMPUTE_TOPIC, host_name))


def on_host(host_name: str) -> ComputeHost:
    """The verbs of a host's compute agent, as steps."""
    return host(ComputeHost, Target(EXCHANGE, COMPUTE_TOPIC, host_name))
