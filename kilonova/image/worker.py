"""The process `image-worker`: runs imports and keeps image's records tidy."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Subscription, Target
from kilonova.db import idempotency as keys
from kilonova.image.cache.resource import fill_queued
from kilonova.image.contract import EXCHANGE, WORKER_TOPIC
from kilonova.image.contract import ImageWorker as ImageWorkerContract
from kilonova.image.core import ImageService
from kilonova.image.image.drop_data import drop_left_over
from kilonova.image.image.upload import give_up_abandoned
from kilonova.image.importing.hash_location import LOCATION
from kilonova.image.importing.import_image import IMPORT
from kilonova.image.schema import idempotency, journal
from kilonova.image.task import store as task_store
from kilonova.saga.loops import Loop, Loops
from kilonova.saga.runner import Parts, Runner
from kilonova.saga.seams import Seams

KINDS = (IMPORT, LOCATION)
PARTICIPANT = "image_worker"
KEPT = timedelta(days=7)


class ImageWorker:
    """Implements the contract's `ImageWorker`. Several may run: leases share the imports among them."""

    def __init__(self, service: ImageService, bus: Bus, *, seams: Seams | None = None) -> None:
        self.service = service
        self.bus = bus
        sealer = service.workers().sealer
        reply = Target(EXCHANGE, WORKER_TOPIC)
        parts = Parts(service.world, service.db, bus, journal, sealer, reply, PARTICIPANT)
        self.runner: Runner[ImageService] = Runner(parts, service, KINDS, seams)
        self.loops = Loops(service.world, service, LOOPS)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Take messages, run imports, reconcile."""
        self._subscription = await self.bus.serve(EXCHANGE, WORKER_TOPIC, "", rpc.handlers(ImageWorkerContract, self))
        self.runner.start()
        self.loops.start()

    async def close(self) -> None:
        """Take no more messages; what runs is resumed by another."""
        if self._subscription is not None:
            await self._subscription.stand_back()  # a new operation is for a worker that stays
        await self.runner.close()  # while hosts can still tell it that its steps ended
        if self._subscription is not None:
            await self._subscription.close()

    async def run_operation(self, operation_id: str) -> None:
        await self.runner.wake(operation_id)


async def forget_old(service: ImageService) -> int:
    """What is too old to be of use to anyone?"""
    return await service.db.write(_forget_old, service)


def _forget_old(connection: Connection, service: ImageService) -> int:
    now = service.world.clock.now()
    gone = journal.forget_before(connection, now - KEPT)
    gone += keys.forget_before(connection, idempotency, now - KEPT)
    return gone + task_store.forget_expired(connection, now)


LOOPS = (
    Loop("old records", 3600.0, forget_old),
    Loop("uploads that were cut off", 30.0, give_up_abandoned),
    Loop("data of deleted images", 60.0, drop_left_over),
    Loop("image copies", 60.0, fill_queued),
)
