"""The machine that a whole cloud runs on loses its power at some commit: every process, guest and message is gone, and
what was committed without a wait for the disk (decision 37). What was answered stands, what was under way ends.
"""

from __future__ import annotations

import pytest

from kilonova.compute.server import create
from kilonova.sim import whole_books
from kilonova.sim.loop import run
from tests.laws.whole import Whole

COMMITS = 45  # two creates and a delete make about so many


async def cut_work(whole: Whole, commit: int) -> None:
    """Servers are made and deleted until the power is cut at that commit; when it is back, perhaps at once deleted."""
    chance, cloud = whole.chance, whole.cloud
    await cloud.start_all()
    await whole.sleep(12)
    cloud.cut_power_after(commit)
    gone: list[str] = []
    while cloud.alive("compute-api"):
        if chance.random() < 0.6 or not whole.servers:
            await whole.create_server(volume_from_image=chance.random() < 0.2)
        elif await _deleted(whole, one := chance.choice(whole.servers)):
            gone.append(one)
        await whole.sleep(chance.random() * 3)
    whole.history.append(f"{cloud.user.clock.monotonic():8.2f} the power is cut at commit {commit}")
    await whole.sleep(5)
    await cloud.start_all()
    for one in whole.servers:
        if chance.random() < 0.5:
            await whole.sleep(chance.random() * 0.2)
            if await _deleted(whole, one):
                gone.append(one)
    await whole.settle()
    _kept_its_word(whole, gone)


async def _deleted(whole: Whole, server_id: str) -> bool:
    return await whole.ask("compute", "DELETE", f"/v2.1/servers/{server_id}") is not None


def _kept_its_word(whole: Whole, gone: list[str]) -> None:
    known = {server.id: server for server in whole_books.Seen(whole.cloud).servers}
    told = [f"server {one} was accepted and is unknown" for one in whole.servers if one not in known]
    told += [f"server {one} was deleted and is {known[one].vm_state}" for one in gone
             if one in known and known[one].deleted_at is None and known[one].vm_state != "soft-delete"]  # fmt: skip
    assert not told, "\n".join([f"seed {whole.cloud.seed}", *told, "history:", *whole.history])


def cut(seed: int, *hasty: str) -> None:
    """The run of a seed, settled after its power cut."""
    run(cut_work(Whole(seed, faulty=seed % 4 == 0, hasty=hasty), 1 + seed % COMMITS), seed)


@pytest.mark.parametrize("block", range(6))
def test_what_was_answered_stands_and_the_rest_ends_whenever_the_power_is_cut(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        cut(seed)


def test_the_law_sees_an_answer_that_did_not_wait_for_the_disk() -> None:
    with pytest.raises(AssertionError, match="was accepted and is unknown"):
        for seed in range(COMMITS):
            cut(seed, create.record.__name__)
