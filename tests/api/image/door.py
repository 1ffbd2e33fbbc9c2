"""An image service behind its door, for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kilonova.base.world import LiveWorld
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.image.service import MIGRATIONS, RULES, ImageService, ImageSettings, image_app
from kilonova.node.images.store import FileStore
from kilonova.policy.rules import Policy
from tests.api.support import ApiClient, FakeAuthenticator, api_client


@asynccontextmanager
async def image_service(directory: Path, **settings: Any) -> AsyncIterator[ImageService]:
    """The service with its files in `directory`."""
    world = LiveWorld("image")
    db = InlineDatabase("image", world.clock)
    await db.write(upgrade, MIGRATIONS)
    choices = ImageSettings(**{"image_size_cap_bytes": 1 << 24, **settings})
    yield ImageService(world, db, FileStore(world, directory / "images"), choices)
    await world.close()


def door(service: ImageService) -> ApiClient:
    """Its API, as the member."""
    return api_client(image_app(service, FakeAuthenticator(), Policy(RULES)))
