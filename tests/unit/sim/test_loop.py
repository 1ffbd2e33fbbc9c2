"""The simulation's loop stands on private parts of asyncio: this pins that they behave as we rely on."""

from __future__ import annotations

import asyncio
import time

import pytest

from kilonova.sim.loop import Deadlock, run
from kilonova.sim.world import EPOCH, SimWorld


def history(seed: int) -> list[str]:
    """In which order ten tasks with equal and with random pauses came to an end."""
    seen: list[str] = []
    world = SimWorld("one", seed)

    async def work(number: int) -> None:
        await world.clock.sleep(1)
        seen.append(f"{number} at {world.clock.monotonic():.3f}")
        await world.clock.sleep(world.random.random())
        seen.append(f"{number} ended {world.ids.uuid()}")

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    run(main(), seed)
    return seen


def test_one_seed_is_one_history() -> None:
    assert history(7) == history(7)


def test_seeds_differ_in_the_order_of_what_is_ready() -> None:
    orders = {tuple(line.split()[0] for line in history(seed)[:10]) for seed in range(20)}
    assert len(orders) > 15


def test_without_shuffling_the_order_is_asyncios_own() -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def note(number: int) -> None:
            await asyncio.sleep(0)
            seen.append(number)

        await asyncio.gather(*(note(number) for number in range(20)))
        return seen

    assert run(main(), 3, shuffle=False) == list(range(20))
    assert run(main(), 3) != list(range(20))


def test_waiting_costs_no_real_time() -> None:
    world = SimWorld("one", 1)

    async def main() -> float:
        await world.clock.sleep(86_400)
        assert (world.clock.now() - EPOCH).total_seconds() == pytest.approx(86_400)
        return world.clock.monotonic()

    began = time.monotonic()
    assert run(main(), 1) == pytest.approx(86_400)
    assert time.monotonic() - began < 5


def test_timeouts_fire_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 30)
        return asyncio.get_running_loop().time()

    assert run(main(), 1) == pytest.approx(30)


def test_waiting_for_ever_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(main(), 1)


def test_cancelled_timers_do_not_hide_a_deadlock() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(10, print).cancel()
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(main(), 1)


def test_a_crash_runs_no_finally() -> None:
    """As kill -9: what a process had not written by then, it never writes."""
    tidied: list[str] = []
    world, examiner = SimWorld("victim", 1), SimWorld("examiner", 1)

    async def work() -> None:
        try:
            await world.clock.sleep(5)
            tidied.append("went on")
        finally:
            tidied.append("finally")

    async def main() -> None:
        world.spawn(work(), "work")
        await examiner.clock.sleep(1)
        world.crash()
        await examiner.clock.sleep(60)

    run(main(), 1)
    assert tidied == []


def test_the_dead_start_nothing() -> None:
    began: list[str] = []
    world = SimWorld("victim", 1)

    async def work() -> None:
        began.append("work")

    async def main() -> None:
        world.crash()
        world.spawn(work(), "work")
        await asyncio.sleep(1)

    run(main(), 1)
    assert began == []


def test_an_orderly_close_does_run_finally() -> None:
    tidied: list[str] = []
    world = SimWorld("one", 1)

    async def work() -> None:
        try:
            await world.clock.sleep(5)
        finally:
            tidied.append("finally")

    async def main() -> None:
        world.spawn(work(), "work")
        await asyncio.sleep(1)
        await world.close()
        await asyncio.sleep(1)

    run(main(), 1)
    assert tidied == ["finally"]
