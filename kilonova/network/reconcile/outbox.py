"""Which events has compute not heard yet? It is told; what it does not take is tried again, ever later."""

from __future__ import annotations

import logging

from kilonova.base.faults import Fault, Kind
from kilonova.network.core import NetworkService
from kilonova.network.outbox import store
from kilonova.network.work import Event
from kilonova.trace import spans

log = logging.getLogger(__name__)
MOST = 100
READ_SECONDS = 2.0  # after which the outbox is read, also while what this process put there comes by itself


async def _next(service: NetworkService) -> list[Event]:
    """What is to be sent: what this process has just put in the outbox, or what is due there."""
    now = service.world.clock.monotonic()
    fresh, service.events = service.events, []
    if fresh and len(fresh) <= MOST and now - service.outbox_read_at < READ_SECONDS:
        return fresh
    service.outbox_read_at = now
    return await service.db.read(store.due, service.world.clock.now(), MOST)


async def run(service: NetworkService) -> int:
    """How many events compute took."""
    if service.server_events is None:
        return 0
    told = 0
    while events := await _next(service):
        ids = [event.id for event in events]
        try:
            with spans.within(spans.begin("neutron")):
                await service.server_events.port_events([(e.event, e.server_id, e.port_id) for e in events])
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                log.warning("compute did not take %d port events: %r", len(events), fault)
                await service.change(store.failed, ids)
                return told
        await service.change(store.sent, ids)
        told += len(ids)
        if len(ids) < MOST:  # what came meanwhile has woken the loop again
            break
    return told
