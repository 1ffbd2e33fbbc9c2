"""A seeded event loop with virtual time: one seed replays one history; a simulated hour costs only its events.

It overrides CPython's private `_run_once` and `_ready`; tests/unit/sim pins that they behave as we rely on.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import random
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from kilonova.sim.world import is_buried

T = TypeVar("T")


class _NoWait(selectors.BaseSelector):
    """A selector that never waits and never sees anything: the simulation has no sockets."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, -1, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def get_map(self) -> Any:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class Deadlock(Exception):
    """Nothing is ready and no timer is set: whoever waits, waits for ever."""


class SimLoop(asyncio.SelectorEventLoop):
    """Runs ready callbacks in a seeded order and jumps over waiting."""

    def __init__(self, seed: int, *, shuffle: bool = True) -> None:
        super().__init__(_NoWait())
        self.random = random.Random(seed)
        self._now = 0.0
        self._shuffle = shuffle
        self.steps = 0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Deadlock
            self._now = max(self._now, scheduled[0]._when)
        if self._shuffle and len(ready) > 1:
            order = list(ready)
            self.random.shuffle(order)
            ready.clear()
            ready.extend(order)
        self.steps += 1
        super()._run_once()  # type: ignore[misc]


def run(main: Coroutine[Any, Any, T], seed: int, *, shuffle: bool = True) -> T:
    """What `main` returns on a fresh SimLoop with `seed`. Tasks left behind are dropped, not cancelled: while there is
    still a loop, because a `finally` of theirs may need one."""
    loop = SimLoop(seed, shuffle=shuffle)
    loop.set_exception_handler(lambda _loop, _context: None)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            work = task.get_coro()
            if inspect.iscoroutine(work) and not is_buried(work):
                with contextlib.suppress(RuntimeError):  # a `finally` that wanted to wait for something
                    work.close()
        asyncio.set_event_loop(None)
        loop.close()
