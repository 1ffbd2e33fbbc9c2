"""The ground of the embedded cloud: SQLite files, the bus in memory, doors in process, traces kept here."""

from __future__ import annotations

import dataclasses
from typing import Any

from kilonova.base.world import LiveWorld
from kilonova.bus.contract import Bus
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.cli.claims import VNI_BLOCK
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.traces import TraceKeeper, hand_on
from kilonova.cli.database import upgrade_in_a_child
from kilonova.cli.environment import base_url
from kilonova.cli.settings import CloudSettings
from kilonova.cli.state import Choices, State
from kilonova.cli.trace import trace_file
from kilonova.db.database import Database
from kilonova.db.migrations import missing
from kilonova.db.sqlite import SqliteDatabase
from kilonova.http.client import AsgiTransport
from kilonova.network.settings import NetworkSettings
from kilonova.trace.collect import Batcher

UNDERLAY_MTU = 1550  # of the wire between hosts, less its headers: tunnelled networks then have 1500


class EmbeddedGround(Ground):
    """What every service of the one process stands on."""

    def __init__(self, state: State, choices: Choices, settings: CloudSettings) -> None:
        world = LiveWorld("kilonova", threads=8)
        super().__init__(world, "node1", settings, state.secrets(), state.directory)
        self.state = state
        self.choices = choices
        self.broker = MemoryBroker(self.secrets.bus_secret.encode())
        self.url = base_url(choices)
        self._buses: list[MemoryBus] = []
        self._keeper: TraceKeeper | None = None
        self._batcher: Batcher | None = None

    def network_settings(self) -> NetworkSettings:
        """Network's settings with what `up` chose: VNIs that no cloud beside has, room for tunnels on our underlay."""
        first = self.choices.vni_first
        last = first + VNI_BLOCK - 1
        return dataclasses.replace(self.settings.network, vni_first=first, vni_last=last, underlay_mtu=UNDERLAY_MTU)

    async def database(self, service: str, migrations: str) -> Database:
        if service not in self.databases:
            opened = self.databases[service] = SqliteDatabase(service, self.state.database(service), self.world.clock)
            if await opened.read(missing, migrations):
                await upgrade_in_a_child(self.state)  # all of them, so that the next has nothing missing
        return self.databases[service]

    def bus(self, sender: str) -> Bus:
        bus = MemoryBus(self.world, self.broker, sender)
        self._buses.append(bus)
        return bus

    def transport(self, mount: str) -> AsgiTransport:
        return AsgiTransport(_Late(self.mounts, mount), origin=self.url, prefix=mount)

    def public_url(self, path: str) -> str:
        return self.url + path

    def internal_url(self, path: str) -> str:
        return self.url + path

    def collect_traces(self) -> None:
        """Keep every span of this process in the collector's database."""
        self._keeper = TraceKeeper(self.world, trace_file(self.state))
        self._batcher = hand_on(self.world, self._keeper.keep)

    async def close(self) -> None:
        """Let go of everything, in the order in which it was leaned on."""
        for bus in self._buses:
            await bus.close()
        if self._batcher is not None:
            self._batcher.leave()
            await self._batcher.flush()
        await self.world.close()
        for db in self.databases.values():
            await db.close()
        if self._keeper is not None:
            self._keeper.close()


class _Late:
    """A service that will be mounted: looked up when it is asked, as services refer to each other."""

    def __init__(self, mounts: dict[str, Any], mount: str) -> None:
        self._mounts = mounts
        self._mount = mount

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._mounts[self._mount](scope, receive, send)
