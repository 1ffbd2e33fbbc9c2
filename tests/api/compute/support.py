"""A compute API in this process over a database in memory. Its peers are the simulation's, which nothing here asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kilonova.base.world import LiveWorld
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.compute.catalogue import StoredCatalogue
from kilonova.compute.core import Compute, Peers
from kilonova.compute.service import MIGRATIONS, POLICY, compute_app
from kilonova.db.database import Database
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import ensure_current
from kilonova.http.app import App
from kilonova.http.contract import Authenticator
from kilonova.policy.rules import Policy
from kilonova.saga.seal import Sealer
from kilonova.sim.peers import IMAGE, Books, SimImages, SimNetworks, SimPlacement, SimVolumes, sample_image
from kilonova.sim.world import SimWorld
from tests.api.support import ApiClient, FakeAuthenticator


@dataclass
class Api:
    """The service and its door."""

    compute: Compute
    app: App

    def as_(self, token: str, version: str = "") -> ApiClient:
        """The door for a persona, at a microversion."""
        client = ApiClient(self.app, token)
        return client.at(f"compute {version}") if version else client


@asynccontextmanager
async def compute_api(authenticator: Authenticator | None = None, db: Database | None = None) -> AsyncIterator[Api]:
    """Compute with nothing in it, over `db` or a database in memory."""
    world = LiveWorld("compute-test")
    db = db or InlineDatabase("nova", world.clock)
    await ensure_current(db, MIGRATIONS)
    peer_world, books = SimWorld("peers", 1), Books(images={IMAGE: sample_image()})

    async def own_token() -> str:
        return "service"

    peers = Peers(
        SimPlacement(peer_world, books),
        SimNetworks(peer_world, books),
        SimVolumes(peer_world, books),
        SimImages(peer_world, books),
        own_token,
    )
    sealer = Sealer([Sealer.new_key()])
    bus = MemoryBus(world, MemoryBroker(), "nova-api")
    compute = Compute(world, db, bus, sealer, peers, StoredCatalogue())
    try:
        yield Api(compute, compute_app(compute, authenticator or FakeAuthenticator(), Policy(POLICY)))
    finally:
        await world.close()
