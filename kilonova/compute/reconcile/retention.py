"""What is kept longer than it is of use? Expired console tokens, old journals, records of servers long deleted."""

from __future__ import annotations

from datetime import timedelta

from kilonova.compute.core import Compute
from kilonova.compute.schema import idempotency, journal
from kilonova.compute.server import console_store, migration_store, store
from kilonova.db.idempotency import forget_before
from kilonova.saga.loops import Loop

KEYS_KEPT_DAYS = 2


async def console_tokens(compute: Compute) -> int:
    """Forget console tokens that have expired."""
    return await compute.db.write(console_store.drop_expired, compute.world.clock.now())


async def old_records(compute: Compute) -> int:
    """Forget journals, deleted servers, their migrations and idempotency keys past their time."""
    now, settings = compute.world.clock.now(), compute.settings
    journals = await compute.db.write(journal.forget_before, now - timedelta(days=settings.journal_kept_days))
    servers = await compute.db.write(store.forget_before, now - timedelta(days=settings.deleted_kept_days))
    keys = await compute.db.write(forget_before, idempotency, now - timedelta(days=KEYS_KEPT_DAYS))
    migrations = await compute.db.write(migration_store.forget_orphans)
    return journals + servers + keys + migrations


LOOPS = (Loop("console_tokens", 60.0, console_tokens), Loop("retention", 3600.0, old_records))
