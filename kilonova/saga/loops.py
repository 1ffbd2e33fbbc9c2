"""Reconcile loops: one question per file, no input, safe to run twice, also run on demand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kilonova.base.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loop:
    """`run(service)` answers the loop's question, mends what it finds, and returns how much it mended.

    `routine`: there is something for it to do every time a user does something, so that it is no news for the log.
    """

    name: str
    every_seconds: float
    run: Callable[[Any], Awaitable[int]]
    routine: bool = False


class Loops:
    """Runs a service's loops in the background; `wake(name)` runs one now."""

    def __init__(self, world: World, service: object, loops: tuple[Loop, ...]) -> None:
        self._world = world
        self._service = service
        self._loops = loops
        self._wakes: dict[str, asyncio.Event] = {}
        self.mended: dict[str, int] = {}
        self.last_error: dict[str, str] = {}

    def start(self) -> None:
        """Start them all."""
        for loop in self._loops:
            self._wakes[loop.name] = asyncio.Event()
            self._world.spawn(self._forever(loop), f"loop {loop.name}")

    def wake(self, name: str) -> None:
        """Something changed that the loop asks about."""
        if event := self._wakes.get(name):
            event.set()

    async def _forever(self, loop: Loop) -> None:
        wake = self._wakes[loop.name]
        while True:
            pause = loop.every_seconds * (0.9 + 0.2 * self._world.random.random())
            # Not asyncio.wait_for: in Python 3.11 it forgets a cancellation that meets the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await wake.wait()
            wake.clear()
            await self.once(loop)

    async def once(self, loop: Loop) -> int:
        """Run it now; a failure is logged and tried again next time."""
        try:
            mended = await loop.run(self._service)
        except Exception as error:  # edge: a loop must go on
            self.last_error[loop.name] = repr(error)
            log.warning("loop %s failed: %r", loop.name, error)
            return 0
        self.last_error.pop(loop.name, None)
        self.mended[loop.name] = self.mended.get(loop.name, 0) + mended
        if mended:
            log.log(logging.DEBUG if loop.routine else logging.INFO, "loop %s mended %d", loop.name, mended)
        return mended
