"""Block storage's records on all three databases: migrations, lists, and a quota that races cannot pass."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from kilonova.base.faults import Fault, Kind
from kilonova.block_storage.backend.choose import Wanted
from kilonova.block_storage.contract import VolumeSpec
from kilonova.block_storage.quota.store import DEFAULTS, usage
from kilonova.block_storage.service import MIGRATIONS
from kilonova.block_storage.volume import create, store
from kilonova.block_storage.volume.store import Filters, Volume
from kilonova.block_storage.volume_type.store import find
from kilonova.db.database import Database
from kilonova.db.listing import Page
from kilonova.db.migrations import ensure_current
from kilonova.saga.journal import OperationRow
from tests.contract.test_database import db

__all__ = ["db"]
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def asked(number: int, type_id: str) -> create.NewRow:
    volume = Volume(
        f"v{number}", "project", "user", 3, NOW, name=f"n{number}", volume_type_id=type_id, volume_type="__DEFAULT__",
        operation_id=f"o{number}", metadata={"n": str(number)},
    )  # fmt: skip
    args = create.args(VolumeSpec(volume.id, 3), Wanted(3, "nova"))
    row = OperationRow(f"o{number}", "create", 1, volume.id, args, "user", "project", "req", NOW)
    return create.NewRow(volume, row, dict(DEFAULTS), f"key{number}")


async def test_racing_creates_stop_at_the_quota(db: Database) -> None:
    await ensure_current(db, MIGRATIONS)
    kind = await db.read(find, "__DEFAULT__")

    async def one(number: int) -> Any:
        try:
            return await db.write(create.begin, asked(number, kind.id))
        except Fault as fault:
            return fault.kind

    made = await asyncio.gather(*(one(number) for number in range(16)))
    assert made.count(Kind.OVER_QUOTA) == 6
    assert await db.read(usage, "project") == {
        "volumes": 10, "gigabytes": 30, "snapshots": 0, "volumes___DEFAULT__": 10, "gigabytes___DEFAULT__": 30,
    }  # fmt: skip
    kept = sorted(volume.id for volume in made if isinstance(volume, Volume))
    again = await db.write(create.begin, asked(int(kept[0][1:]), kind.id))
    assert again.id == kept[0]
    first = await db.read(store.listed, Filters("project"), Page(4, None, (("name", "asc"),)))
    rest = await db.read(store.listed, Filters("project"), Page(None, first[-1].id, (("name", "asc"),)))
    assert sorted(volume.id for volume in first + rest) == kept
    assert all(volume.metadata == {"n": volume.id[1:]} for volume in rest)
    assert (await db.read(store.summed, Filters("project")))[:2] == (10, 30)
