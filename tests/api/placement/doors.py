"""Placement behind its door, on a database of the test's own."""

from __future__ import annotations

from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.db.migrations import ensure_current
from kilonova.http.app import App
from kilonova.http.client import AsgiTransport, Client
from kilonova.placement.client import PlacementClient
from kilonova.placement.core import PlacementService
from kilonova.placement.service import MIGRATIONS, RULES, placement_app
from kilonova.policy.rules import Policy
from tests.api.support import FakeAuthenticator

HOST = "99c09379-6e52-4ef8-9a95-b9ce6f68452e"
OTHER_HOST = "d0b381e9-8761-42de-8e6c-bba99a96d5f5"
SERVER = "56785a3f-6f1c-4fec-af0b-0faf075b1fcb"
OTHER_SERVER = "9afd5aeb-d6b9-4dea-a588-1e6327a91834"


async def placement_door(world: World, db: Database) -> App:
    """The app over `db`, migrated."""
    await ensure_current(db, MIGRATIONS)
    return placement_app(PlacementService(world, db), FakeAuthenticator(), Policy(RULES))


async def _service_token() -> str:
    return "service"


def placement_client(app: App, world: World) -> PlacementClient:
    """The client that compute uses, in process."""
    return PlacementClient(Client(AsgiTransport(app)), _service_token, world)
