"""Traces of a whole cloud in one place: processes cast batches of spans, a collector keeps them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription, Target
from kilonova.bus.rights import TRACE_EXCHANGE, TRACE_TOPIC
from kilonova.trace import metrics
from kilonova.trace.collect import Batcher, SpanStore
from kilonova.trace.spans import RING, Span

KEPT_SECONDS = 60.0  # a batch that no collector took by then is dropped: a trace is never worth a full broker
PRUNE_SECONDS = 600.0
SPANS_KEPT = 200  # thousands would take megabytes, and every new one memory that no cache holds any more


class TraceCollector(Protocol):
    """Served by the process `trace-collector`."""

    @rpc.cast
    async def keep(self, spans: list[Span]) -> None: ...


class TraceKeeper:
    """Implements `TraceCollector`: a span store, and a loop that keeps its retention."""

    def __init__(self, world: World, file: Path) -> None:
        self._world = world
        self._store = SpanStore(file)
        world.spawn(self._prune_forever(), "trace retention")

    async def keep(self, spans: list[Span]) -> None:
        await self._world.blocking(self._store.add, spans)

    async def serve(self, bus: Bus) -> Subscription:
        """Take batches until closed."""
        return await bus.serve(TRACE_EXCHANGE, TRACE_TOPIC, "", rpc.handlers(TraceCollector, self))

    async def _prune_forever(self) -> None:
        while True:
            await self._world.clock.sleep(PRUNE_SECONDS)
            await self._world.blocking(self._store.prune, self._world.clock.now().timestamp())

    def close(self) -> None:
        """Close the file."""
        self._store.close()


def send_traces(world: World, bus: Bus) -> Batcher:
    """Send this process's spans to the collector; a batch that is lost fails nothing."""

    async def send(spans: list[Span]) -> None:
        wire = {"spans": msgspec.to_builtins(spans)}
        await bus.cast(Target(TRACE_EXCHANGE, TRACE_TOPIC), "keep", wire, deadline_seconds=KEPT_SECONDS)

    return hand_on(world, send)


def hand_on(world: World, send: Callable[[list[Span]], Awaitable[None]]) -> Batcher:
    """Give this process's spans to `send` in batches; of what is gone the process itself keeps little."""
    RING.keep(SPANS_KEPT)
    batcher = Batcher(RING, send, world.clock)
    metrics.watch_dropped_spans(lambda: batcher.dropped)
    metrics.watch("spans waiting", lambda: batcher.waiting)
    world.spawn(batcher.run(), "trace batches")
    return batcher
