"""Snapshots are created and deleted by the four laws, in simulation with the real agent."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa

from kilonova.block_storage.snapshot.store import snapshots
from kilonova.sim.laws import Plan, plans
from kilonova.sim.loop import run
from tests.laws.storage import Storage


async def _life(storage: Storage, kind: str) -> str:
    """A snapshot of a volume, and what `kind` says after it."""
    await storage.start()
    volume_id = await storage.available()
    body = {"snapshot": {"volume_id": volume_id, "name": "s"}}
    made = (await storage.api().post("/v3/snapshots", body, 202))["snapshot"]
    await storage.settle()
    if kind == "delete_snapshot":
        await storage.api().delete(f"/v3/snapshots/{made['id']}", 202)
        await storage.settle()
    return str(made["id"])


def _statuses(storage: Storage) -> dict[str, str]:
    with storage.db.engine.connect() as connection:
        return {row.id: row.status for row in connection.execute(sa.select(snapshots.c.id, snapshots.c.status))}


def _steps(kind: str) -> list[tuple[str, int]]:
    storage = Storage(0, Plan(kind))
    run(_life(storage, kind), 0)
    storage.check_books()
    return storage.seams.steps


KINDS = {"create_snapshot": "error", "delete_snapshot": "error_deleting"}
ALL = [plan for kind in KINDS for plan in plans(kind, _steps(kind))]


@pytest.mark.parametrize("plan", ALL, ids=str)
def test_four_laws(plan: Plan) -> None:
    storage = Storage(1, plan)
    snapshot_id = run(_life(storage, plan.kind), 1)
    failed = plan.how in ("fail", "undo twice")
    if failed:
        assert _statuses(storage) == {snapshot_id: KINDS[plan.kind]}
    else:
        assert _statuses(storage) == ({} if plan.kind == "delete_snapshot" else {snapshot_id: "available"})
    if plan.kind == "create_snapshot" or not failed:
        storage.check_books()


def test_every_operation_has_steps() -> None:
    for kind, verb in (("create_snapshot", "create_snapshot"), ("delete_snapshot", "delete_snapshot")):
        assert verb in {plan.at[0] for plan in ALL if plan.kind == kind}


@pytest.mark.parametrize("seed", range(8))
def test_a_forced_delete_while_it_is_made_wins_and_leaves_nothing(seed: int) -> None:
    storage = Storage(seed, faulty=seed % 2 == 0)

    async def main() -> None:
        await storage.start()
        volume_id = await storage.available()
        made = await storage.api().post("/v3/snapshots", {"snapshot": {"volume_id": volume_id}}, 202)
        await storage.world.clock.sleep(random.Random(seed).random() * 3)
        path = f"/v3/snapshots/{made['snapshot']['id']}/action"
        await storage.api("admin").post(path, {"os-force_delete": {}}, 202)
        await storage.settle()

    run(main(), seed)
    assert _statuses(storage) == {}
    storage.check_books()
