"""One upload under way: held by its process, so that others give it up when the process is gone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from kilonova.base.faults import Fault, Kind
from kilonova.image.core import ImageService
from kilonova.image.image import upload_store
from kilonova.image.stores import STAGED

log = logging.getLogger(__name__)
EVERY_SECONDS = upload_store.HELD.total_seconds() / 4


class Upload:
    """The upload of an image's data by this process."""

    def __init__(self, service: ImageService, image_id: str) -> None:
        self._service = service
        self._image_id = image_id
        self.id = service.world.ids.uuid()

    async def hold_on(self) -> None:
        """Others see that this process lives, until the upload is given up, or this is cancelled."""
        while True:
            await self._service.world.clock.sleep(EVERY_SECONDS)
            try:
                await self._hold()
            except Fault as fault:
                if fault.kind is Kind.CONFLICT:
                    return
                log.warning("the upload of image %s could not be held: %r", self._image_id, fault)

    async def only_while_held(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes. CONFLICT instead of their end when the upload was given up: a process that slept meanwhile must
        not replace what another brought."""
        async for piece in pieces:
            yield piece
        await self._hold()

    async def _hold(self) -> None:
        now = self._service.world.clock.now()
        await self._service.db.write(upload_store.hold_upload, self._image_id, self.id, now)


async def give_up_abandoned(service: ImageService) -> int:
    """Which uploads does nobody hold any more?"""
    given_up = await service.db.write(upload_store.give_up_abandoned, service.world.clock.now())
    for image_id in given_up:
        log.warning("the upload of image %s was cut off: the image is queued again", image_id)
        for store in service.stores.writable:
            await service.stores.data(store.id).drop(image_id)
            await service.stores.data(store.id).drop(STAGED + image_id)
    return len(given_up)
