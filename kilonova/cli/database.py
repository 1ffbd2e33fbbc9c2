"""`kilonova db upgrade|check`: the schema of every service's database."""

from __future__ import annotations

import argparse
import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

from kilonova.base.clock import SystemClock
from kilonova.base.faults import conflict, unavailable
from kilonova.cli.settings import read_settings
from kilonova.cli.state import State, secrets_of
from kilonova.db.migrations import ensure_current, missing
from kilonova.db.sqlite import SqliteDatabase

SERVICES = ("identity", "image", "placement", "compute", "network", "block_storage")


def run(options: argparse.Namespace) -> int:
    """Upgrade: apply what is missing. Check: list it; exit 1 when there is any."""
    if options.config:
        return asyncio.run(_cluster(options))
    state = State(options.state)
    state.need()
    if options.what == "upgrade" and state.running() is not None and not options.by_up:
        raise conflict("The cloud runs.", hint="Stop it with `kilonova down`; `up` upgrades by itself.")
    return asyncio.run(_each(state, upgrade=options.what == "upgrade", new=options.by_up))


async def upgrade_in_a_child(state: State) -> None:
    """Bring every database of the state directory to this release's schema, for `up`.

    In a process of its own: what migrations load (Alembic: 20 MB) would stay as long as the cloud runs."""
    command = [sys.executable, "-m", "kilonova.cli.main", "db", "upgrade", "--by-up", "--state", str(state.directory)]
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT, stdin=DEVNULL)
    told, _ = await child.communicate()
    if child.returncode:
        raise unavailable(
            "The databases could not be brought to this release's schema.",
            hint="`kilonova db upgrade` shows why; the cloud was not started.",
            inside=told.decode(errors="replace")[-2000:],
        )


async def _each(state: State, *, upgrade: bool, new: bool) -> int:
    """What is missing, or was applied. A database that is not there yet is made when `new`."""
    behind = 0
    for service in SERVICES:
        path = state.database(service)
        if not path.exists() and not new:
            print(f"  {service:14} no database yet")
            continue
        db = SqliteDatabase(service, path, SystemClock())
        try:
            package = f"kilonova.{service}.migrations"
            todo = await ensure_current(db, package) if upgrade else await db.read(missing, package)
        finally:
            await db.close()
        _tell(service, todo, upgrade=upgrade)
        behind += len(todo)
    return 1 if behind and not upgrade else 0


def _tell(service: str, todo: list[str], *, upgrade: bool) -> None:
    word = "applied" if upgrade else "missing"
    print(f"  {service:14} {'current' if not todo else f'{word}: ' + ', '.join(todo)}")


async def _cluster(options: argparse.Namespace) -> int:
    """The same for a cluster's database servers. The first upgrade makes the secrets, and what identity begins with."""
    from kilonova.cli.compose import services
    from kilonova.cli.compose.cluster_ground import ClusterGround

    settings, upgrade = read_settings(str(options.config)), options.what == "upgrade"
    secrets = secrets_of(Path(settings.cluster.secrets), make=upgrade)
    ground = ClusterGround("db", "db", settings, secrets)
    behind = 0
    try:
        for service in SERVICES:
            package = f"kilonova.{service}.migrations"
            todo = await ground.upgrade(service, package) if upgrade else await ground.missing(service, package)
            _tell(service, todo, upgrade=upgrade)
            behind += len(todo)
        if upgrade:
            await services.bootstrap_identity(ground, await services.identity_api(ground))
            print("  administrator, service users and catalog are as the settings say")
    finally:
        await ground.close()
    return 1 if behind and not upgrade else 0
