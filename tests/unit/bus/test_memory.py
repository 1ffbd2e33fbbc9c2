"""The memory bus under simulated trouble: dead processes, replays, lost, late and doubled messages, full queues."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus import memory
from kilonova.bus.contract import Handler, Message, Target
from kilonova.bus.memory import MemoryBroker, MemoryBus, SeededFaults

CONDUCTOR = Target("nova", "conductor")


class MortalWorld(LiveWorld):
    """A world that dies as in simulation, when `dead` is set: nothing it does afterwards is seen."""


def recorder(into: list[Any]) -> Handler:
    async def record(message: Message) -> None:
        into.append(message.args["n"])

    return record


async def test_what_a_dead_process_had_begun_is_done_by_its_successor() -> None:
    broker, mortal, ran = MemoryBroker(), MortalWorld("c1"), list[Any]()
    stuck = asyncio.Event()

    async def never_ends(message: Message) -> None:
        await stuck.wait()
        ran.append("ghost")

    await MemoryBus(mortal, broker, "conductor").serve("nova", "conductor", "c1", {"note": never_ends})
    api = MemoryBus(LiveWorld("api"), broker, "nova-api")
    for n in range(3):
        await api.cast(CONDUCTOR, "note", {"n": n})
    await asyncio.sleep(0.01)
    mortal.dead = True
    await api.cast(CONDUCTOR, "note", {"n": 3})
    assert broker.waiting("nova", "conductor") == 4
    await MemoryBus(LiveWorld("c2"), broker, "conductor").serve("nova", "conductor", "c2", {"note": recorder(ran)})
    await asyncio.sleep(0.01)
    assert ran == [0, 1, 2, 3]
    await mortal.close()


async def test_a_dead_process_never_answers_and_never_goes_on() -> None:
    broker, mortal = MemoryBroker(), MortalWorld("c1")

    async def die(message: Message) -> str:
        mortal.dead = True
        return "from beyond"

    bus = MemoryBus(mortal, broker, "conductor")
    await bus.serve("nova", "conductor", "c1", {"die": die})
    with pytest.raises(Fault, match="No answer from conductor"):
        await MemoryBus(LiveWorld("api"), broker, "nova-api").call(CONDUCTOR, "die", {}, timeout_seconds=0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await bus.cast(CONDUCTOR, "note", {})


async def test_a_replayed_frame_is_dropped() -> None:
    broker, ran, frames = MemoryBroker(), list[Any](), list[tuple[bytes, Message]]()

    class Tap(MemoryBroker):
        def publish(self, frame: bytes, message: Message) -> None:
            frames.append((frame, message))
            super().publish(frame, message)

    broker = Tap()
    await MemoryBus(LiveWorld("c"), broker, "conductor").serve("nova", "conductor", "c", {"note": recorder(ran)})
    await MemoryBus(LiveWorld("api"), broker, "nova-api").cast(CONDUCTOR, "note", {"n": 1})
    MemoryBroker.publish(broker, *frames[0])
    await asyncio.sleep(0.01)
    assert ran == [1]


async def test_a_full_queue_refuses_more() -> None:
    broker = MemoryBroker()
    api = MemoryBus(LiveWorld("api"), broker, "nova-api")
    for n in range(memory.QUEUE_LIMIT):
        await api.cast(CONDUCTOR, "note", {"n": n})
    with pytest.raises(Fault, match="queue of conductor is full") as told:
        await api.cast(CONDUCTOR, "note", {"n": -1})
    assert told.value.kind is Kind.BUSY


async def noisy_run(seed: int) -> list[Any]:
    faults = SeededFaults(random.Random(seed), loss=0.2, delay=0.5, longest_seconds=0.02, double=0.3)
    broker, ran = MemoryBroker(faults=faults), list[Any]()
    await MemoryBus(LiveWorld("c"), broker, "conductor").serve("nova", "conductor", "c", {"note": recorder(ran)})
    api = MemoryBus(LiveWorld("api"), broker, "nova-api")
    for n in range(60):
        await api.cast(CONDUCTOR, "note", {"n": n})
    await asyncio.sleep(0.1)
    return ran


async def test_casts_may_come_late_or_twice_but_never_get_lost() -> None:
    ran = await noisy_run(1)
    assert set(ran) == set(range(60))
    assert len(ran) > 60
    assert ran != sorted(ran)


async def test_calls_may_be_lost_and_then_time_out() -> None:
    broker = MemoryBroker(faults=SeededFaults(random.Random(1), loss=1.0))
    await MemoryBus(LiveWorld("c"), broker, "conductor").serve("nova", "conductor", "c", {})
    with pytest.raises(Fault, match="No answer"):
        await MemoryBus(LiveWorld("api"), broker, "nova-api").call(CONDUCTOR, "note", {}, timeout_seconds=0.05)


async def test_no_more_casts_run_at_once_than_promised() -> None:
    broker, running, most, go = MemoryBroker(), 0, 0, asyncio.Event()

    async def slow(message: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1

    await MemoryBus(LiveWorld("c"), broker, "conductor").serve("nova", "conductor", "c", {"note": slow})
    api = MemoryBus(LiveWorld("api"), broker, "nova-api")
    for n in range(200):
        await api.cast(CONDUCTOR, "note", {"n": n})
    await asyncio.sleep(0.02)
    assert (running, broker.waiting("nova", "conductor")) == (64, 136)
    go.set()
    await asyncio.sleep(0.05)
    assert (running, most) == (0, 64)
