"""Which bound ports did their host not report built in time? The host is told of them again."""

from __future__ import annotations

from kilonova.network.core import NetworkService
from kilonova.network.reconcile import waiting_store


async def run(service: NetworkService) -> int:
    """How many ports were told again."""
    return await service.change(waiting_store.tell_unbuilt)
