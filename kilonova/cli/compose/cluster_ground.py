"""The ground of one process of a cluster: database servers, RabbitMQ, and the other services over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

from kilonova.base.faults import Fault, conflict, invalid
from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.amqp_link import Access
from kilonova.bus.signing import AGENT_TYPES, DerivedKeys, agent_keys
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.traces import send_traces
from kilonova.cli.encryption import Encryption, database_url, encryption_of
from kilonova.cli.settings import CloudSettings
from kilonova.cli.state import Secrets
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current, missing
from kilonova.http.client import HttpTransport
from kilonova.network.settings import NetworkSettings
from kilonova.trace.collect import Batcher

SKEW = timedelta(seconds=2)


class ClusterGround(Ground):
    """`name` is what the process was started as. Nothing is connected until it is asked for."""

    def __init__(
        self, name: str, host: str, settings: CloudSettings, secrets: Secrets, encryption: Encryption | None = None
    ) -> None:
        self.cluster = settings.cluster
        self.encryption = encryption or encryption_of(settings.cluster)
        self.tls = self.encryption.tls
        super().__init__(LiveWorld(host), host, settings, secrets, Path(self.cluster.directory))
        self.name = name
        self.leaving = False
        self.closing: list[Callable[[], Awaitable[None]]] = []  # run first to last when the process ends
        self._buses: dict[str, AmqpBus] = {}
        self._transports: dict[str, HttpTransport] = {}
        self._batcher: Batcher | None = None

    async def database(self, service: str, migrations: str) -> Database:
        if service not in self.databases and (todo := await self.missing(service, migrations)):
            raise conflict(
                f"The database of {service} is not at this release's schema: {todo[0]} is missing.",
                hint="Run `kilonova db upgrade --config FILE` once, then start the services.",
            )
        return self.databases[service]

    async def upgrade(self, service: str, migrations: str) -> list[str]:
        """Bring a service's database to this release's schema; the names applied."""
        return await ensure_current(self._server(service), migrations)

    async def missing(self, service: str, migrations: str) -> list[str]:
        """What a service's database lacks of this release's schema."""
        return await self._server(service).read(missing, migrations)

    def _server(self, service: str) -> Database:
        from kilonova.db.server import ServerDatabase  # agents have no database server, and need not load one

        template = self.cluster.database
        if "{service}" not in template:
            raise invalid(
                "[cluster] database must be a URL with {service} in it.",
                hint='For example "postgresql://kilonova:PASSWORD@db.example/kilonova_{service}".',
            )
        url, encrypted = database_url(template.replace("{service}", service))
        connections, tls = self.cluster.database_connections, self.tls.client if encrypted else None
        db = self.databases[service] = ServerDatabase(service, url, self.world, pool_size=connections, tls=tls)
        return db

    def bus(self, sender: str) -> AmqpBus:
        if sender not in self._buses:
            if not self.cluster.brokers:
                raise invalid("[cluster] brokers names no broker.", hint='brokers = ["amqp://user:password@host/"]')
            access = Access(as_host=bool(self.secrets.bus_keys), tls=self.tls.client)
            self._buses[sender] = AmqpBus(self.world, self.cluster.brokers, sender, self._keys(sender), access)
            self._buses[sender].connect()
        return self._buses[sender]

    def _keys(self, sender: str) -> Mapping[str, bytes]:
        """An agent's ring holds its own key and its type's; only the control plane can speak as anybody."""
        if self.secrets.bus_keys:
            return {name: bytes.fromhex(key) for name, key in self.secrets.bus_keys.items()}
        secret = self.secrets.bus_secret.encode()
        return agent_keys(secret, sender) if sender.partition(".")[0] in AGENT_TYPES else DerivedKeys(secret)

    def transport(self, mount: str) -> HttpTransport:
        if mount not in self._transports:
            self._transports[mount] = HttpTransport(self.internal_url(mount), verify=self.tls.client)
        return self._transports[mount]

    def public_url(self, path: str) -> str:
        return f"{self.cluster.url.rstrip('/')}{path}" if self.cluster.url else self.internal_url(path)

    def internal_url(self, path: str) -> str:
        return self.cluster.internal_url(path)

    def network_settings(self) -> NetworkSettings:
        return self.settings.network

    def send_traces(self, sender: str) -> None:
        """Cast this process's spans to the collector, in the name of one that it has on the bus anyway."""
        self._batcher = send_traces(self.world, self.bus(sender))

    async def problems(self) -> list[str]:
        """What keeps this process from being ready."""
        found = ["it is leaving"] if self.leaving else []
        found += [f"no broker for {sender}" for sender, bus in self._buses.items() if not bus.is_up]
        for name, db in self.databases.items():
            try:
                before = self.world.clock.now()
                there = await db.read(db.now)
                after = self.world.clock.now()
                if there < before - SKEW or there > after + SKEW:
                    found.append(f"the clock is {(after - there).total_seconds():.1f} s ahead of database {name}'s")
            except Fault as fault:
                found.append(f"database {name}: {fault.message}")
        return found

    async def close(self) -> None:
        """Let go of everything, in the order in which it was leaned on."""
        for close in self.closing:
            await close()
        if self._batcher is not None:
            self._batcher.leave()
            await self._batcher.flush()
        for bus in self._buses.values():
            await bus.close()
        for transport in self._transports.values():
            await transport.close()
        await self.world.close()
        for db in self.databases.values():
            await db.close()
