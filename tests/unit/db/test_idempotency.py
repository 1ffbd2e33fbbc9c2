"""A key sent twice finds what the first made; another user's key is another key."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kilonova.base.clock import SystemClock
from kilonova.db.idempotency import earlier, forget_before, idempotency_table, remember
from kilonova.db.inline import InlineDatabase

metadata = sa.MetaData()
table = idempotency_table(metadata)
NOW = SystemClock().now()


@pytest.fixture
def db() -> InlineDatabase:
    made = InlineDatabase("test", SystemClock())
    metadata.create_all(made.engine)
    return made


async def test_a_repeat_finds_the_first(db: InlineDatabase) -> None:
    assert await db.read(earlier, table, "op/step/0", "alice") is None
    await db.write(remember, table, "op/step/0", "alice", "port-1", NOW)
    assert await db.read(earlier, table, "op/step/0", "alice") == "port-1"
    assert await db.read(earlier, table, "op/step/0", "mallory") is None
    assert await db.read(earlier, table, "op/step/1", "alice") is None


async def test_two_at_once_cannot_both_be_first(db: InlineDatabase) -> None:
    await db.write(remember, table, "k", "alice", "port-1", NOW)
    with pytest.raises(IntegrityError):
        await db.write(remember, table, "k", "alice", "port-2", NOW)


async def test_no_key_is_never_remembered(db: InlineDatabase) -> None:
    for resource in ("port-1", "port-2"):
        await db.write(remember, table, "", "alice", resource, NOW)
    assert await db.read(earlier, table, "", "alice") is None


async def test_old_keys_go(db: InlineDatabase) -> None:
    await db.write(remember, table, "old", "alice", "port-1", NOW - timedelta(days=2))
    await db.write(remember, table, "new", "alice", "port-2", NOW)
    assert await db.write(forget_before, table, NOW - timedelta(days=1)) == 1
    assert await db.read(earlier, table, "old", "alice") is None
    assert await db.read(earlier, table, "new", "alice") == "port-2"
