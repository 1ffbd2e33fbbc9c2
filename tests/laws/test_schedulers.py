"""A scheduler that dies with a question: the server is placed by the next one, once, and nothing is held twice."""

from __future__ import annotations

from kilonova.sim.loop import run
from tests.laws.whole import Whole


def test_a_server_whose_scheduler_dies_is_placed_all_the_same() -> None:
    waited = [run(_build_while_it_dies(Whole(seed)), seed) for seed in range(12)]
    assert max(waited) > 10, "none died with a question: nothing was shown"


async def _build_while_it_dies(whole: Whole) -> float:
    """How long the server took; the scheduler is killed somewhere in its first moments, and comes back."""
    await whole.cloud.start_all()
    await whole.sleep(15)
    began = whole.cloud.user.clock.monotonic()
    server_id = await whole.create_server()
    await whole.sleep(whole.chance.random() * 0.05)
    whole.cloud.crash("scheduler")
    await whole.cloud.start("scheduler")
    while (await _shown(whole, server_id))["status"] == "BUILD":
        await whole.sleep(0.5)
    took = whole.cloud.user.clock.monotonic() - began
    assert (await _shown(whole, server_id))["status"] == "ACTIVE", whole.history
    await whole.settle()
    return took


async def _shown(whole: Whole, server_id: str) -> dict[str, str]:
    answer: dict[str, dict[str, str]] = await whole.ask("compute", "GET", f"/v2.1/servers/{server_id}")
    return answer["server"]
