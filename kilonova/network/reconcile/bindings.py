"""What waits for an agent that was not there? Failed bindings, DHCP servers and routers without a host."""

from __future__ import annotations

from kilonova.network.core import NetworkService
from kilonova.network.reconcile import waiting_store


async def run(service: NetworkService) -> int:
    """How many were given what they waited for."""
    if not await service.db.read(waiting_store.anything_waits):
        return 0
    return await service.change(waiting_store.give_hosts)
