"""Ground: what services and agents are built on. Two kinds: the embedded cloud's and a cluster process's.

`services.py` and `hosts.py` build everything from a Ground and never ask which kind it is.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.base.world import LiveWorld
from kilonova.bus.contract import Bus
from kilonova.cli.settings import CloudSettings
from kilonova.cli.state import Secrets
from kilonova.compute.contract.pci import HostPart
from kilonova.compute.settings import ComputeSettings
from kilonova.db.database import Database
from kilonova.http.client import Client, Transport
from kilonova.identity.tokens_for_services import ServiceTokens, ServiceUser
from kilonova.identity.validator import TokenValidator
from kilonova.network.settings import NetworkSettings
from kilonova.policy.files import PolicyFile
from kilonova.policy.rules import Policy, Rule
from kilonova.saga.seal import Sealer

if TYPE_CHECKING:
    from kilonova.db.sqlite import SqliteDatabase


class Ground(ABC):
    """Databases, bus, doors, tokens and policies of one process. `host` is the name it is known by on the bus."""

    def __init__(self, world: LiveWorld, host: str, settings: CloudSettings, secrets: Secrets, directory: Path) -> None:
        self.world = world
        self.host = host
        self.settings = settings
        self.secrets = secrets
        self.directory = directory
        self.mounts: dict[str, Any] = {}
        self.policies: list[PolicyFile] = []
        self.databases: dict[str, Database] = {}
        self._tokens: dict[str, ServiceTokens] = {}

    # ── what the two kinds differ in

    @abstractmethod
    async def database(self, service: str, migrations: str) -> Database:
        """The service's database, at this release's schema."""

    @abstractmethod
    def bus(self, sender: str) -> Bus:
        """The bus as one sender: `conductor`, `compute.node1`."""

    @abstractmethod
    def transport(self, mount: str) -> Transport:
        """How to reach the service mounted there."""

    @abstractmethod
    def public_url(self, path: str) -> str:
        """Where users reach `/identity/v3`: what the catalog says."""

    @abstractmethod
    def internal_url(self, path: str) -> str:
        """Where services reach it."""

    @abstractmethod
    def network_settings(self) -> NetworkSettings:
        """Network's settings for this cloud."""

    # ── what they share

    @cached_property
    def sealer(self) -> Sealer:
        """Seals what is kept secret in databases; hosts have no key for it."""
        return Sealer(self.secrets.deployment_keys)

    @cached_property
    def validator(self) -> TokenValidator:
        """Checks tokens with identity."""
        return TokenValidator(self.world, self.client("/identity"))

    def client(self, mount: str, service_user: str = "") -> Client:
        """A client of the service mounted there; a `service_user`'s token goes beside the user's when named."""
        token = self.token_of(service_user) if service_user else None
        return Client(self.transport(mount), service_token=token)

    def token_of(self, service_user: str) -> Callable[[], Awaitable[str]]:
        """Gives the service user's token, renewed when needed."""
        if service_user not in self._tokens:
            user = ServiceUser(service_user, self.secrets.service_passwords[service_user])
            self._tokens[service_user] = ServiceTokens(self.world, self.client("/identity"), user)
        return self._tokens[service_user].token

    def policy(self, service: str, rules: tuple[Rule, ...], **options: Any) -> Policy:
        """The service's rules, with the operator's overrides from DIRECTORY/policy/SERVICE.yaml."""
        policy = Policy(rules, **options)
        self.watch_policy(service, policy)
        return policy

    def watch_policy(self, service: str, policy: Policy) -> None:
        """Load the overrides now and on SIGHUP."""
        file = PolicyFile(self.directory / "policy" / f"{service}.yaml", policy)
        file.load()
        self.policies.append(file)

    def reload_policies(self) -> list[str]:
        """Read every override file again; warnings about what they say."""
        return [warning for file in self.policies for warning in file.load()]

    def ledger(self, name: str) -> SqliteDatabase:
        """An agent's own ledger, on this machine's disk wherever the services keep theirs."""
        from kilonova.db.sqlite import SqliteDatabase  # a process without a ledger needs none of it

        path = self.directory / "db" / f"ledger-{name}.sqlite"
        return SqliteDatabase(f"ledger-{name}", path, self.world.clock, survives_power_cut=False)

    def host_part(self) -> HostPart:
        """Which CPUs and devices of this machine's hosts are for whom."""
        compute = self.settings.compute
        return HostPart(compute.cpu_shared_set, compute.cpu_dedicated_set, self.settings.pci)

    def compute_settings(self) -> ComputeSettings:
        """Compute's settings with where consoles are and the metadata secret."""
        return dataclasses.replace(
            self.settings.compute,
            console_base=self.public_url("/console"),
            metadata_secret=self.secrets.metadata_secret,
        )
