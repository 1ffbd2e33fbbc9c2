"""`kilonova identity rotate-keys`: sign tokens with a new key from now on, in every process, within a second."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from kilonova.base.faults import conflict
from kilonova.base.world import LiveWorld
from kilonova.cli.settings import read_settings
from kilonova.cli.state import State, secrets_of
from kilonova.db.database import Database
from kilonova.db.sqlite import SqliteDatabase
from kilonova.identity.service import MIGRATIONS
from kilonova.identity.settings import IdentitySettings
from kilonova.identity.token.keys import KeyRing
from kilonova.saga.seal import Sealer


def run(options: argparse.Namespace) -> int:
    """Rotate the signing keys of the cloud, which may run, or of a cluster."""
    if options.config:
        return asyncio.run(_cluster(options))
    state = State(options.state)
    state.need()
    path = state.database("identity")
    if not path.exists():
        raise conflict("The cloud has no identity database yet.", hint="Start it once with `kilonova up`.")
    return asyncio.run(_embedded(path, Sealer(state.secrets().deployment_keys)))


async def _embedded(path: Path, sealer: Sealer) -> int:
    world = LiveWorld("identity-keys")
    db = SqliteDatabase("identity", path, world.clock)
    try:
        return await _rotate(world, db, sealer, IdentitySettings())
    finally:
        await db.close()
        await world.close()


async def _cluster(options: argparse.Namespace) -> int:
    from kilonova.cli.compose.cluster_ground import ClusterGround

    settings = read_settings(str(options.config))
    ground = ClusterGround("identity", "identity", settings, secrets_of(Path(settings.cluster.secrets)))
    try:
        db = await ground.database("identity", MIGRATIONS)
        return await _rotate(ground.world, db, ground.sealer, settings.identity)
    finally:
        await ground.close()


async def _rotate(world: LiveWorld, db: Database, sealer: Sealer, settings: IdentitySettings) -> int:
    await KeyRing(world, db, sealer, settings.fernet_keys_maximum).rotate()
    print(f"Tokens are signed with a new key; those signed with the last {settings.fernet_keys_maximum - 1} stay good.")
    return 0
