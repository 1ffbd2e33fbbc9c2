"""A simulated process's World: virtual clock, seeded chance, and death. After `crash` nothing it awaits returns,
its tasks are dropped (not cancelled), so that no `finally` tidies up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids, SeededIds

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_graveyard: set[Any] = set()  # dead tasks are kept from the garbage collector, which would run their `finally`


def is_buried(work: Any) -> bool:
    """Whether a coroutine was a crashed process's: it must never run again, not even to its `finally`."""
    return work in _graveyard


class SimClock:
    """The loop's virtual time."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await self._world.seam()
        await asyncio.sleep(seconds)
        await self._world.seam()


class SimWorld:
    """One simulated process."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.dead = False
        self.random = random.Random(f"{seed}/{name}")
        self.ids: Ids = SeededIds(self.random)
        self.clock: Clock = SimClock(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._died: asyncio.Future[None] | None = None

    @property
    def died(self) -> asyncio.Future[None]:
        """Done once the process has crashed: what those see who wait for it."""
        if self._died is None:
            self._died = asyncio.get_running_loop().create_future()
        return self._died

    async def seam(self) -> None:
        """A place where the process may be found dead: then this never returns."""
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def blocking(self, fn: Callable[..., T], *args: Any) -> T:
        await self.seam()
        result = fn(*args)
        await asyncio.sleep(0)
        await self.seam()
        return result

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        if self.dead:
            work.close()
            return asyncio.get_running_loop().create_task(asyncio.sleep(0))
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def crash(self) -> None:
        """The process is gone, as by kill -9."""
        self.dead = True
        if self._died is not None and not self._died.done():
            self._died.set_result(None)
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _graveyard.add(task.get_coro())
        _graveyard.update(self._tasks)

    async def close(self) -> None:
        """An orderly end."""
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
