"""Clouds for network's API tests: without hosts, and with two."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.network.cloud import Cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = await Cloud().start()
    yield cloud
    await cloud.close()


@pytest.fixture
async def hosted() -> AsyncIterator[Cloud]:
    cloud = await Cloud().start(hosts=2)
    yield cloud
    await cloud.close()
