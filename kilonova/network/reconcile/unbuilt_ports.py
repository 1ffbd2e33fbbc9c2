"""Which bound ports did their host not report built in time? The host is told of them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.network.reconcile import waiting_store

if TYPE_CHECKING:
    from kilonova.network.service import NetworkService


async def run(service: NetworkService) -> int:
    """How many ports were told again."""
    return await service.change(waiting_store.tell_unbuilt)
