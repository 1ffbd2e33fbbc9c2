"""Hash the data at a location that a user gave: verified when hashes were given with it, noted when none were."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.base.faults import Kind as FaultKind
from kilonova.image.core import ImageService
from kilonova.image.image import data_store
from kilonova.image.image import store as image_store
from kilonova.image.image.reading import Facts, Reading
from kilonova.image.importing.plan import LocationPlan
from kilonova.image.importing.tasks import end_task, failed_task, tell
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step


async def hash_location(op: Operation[ImageService], services: ImageService, image_id: str, plan: LocationPlan) -> None:
    """POST /v2/images/{id}/locations. Read down: from a URL to an image whose data is known."""
    await op.write("the task begins", begin, image_id, plan)
    facts: Facts | None = None
    if services.settings.do_secure_hash:
        facts = await op.step("the data at the location is read, hashed and judged", read_location, image_id, plan)
    now = services.world.clock.now()
    await op.finish("the image knows its hashes", known, image_id, op.id, plan, facts, now)


def begin(connection: Connection, image_id: str, plan: LocationPlan) -> None:
    """The task is under way, if the image is still there."""
    image_store.get_image(connection, image_id)
    tell(connection, plan.task_id, "processing", "")


async def read_location(step: Step[ImageService], image_id: str, plan: LocationPlan) -> Facts:
    """What the data is; INVALID when it is not what was said of it. Stops when the image is deleted."""
    service = step.services
    image = await service.db.read(image_store.get_image, image_id)
    algorithm = plan.hash_algo or service.settings.hashing_algorithm
    chunks = service.web().read(plan.url)
    reading = Reading(service.world, chunks, service.settings.image_size_cap_bytes, algorithm)

    async def still_there(size: int) -> None:
        await service.db.read(image_store.get_image, image_id)

    reading.progress = still_there
    await reading.drain()
    match = service.settings.require_image_format_match
    facts = await reading.facts(service.inspector(), image, match=match)
    if plan.hash_value and plan.hash_value != facts.hash_value:
        raise invalid("The data at the location does not have the hash that was given.")
    if plan.checksum and plan.checksum != facts.checksum:
        raise invalid("The data at the location does not have the checksum that was given.")
    return facts


def known(
    connection: Connection, image_id: str, operation_id: str, plan: LocationPlan, facts: Facts | None, now: datetime
) -> None:
    """The image is active with its hashes."""
    values: dict[str, Any] = {"status": "active", "updated_at": now}
    if facts is not None:
        values |= facts.columns()
    elif plan.hash_value:
        values |= {"os_hash_algo": plan.hash_algo, "os_hash_value": plan.hash_value}
        values |= {"checksum": plan.checksum} if plan.checksum else {}
    data_store.end_import(connection, image_id, operation_id, values, {})
    end_task(connection, plan.task_id, {"image_id": image_id}, now)


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """An image that waited for its hashes is queued again; so is one whose data must not be used."""
    now = row.updated_at or row.created_at
    refused = fault.kind is FaultKind.INVALID
    data_store.give_up_location(connection, row.resource_id, row.id, refused, now)
    failed_task(connection, row.args["plan"]["task_id"], fault, now)


LOCATION: Kind[ImageService] = Kind("location", hash_location, failed)
