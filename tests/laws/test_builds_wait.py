"""A build that meets a service that is away waits a minute for it, in BUILD, and then says what was away."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.sim.loop import run
from tests.laws.whole import Whole

SERVICES = ["volume-api", "network", "image", "placement"]


async def built(whole: Whole, away: str, seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """A server is accepted, and then a service is away for so long. Its id; what its user saw every five seconds."""
    await whole.cloud.start_all()
    await whole.sleep(30)
    server_id = await whole.create_server(volume_from_image=True)
    assert server_id and whole.cloud.alive(away)
    whole.cloud.crash(away)
    seen = []
    for _ in range(int(seconds / 5)):
        await whole.sleep(5)
        answer = await whole.ask("compute", "GET", f"/v2.1/servers/{server_id}")
        seen.append(answer["server"])
    return server_id, seen


@pytest.mark.parametrize("away", SERVICES)
def test_a_service_that_comes_back_is_no_error(away: str) -> None:
    whole = Whole(1)

    async def main() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        server_id, seen = await built(whole, away, 45)
        await whole.cloud.start_all()
        await whole.sleep(60)
        answer = await whole.ask("compute", "GET", f"/v2.1/servers/{server_id}")
        await whole.settle()
        return seen, answer["server"]

    seen, ended = run(main(), 1)
    assert {one["status"] for one in seen} == {"BUILD"}
    assert ended["status"] == "ACTIVE", ended


@pytest.mark.parametrize("away", SERVICES)
def test_one_that_stays_away_is_an_error_with_the_reason_after_about_a_minute(away: str) -> None:
    whole = Whole(1)

    async def main() -> list[dict[str, Any]]:
        _, seen = await built(whole, away, 120)
        await whole.settle()
        return seen

    seen = run(main(), 1)
    assert [one["status"] for one in seen[:9]] == ["BUILD"] * 9, "it was waited for"
    assert seen[-1]["status"] == "ERROR"
    assert "does not answer" in seen[-1]["fault"]["message"]
