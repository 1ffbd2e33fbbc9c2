"""A process that was told to stop while one of its loops was woken never ended: Python 3.11's wait_for ate the end."""

from __future__ import annotations

import asyncio

from kilonova.base.world import LiveWorld
from kilonova.saga.loops import Loop, Loops


async def _nothing(_service: object) -> int:
    return 0


async def test_a_loop_that_is_woken_and_cancelled_at_once_ends() -> None:
    world = LiveWorld("woken")
    loops = Loops(world, None, (Loop("bindings", 60.0, _nothing),))
    loops.start()
    await asyncio.sleep(0)
    loops.wake("bindings")
    await asyncio.sleep(0)
    loops.wake("bindings")
    await asyncio.wait_for(world.close(), 10)
