"""A door per test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kilonova.base.world import LiveWorld
from kilonova.db.inline import InlineDatabase
from kilonova.http.app import App
from tests.api.placement.doors import placement_door
from tests.api.support import ApiClient, api_client


@pytest.fixture
async def world() -> AsyncIterator[LiveWorld]:
    made = LiveWorld("test")
    yield made
    await made.close()


@pytest.fixture
async def app(world: LiveWorld) -> App:
    return await placement_door(world, InlineDatabase("placement", world.clock))


@pytest.fixture
def admin(app: App) -> ApiClient:
    return api_client(app, "admin").at("placement 1.39")
