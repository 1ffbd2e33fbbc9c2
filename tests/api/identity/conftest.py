"""A bootstrapped identity for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.identity.support import Cloud
from tests.api.identity.support import cloud as make_cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with make_cloud() as made:
        yield made
