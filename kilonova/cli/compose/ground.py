"""The ground of the embedded cloud: databases, bus, doors in process, tokens, traces. Services are built on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.base.world import LiveWorld
from kilonova.bus.contract import Bus
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.cli.environment import base_url
from kilonova.cli.settings import CloudSettings
from kilonova.cli.state import VNI_BLOCK, Choices, Secrets, State
from kilonova.cli.trace import trace_file
from kilonova.compute.core import ComputeSettings
from kilonova.db.migrations import ensure_current
from kilonova.db.sqlite import SqliteDatabase
from kilonova.http.client import AsgiTransport, Client
from kilonova.identity.core import IdentityService
from kilonova.identity.tokens_for_services import ServiceTokens, ServiceUser
from kilonova.identity.validator import TokenValidator
from kilonova.network.settings import NetworkSettings
from kilonova.policy.files import PolicyFile
from kilonova.policy.rules import Policy, Rule
from kilonova.saga.seal import Sealer
from kilonova.trace.collect import Batcher, SpanStore
from kilonova.trace.spans import RING, Span

TRACE_PRUNE_SECONDS = 600.0
UNDERLAY_MTU = 1550  # of the wire between hosts, less its headers: tunnelled networks then have 1500


class Ground:
    """What every service of the one process stands on."""

    def __init__(self, state: State, choices: Choices, settings: CloudSettings) -> None:
        self.state = state
        self.choices = choices
        self.settings = settings
        self.secrets: Secrets = state.secrets()
        self.world = LiveWorld("kilonova", threads=8)
        self.sealer = Sealer(self.secrets.deployment_keys)
        self.broker = MemoryBroker(self.secrets.bus_secret.encode())
        self.url = base_url(choices)
        self.mounts: dict[str, Any] = {}
        self.policies: list[PolicyFile] = []
        self.databases: dict[str, SqliteDatabase] = {}
        self.identity: IdentityService | None = None
        self.validator = TokenValidator(self.world, self.client("/identity"))
        self._tokens: dict[str, ServiceTokens] = {}
        self._buses: list[MemoryBus] = []
        self._spans: SpanStore | None = None
        self._batcher: Batcher | None = None

    def network_settings(self) -> NetworkSettings:
        """Network's settings with what `up` chose: VNIs that no cloud beside has, room for tunnels on our underlay."""
        first = self.choices.vni_first
        last = first + VNI_BLOCK - 1
        return dataclasses.replace(self.settings.network, vni_first=first, vni_last=last, underlay_mtu=UNDERLAY_MTU)

    def compute_settings(self) -> ComputeSettings:
        """Compute's settings with where consoles are and the metadata secret."""
        return dataclasses.replace(
            self.settings.compute,
            console_base=f"{self.url}/console",
            metadata_secret=self.secrets.metadata_secret,
        )

    async def database(self, service: str, migrations: str) -> SqliteDatabase:
        """The service's database, at this release's schema."""
        db = SqliteDatabase(service, self.state.database(service), self.world.clock)
        self.databases[service] = db
        await ensure_current(db, migrations)
        return db

    def bus(self, sender: str) -> Bus:
        """The bus as one sender."""
        bus = MemoryBus(self.world, self.broker, sender)
        self._buses.append(bus)
        return bus

    def policy(self, service: str, rules: tuple[Rule, ...], **options: Any) -> Policy:
        """The service's rules, with the operator's overrides from STATE/policy/SERVICE.yaml."""
        policy = Policy(rules, **options)
        self.watch_policy(service, policy)
        return policy

    def watch_policy(self, service: str, policy: Policy) -> None:
        """Load the overrides now and on SIGHUP."""
        file = PolicyFile(self.state.policies / f"{service}.yaml", policy)
        file.load()
        self.policies.append(file)

    def client(self, mount: str, service_user: str = "") -> Client:
        """A client of the service mounted there; a `service_user`'s token goes beside the user's when named."""
        transport = AsgiTransport(_Late(self.mounts, mount), origin=self.url, prefix=mount)
        return Client(transport, service_token=self.token_of(service_user) if service_user else None)

    def token_of(self, service_user: str) -> Callable[[], Awaitable[str]]:
        """Gives the service user's token, renewed when needed."""
        if service_user not in self._tokens:
            user = ServiceUser(service_user, self.secrets.service_passwords[service_user])
            self._tokens[service_user] = ServiceTokens(self.world, self.client("/identity"), user)
        return self._tokens[service_user].token

    def collect_traces(self) -> None:
        """Keep every span of this process in the collector's database."""
        self._spans = SpanStore(trace_file(self.state))
        self._batcher = Batcher(self._store_spans, self.world.clock)
        RING.sinks.append(self._batcher)
        self.world.spawn(self._batcher.run(), "trace batches")
        self.world.spawn(self._prune_forever(), "trace retention")

    async def _store_spans(self, spans: list[Span]) -> None:
        if self._spans is not None:
            await self.world.blocking(self._spans.add, spans)

    async def _prune_forever(self) -> None:
        while True:
            await self.world.clock.sleep(TRACE_PRUNE_SECONDS)
            if self._spans is not None:
                await self.world.blocking(self._spans.prune, self.world.clock.now().timestamp())

    async def close(self) -> None:
        """Let go of everything, in the order in which it was leaned on."""
        for bus in self._buses:
            await bus.close()
        if self._batcher is not None:
            RING.sinks.remove(self._batcher)
            await self._batcher.flush()
        await self.world.close()
        for db in self.databases.values():
            await db.close()
        if self._spans is not None:
            self._spans.close()


class _Late:
    """A service that will be mounted: looked up when it is asked, as services refer to each other."""

    def __init__(self, mounts: dict[str, Any], mount: str) -> None:
        self._mounts = mounts
        self._mount = mount

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._mounts[self._mount](scope, receive, send)
