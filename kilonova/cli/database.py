"""`kilonova db upgrade|check`: the schema of every service's database."""

from __future__ import annotations

import argparse
import asyncio

from kilonova.base.clock import SystemClock
from kilonova.base.faults import conflict
from kilonova.cli.state import State
from kilonova.db.migrations import ensure_current, missing
from kilonova.db.sqlite import SqliteDatabase

SERVICES = ("identity", "image", "placement", "compute", "network", "block_storage")


def run(options: argparse.Namespace) -> int:
    """Upgrade: apply what is missing. Check: list it; exit 1 when there is any."""
    state = State(options.state)
    state.need()
    if options.what == "upgrade" and state.running() is not None:
        raise conflict("The cloud runs.", hint="Stop it with `kilonova down`; `up` upgrades by itself.")
    return asyncio.run(_each(state, upgrade=options.what == "upgrade"))


async def _each(state: State, *, upgrade: bool) -> int:
    behind = 0
    for service in SERVICES:
        path = state.database(service)
        if not path.exists():
            print(f"  {service:14} no database yet")
            continue
        db = SqliteDatabase(service, path, SystemClock())
        try:
            package = f"kilonova.{service}.migrations"
            todo = await ensure_current(db, package) if upgrade else await db.read(missing, package)
        finally:
            await db.close()
        word = "applied" if upgrade else "missing"
        print(f"  {service:14} {'current' if not todo else f'{word}: ' + ', '.join(todo)}")
        behind += len(todo)
    return 1 if behind and not upgrade else 0
