"""A connection that nobody used for five seconds was closed by both ends at the same moment: a request that was just
sent on it was answered with a reset, and its sender did not know whether it had been heard."""

from __future__ import annotations

from kilonova.cli import serve
from kilonova.http import client


def test_a_service_closes_an_idle_connection_long_after_its_clients_would() -> None:
    aiohttp_keeps_seconds = 15
    assert 2 * max(client.KEPT_SECONDS, aiohttp_keeps_seconds) < serve.IDLE_SECONDS
