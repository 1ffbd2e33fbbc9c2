"""Volumes are created, extended and deleted by the four laws, in simulation with the real agent."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kilonova.base.faults import no_capacity
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from tests.laws.storage import IMAGE, Storage


async def _life(storage: Storage, kind: str) -> str:
    """Create a volume from an image, and what `kind` says after it."""
    await storage.start()
    volume_id = await storage.create(imageRef=IMAGE.id)
    await storage.settle()
    if kind == "extend":
        await storage.api().post(f"/v3/volumes/{volume_id}/action", {"os-extend": {"new_size": 9}}, 202)
        await storage.settle()
    if kind == "delete":
        await storage.api().delete(f"/v3/volumes/{volume_id}", 202)
        await storage.settle()
    return volume_id


def _steps(kind: str) -> list[tuple[str, int]]:
    storage = Storage(0, Plan(kind))
    run(_life(storage, kind), 0)
    storage.check_books()
    return storage.seams.steps


ALL = [plan for kind in ("create", "extend", "delete") for plan in plans(kind, _steps(kind))]
FAILED = {"create": "error", "extend": "error_extending", "delete": "error_deleting"}


@pytest.mark.parametrize("plan", ALL, ids=str)
def test_four_laws(plan: Plan) -> None:
    storage = Storage(1, plan)
    volume_id = run(_life(storage, plan.kind), 1)
    failed = plan.how in ("fail", "undo twice")
    if failed:
        assert storage.statuses() == {volume_id: FAILED[plan.kind]}
    elif plan.kind == "delete":
        assert storage.statuses() == {}
    else:
        assert storage.statuses() == {volume_id: "available"}
        assert storage.pools["node1@files"].sizes == {volume_id: 9 if plan.kind == "extend" else 4}
    if plan.kind == "create" or not failed:
        storage.check_books()


def test_every_operation_has_steps() -> None:
    assert len({plan.at for plan in ALL if plan.kind == "create" and plan.at[0]}) >= 3
    assert {plan.at[0] for plan in ALL if plan.kind == "delete"} >= {"find_backend", "delete_volume"}


@pytest.mark.parametrize("seed", range(20))
def test_a_forced_delete_while_it_is_made_wins_and_leaves_nothing(seed: int) -> None:
    storage = Storage(seed, faulty=seed % 2 == 0)

    async def main() -> None:
        await storage.start()
        volume_id = await storage.create()
        await storage.world.clock.sleep(random.Random(seed).random() * 3)
        await storage.api("admin").post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": {}}, 202)
        await storage.settle()

    run(main(), seed)
    assert storage.statuses() == {}
    storage.check_books()


def test_a_backend_that_fails_gives_way_to_the_next() -> None:
    storage = Storage(2)
    storage.add_pool("node2@small", 100)
    storage.pools["node1@files"].refuse("ensure_volume", no_capacity("It is full."))

    async def main() -> str:
        await storage.start()
        return await storage.available()

    volume_id = run(main(), 2)
    assert storage.pools["node2@small"].sizes == {volume_id: 4}
    storage.check_books()


def test_the_owner_is_told_why_it_failed() -> None:
    storage = Storage(3)
    storage.pools["node1@files"].refuse("ensure_volume", no_capacity("Backend files is full.", hint="Delete some."))

    async def main() -> Any:
        await storage.start()
        volume_id = await storage.create()
        await storage.settle()
        return volume_id, (await storage.api().get("/v3/messages"))["messages"]

    volume_id, told = run(main(), 3)
    assert storage.statuses() == {volume_id: "error"}
    assert [(one["resource_uuid"], one["user_message"]) for one in told] == [
        (volume_id, "Backend files is full. Delete some.")
    ]


def test_the_image_is_fetched_with_the_users_token() -> None:
    storage = Storage(4)
    run(_life(storage, "create"), 4)
    assert set(storage.images.tokens) == {"member"}


def test_what_was_deleted_while_the_agent_was_away_goes_and_what_is_unknown_stays() -> None:
    storage = Storage(5)
    pool = storage.pools["node1@files"]

    async def main() -> str:
        await storage.start()
        volume_id = await storage.available()
        await storage.api().delete(f"/v3/volumes/{volume_id}", 202)
        await storage.settle()
        pool.sizes |= {volume_id: 4, "of-another-cloud": 7}
        await storage.world.clock.sleep(70)
        return volume_id

    run(main(), 5)
    assert set(pool.sizes) == {"of-another-cloud"}


@pytest.mark.parametrize("seed", range(10))
def test_crashes_and_a_bad_network_balance(seed: int) -> None:
    storage = Storage(seed, faulty=True)

    async def main() -> None:
        chance = random.Random(f"work {seed}")
        await storage.start()
        await storage.world.clock.sleep(15)
        for _ in range(5):
            volume_id = await storage.create()
            await storage.world.clock.sleep(chance.random() * 2)
            if chance.random() < 0.4:
                await storage.api("admin").post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": {}}, 202)
            if chance.random() < 0.4:
                storage.crash_schedulers()
                await storage.start_scheduler()
            if chance.random() < 0.4:
                storage.crash_agent()
                await storage.world.clock.sleep(chance.random() * 10)
                await storage.start_agent()
        await storage.settle()

    run(main(), seed)
    storage.check_books()


def test_racing_requests_cannot_pass_the_quota() -> None:
    storage = Storage(6)

    async def main() -> list[int]:
        await storage.start()
        body = {"volume": {"size": 1}}
        sent = [storage.world.spawn(storage.api().send("POST", "/v3/volumes", body), f"{n}") for n in range(15)]
        return [(await one).status for one in sent]

    statuses = run(main(), 6)
    assert (statuses.count(202), statuses.count(413)) == (10, 5)
    assert len(storage.statuses()) == 10
