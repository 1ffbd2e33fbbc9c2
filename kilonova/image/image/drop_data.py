"""Bytes of deleted images go from every store: at once, or later by a loop when a store or a process was away."""

from __future__ import annotations

import logging

from kilonova.base.faults import Fault
from kilonova.image.core import ImageService
from kilonova.image.image import deleted_store
from kilonova.image.stores import STAGED

log = logging.getLogger(__name__)


async def drop_data(service: ImageService, image_id: str, stores: list[str]) -> None:
    """All bytes of a deleted image are gone from these stores, nothing is staged and no copy is kept. UNAVAILABLE when
    a store does not answer: it stays noted."""
    known = {store.id for store in service.stores.writable}
    for store in stores:
        if (store or service.stores.default.id) in known:
            await service.stores.data(store).drop(image_id)
    await service.data.drop(image_id)
    await service.data.drop(STAGED + image_id)
    await service.uncache(image_id)
    await service.db.write(deleted_store.dropped, image_id)


async def drop_left_over(service: ImageService) -> int:
    """Which deleted images have data still?"""
    gone = 0
    for image_id, stores in await service.db.read(deleted_store.left_over, service.world.clock.now()):
        try:
            await drop_data(service, image_id, stores)
            gone += 1
        except Fault as fault:
            log.warning("the data of deleted image %s is still there: %r", image_id, fault)
    return gone
