"""What a load balancer hears of an API."""

from __future__ import annotations

from typing import Any

from kilonova.cli.serve import LOOK_SECONDS, Healthcheck
from kilonova.http.client import AsgiTransport
from kilonova.sim.loop import run
from kilonova.sim.world import SimWorld


def test_it_tells_that_the_process_is_ready_and_no_reason_why_it_is_not() -> None:
    async def main() -> None:
        world, wrong, looks = SimWorld("api", 1), list[str](), list[int]()

        async def problems() -> list[str]:
            looks.append(1)
            return wrong

        async def api(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"the API"})

        door = AsgiTransport(Healthcheck(api, problems, world.clock))
        assert (await door.send("GET", "/healthcheck", {}, b"")).status == 200
        assert (await door.send("GET", "/v3", {}, b"")).content == b"the API"
        wrong.append("database compute: password refused for kilonova")
        for _ in range(100):
            assert (await door.send("GET", "/healthcheck", {}, b"")).status == 200
        assert len(looks) == 1, "strangers cannot make it look at the database as often as they like"
        await world.clock.sleep(LOOK_SECONDS * 1.1)
        answer = await door.send("GET", "/healthcheck", {}, b"")
        assert (answer.status, answer.content) == (503, b"UNAVAILABLE\n")

    run(main(), 1)
