"""A delete that somebody keeps from ending is over for its user soon, and for the cloud when that somebody is back."""

from __future__ import annotations

import pytest

from kilonova.sim.loop import run
from tests.laws.whole import Whole


@pytest.mark.parametrize("away", ["volume-api", "network", "placement"])
def test_a_delete_ends_for_its_user_and_later_for_the_cloud(away: str) -> None:
    """Long after it gave up trying at once, which once made of it a server with an error, that could be started."""
    whole = Whole(1)

    async def main() -> tuple[list[str], list[str]]:
        await whole.cloud.start_all()
        await whole.sleep(2)
        server_id = await whole.create_server(volume_from_image=True)
        await whole.sleep(30)
        assert whole.cloud.alive(away)
        whole.cloud.crash(away)
        await whole.delete_server(server_id)
        seen = []
        for _ in range(3):
            await whole.sleep(120)
            seen.append(await whole.ask("compute", "GET", f"/v2.1/servers/{server_id}"))
        await whole.settle()  # all that was down comes up, and the books must balance
        return whole.history, [one for one in seen if one is not None]

    history, seen = run(main(), 1)
    assert seen == [], "it is gone for its user"
    assert [line for line in history if "DELETE" in line and ": 204" in line], history
