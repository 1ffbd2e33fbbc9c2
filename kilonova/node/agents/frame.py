"""The frame of every network agent: serve, coalesce what changed, fetch and build it, report, begin again.

One build runs at a time. Ids that arrive while it runs, or shortly after, wait and go together into the next. A build
that fails is tried again with back-off, with the ids that arrived meanwhile; nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler, Subscription, Target
from kilonova.network.contract import EXCHANGE, PLUGIN_TOPIC, AgentReport, Plugin

log = logging.getLogger(__name__)

Changed = tuple[str, str]  # ("port" | "network" | "router", id)


@dataclass(frozen=True)
class AgentSettings:
    """How an agent paces itself, and what it tells of its host."""

    resync_seconds: float = 300.0
    report_seconds: float = 10.0
    burst_seconds: float = 0.02  # from one build to the next, while changes gather; what comes later waits for nothing
    retry_seconds: float = 0.5  # first back-off; doubles up to `retry_limit_seconds`
    retry_limit_seconds: float = 30.0
    tunnel_ip: str = ""
    physical_networks: tuple[str, ...] = ()
    configurations: Mapping[str, str] = field(default_factory=dict)


class Unbuilt(Exception):
    """Everything was built but these."""

    def __init__(self, changed: set[Changed]) -> None:
        super().__init__(f"not built: {sorted(changed)}")
        self.changed = changed


class Pending:
    """What is to be built next: everything, or these ids. Taking it empties it; giving it back merges."""

    def __init__(self) -> None:
        self._everything = False
        self._changed: set[Changed] = set()
        self._wake = asyncio.Event()

    def add(self, changed: Iterable[Changed]) -> None:
        """Build these too."""
        self._changed.update(changed)
        if self._changed:
            self._wake.set()

    def add_everything(self) -> None:
        """Build all; single ids are part of it."""
        self._everything = True
        self._wake.set()

    async def wait(self) -> None:
        """Return when there is something to build."""
        await self._wake.wait()

    def take(self) -> set[Changed] | None:
        """What to build now; None is everything."""
        everything, changed = self._everything, self._changed
        self._everything, self._changed = False, set()
        self._wake.clear()
        return None if everything else changed

    def give_back(self, taken: set[Changed] | None) -> None:
        """A build failed: do it again."""
        if taken is None:
            self.add_everything()
        else:
            self.add(taken)


class Agent:
    """Base of the agents: subclasses say what they serve, how they build, and who they are."""

    agent_type = ""
    binary = ""
    topic = ""

    def __init__(self, world: World, bus: Bus, host: str, settings: AgentSettings | None = None) -> None:
        self.world, self.bus, self.host = world, bus, host
        self.settings = settings or AgentSettings()
        self.plugin: Plugin = rpc.client(Plugin, bus, Target(EXCHANGE, PLUGIN_TOPIC))
        self.pending = Pending()
        self.synced = asyncio.Event()  # set after the first full build
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    def handlers(self) -> Mapping[str, Handler]:
        """What the agent serves on `TOPIC.HOST`; empty: nothing."""
        return {}

    async def build(self, changed: set[Changed] | None) -> None:
        """Fetch and build what changed; None is everything. Raises when it must be tried again."""

    async def start(self) -> None:
        """Serve, report, and begin the first full build; returns at once (`synced` says when it is built)."""
        if served := self.handlers():
            self._subscription = await self.bus.serve(EXCHANGE, self.topic, self.host, served)
        self.pending.add_everything()
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("build", self._build_loop),
            ("resync", self._resync_loop),
            ("report", self._report_loop),
        ]
        self._tasks = [self.world.spawn(_run(loop), f"{self.binary} {name}") for name, loop in loops]

    async def close(self) -> None:
        """Stop. What is built stays, and goes on working."""
        if self._subscription:
            await self._subscription.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _build_loop(self) -> None:
        delay, rests_until = self.settings.retry_seconds, 0.0
        while True:
            await self.pending.wait()
            if (rest_seconds := rests_until - self.world.clock.monotonic()) > 0:
                await self.world.clock.sleep(rest_seconds)
            taken = self.pending.take()
            try:
                await self.build(taken)
            except Exception as error:  # the edge: whatever a build raises, the agent lives and tries again
                log.warning("%s on %s: build failed, trying again: %r", self.binary, self.host, error)
                if isinstance(error, Unbuilt) and taken is None:
                    self.synced.set()
                self.pending.give_back(error.changed if isinstance(error, Unbuilt) else taken)
                await self.world.clock.sleep(delay * (0.5 + self.world.random.random()))
                delay = min(delay * 2, self.settings.retry_limit_seconds)
                continue
            delay = self.settings.retry_seconds
            rests_until = self.world.clock.monotonic() + self.settings.burst_seconds
            if taken is None:
                self.synced.set()

    async def _resync_loop(self) -> None:
        while True:
            await self.world.clock.sleep(self.settings.resync_seconds)
            self.pending.add_everything()

    async def _report_loop(self) -> None:
        while True:
            try:
                await self.plugin.report_state(self._report())
            except Fault as fault:
                level = logging.DEBUG if fault.kind is Kind.UNAVAILABLE else logging.WARNING
                log.log(level, "%s on %s: report failed: %r", self.binary, self.host, fault)
            await self.world.clock.sleep(self.settings.report_seconds)

    def _report(self) -> AgentReport:
        return AgentReport(
            agent_type=self.agent_type,
            binary=self.binary,
            host=self.host,
            topic=self.topic,
            tunnel_ip=self.settings.tunnel_ip,
            physical_networks=self.settings.physical_networks,
            configurations=dict(self.settings.configurations),
        )


async def _run(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()
