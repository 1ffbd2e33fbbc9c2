"""A create request holds its volumes before the server's record stands, and gives them back when it cannot."""

from __future__ import annotations

import logging
from typing import Any

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.core import Compute
from kilonova.compute.server import hold_store
from kilonova.compute.server.create_request import Plan
from kilonova.http.request import Request

log = logging.getLogger(__name__)


async def reserve(compute: Compute, request: Request[Any], plan: Plan, server_id: str) -> None:
    """The volumes that the request names are reserved for the server; their devices know by which attachment."""
    named = [(number, device) for number, device in enumerate(plan.boot.devices) if device.volume_id]
    if not named:
        return
    await compute.db.write(hold_store.begin, server_id, compute.world.clock.now())
    for number, device in named:
        key = f"{server_id}/api/{number}"
        try:
            device.attachment_id = await compute.peers.volumes.reserve(
                request.caller.token, key, device.volume_id, server_id
            )
        except Fault as fault:
            await unreserve(compute, server_id, sure=fault.kind is not Kind.UNAVAILABLE)
            if fault.kind is Kind.CONFLICT:
                raise invalid(fault.message, hint=fault.hint) from fault
            raise


async def unreserve(compute: Compute, server_id: str, *, sure: bool = True) -> None:
    """The volumes are available again. When not `sure`, a reservation may be on its way: the loop looks again."""
    await compute.db.write(hold_store.give_back, server_id)
    try:
        await give_back(compute, server_id)
    except Fault as fault:
        log.warning("volumes held for server %s are given back later: %r", server_id, fault)
        return
    if sure:
        await compute.db.write(hold_store.end, server_id)


async def give_back(compute: Compute, server_id: str) -> None:
    """Block storage holds nothing for the server."""
    token = await compute.peers.own_token()
    for attachment_id in [one.id for one in await compute.peers.volumes.attachments_of(token, server_id)]:
        await compute.peers.volumes.detach(token, attachment_id)
