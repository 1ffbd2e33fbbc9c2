"""World: what a process may touch of time, chance, tasks and threads. Real here; `sim` has a seeded one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from kilonova.base.clock import Clock, SystemClock
from kilonova.base.ids import Ids, SystemIds

T = TypeVar("T")


class World(Protocol):
    """Passed to every service and agent. Nothing calls `time`, `random`, `uuid`, threads or tasks directly."""

    name: str
    clock: Clock
    ids: Ids
    random: random.Random
    dead: bool  # a simulated crash took this process: nothing it does from now on may be seen by others

    async def blocking(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a function that blocks (files, libvirt, hashing) off the event loop: the only way to a thread."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a background task that lives until it ends or the world closes."""
        ...

    async def close(self) -> None:
        """End the background tasks and threads."""
        ...


class LiveWorld:
    """The real world of one process."""

    def __init__(self, name: str, *, threads: int = 8) -> None:
        self.name = name
        self.clock: Clock = SystemClock()
        self.ids: Ids = SystemIds()
        self.random = random.Random()
        self.dead = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-blocking")
        self._tasks: set[asyncio.Task[Any]] = set()

    async def blocking(self, fn: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, fn, *args)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"background task {task.get_name()} failed", "exception": error, "task": task}
            )

    async def close(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
