"""An empty compute for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.compute.support import Api, compute_api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with compute_api() as made:
        yield made
