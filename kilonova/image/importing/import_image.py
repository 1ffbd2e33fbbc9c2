"""Import an image: the data comes, is judged, perhaps converted, and is kept in the stores that were asked for."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, unavailable
from kilonova.base.units import MIB
from kilonova.http.client import Client, HttpTransport
from kilonova.image.core import ImageService
from kilonova.image.image import data_store
from kilonova.image.image import store as image_store
from kilonova.image.image.data import read
from kilonova.image.image.reading import Facts, Passing, Progress, Reading
from kilonova.image.image.store import Image
from kilonova.image.importing.plan import COPY, REGION, WEB, Plan
from kilonova.image.importing.tasks import end_task, failed_task, tell
from kilonova.image.stores import STAGED
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step

log = logging.getLogger(__name__)

COPIED_PREFIXES = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")  # of an image of another region
CONVERTIBLE = ("raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx")


class Brought(msgspec.Struct, frozen=True):
    """What came from elsewhere, and what its image there said of it."""

    size: int
    disk_format: str = ""
    container_format: str = ""
    properties: dict[str, str] = {}


async def import_image(op: Operation[ImageService], services: ImageService, image_id: str, plan: Plan) -> None:
    """POST /v2/images/{id}/import. Read down: from where the data is to an active image."""
    await op.write("the task begins", begin, image_id, op.id, plan)
    brought: Brought | None = None
    if plan.method == WEB:
        brought = await op.step("the data comes from the web", download, image_id, plan, undo=drop_staged)
    elif plan.method == REGION:
        brought = await op.step("the data comes from the other region", fetch, image_id, plan, undo=drop_staged)
    facts: Facts | None = None
    if plan.method != COPY:
        facts = await op.step("the data is read, hashed and judged", judge, image_id, brought, undo=drop_staged)
    await keep_everywhere(op, image_id, plan, facts)
    if facts is None:
        await op.finish("the copies are noted", copied, image_id, op.id, plan, services.world.clock.now())
        return
    await op.step("the staged data is dropped", clear_staged, image_id)
    if warning := services.stores.warning(plan.stores, facts.disk_format):
        plan = msgspec.structs.replace(plan, warning=warning)
    await op.finish("the image is active", active, (image_id, op.id), plan, facts, brought, services.world.clock.now())


async def keep_everywhere(op: Operation[ImageService], image_id: str, plan: Plan, facts: Facts | None) -> None:
    """The data in every store of the plan; one that fails fails the import only if all must succeed or none did."""
    kept = 0
    for store in plan.stores:
        try:
            await op.step(f"store {store} keeps the data", keep, image_id, store, plan, facts, undo=drop_from)
        except Fault as fault:
            await op.write(f"store {store} failed", note_store, image_id, op.id, store, False)
            if plan.all_must_succeed:
                raise
            log.warning("import of image %s into store %s failed: %r", image_id, store, fault)
            continue
        kept += 1
        await op.write(f"store {store} has it", note_store, image_id, op.id, store, True)
    if not kept:
        raise unavailable("The data could not be kept in any store.", hint="Try again, or choose other stores.")


def begin(connection: Connection, image_id: str, operation_id: str, plan: Plan) -> None:
    """The task is under way, if the image is still there."""
    image_store.get_image(connection, image_id)
    tell(connection, plan.task_id, "processing", "")


async def download(step: Step[ImageService], image_id: str, plan: Plan) -> Brought:
    """The bytes at the URI, staged."""
    service = step.services
    passing = Passing(service.web().read(plan.uri), service.settings.image_size_cap_bytes, _progress(step, plan))
    await service.data.save(STAGED + image_id, passing.pieces())
    return Brought(passing.size_bytes)


async def fetch(step: Step[ImageService], image_id: str, plan: Plan) -> Brought:
    """The bytes of an image of another region, staged; and those of its properties that are copied."""
    service, token = step.services, str(step.secrets().get("token", ""))
    url = await service.regions().endpoint(token, plan.region, plan.interface)
    client = Client(HttpTransport(url.rstrip("/").removesuffix("/v2")))
    try:
        path = f"/v2/images/{plan.source_image_id}"
        there = (await client.request("GET", path, token=token)).json()
        chunks = client.stream(f"{path}/file", token=token)
        passing = Passing(chunks, service.settings.image_size_cap_bytes, _progress(step, plan))
        await service.data.save(STAGED + image_id, passing.pieces())
    finally:
        await client.close()
    if there["size"] is not None and passing.size_bytes != there["size"]:
        raise unavailable("The other region sent less data than it said.", hint="Try again.")
    properties = {n: v for n, v in there.items() if isinstance(v, str) and n.startswith(COPIED_PREFIXES)}
    return Brought(passing.size_bytes, there["disk_format"], there["container_format"], properties)


def _progress(step: Step[ImageService], plan: Plan) -> Progress:
    """Tells the task how far it is."""

    async def progress(size: int) -> None:
        await step.services.db.write(tell, plan.task_id, "processing", f"Copied {size // MIB} MiB")

    return progress


async def judge(step: Step[ImageService], image_id: str, brought: Brought | None) -> Facts:
    """What the staged data is, converted when the operator wants that; INVALID when it must not be used."""
    service = step.services
    image = await service.db.read(image_store.get_image, image_id)
    size = brought.size if brought else image.size or 0
    if brought and brought.disk_format:
        image.disk_format = brought.disk_format
    chunks = service.data.read(STAGED + image_id, 0, size)
    reading = Reading(service.world, chunks, service.settings.image_size_cap_bytes, service.settings.hashing_algorithm)
    reading.verifier = await service.verifier(image, str(step.secrets().get("token", "")))
    await reading.drain()
    match = service.settings.require_image_format_match
    facts = await reading.facts(service.inspector(), image, match=match)
    wanted = service.settings.convert_to
    if wanted and facts.disk_format != wanted and facts.disk_format in CONVERTIBLE and image.disk_format in CONVERTIBLE:
        return await _convert(service, image, facts, wanted)
    return msgspec.structs.replace(facts, disk_format=image.disk_format or facts.disk_format)


async def _convert(service: ImageService, image: Image, facts: Facts, wanted: str) -> Facts:
    """The staged data in the operator's format, beside the first until it is whole; done again it begins anew."""
    key = STAGED + image.id
    chunks = service.converter().convert(
        service.data.read(key, 0, facts.size), facts.disk_format, wanted, facts.virtual_size or 0
    )
    image.disk_format = wanted
    reading = Reading(service.world, chunks, service.settings.image_size_cap_bytes, service.settings.hashing_algorithm)
    try:
        await service.data.save(key + "-converted", reading.pieces())
        facts = await reading.facts(service.inspector(), image)
        return msgspec.structs.replace(facts, disk_format=wanted, converted=True)
    except BaseException:  # edge: nothing half-converted stays, whatever ended it
        await service.data.drop(key + "-converted")
        raise


def _staged(image_id: str, facts: Facts) -> str:
    return STAGED + image_id + ("-converted" if facts.converted else "")


async def keep(step: Step[ImageService], image_id: str, store: str, plan: Plan, facts: Facts | None) -> None:
    """The data in one store, byte for byte what was judged."""
    service = step.services
    image = await service.db.read(image_store.get_image, image_id)
    if facts is None:
        chunks, size, wanted = read(service, image, 0, image.size or 0), image.size or 0, image.os_hash_value
    else:
        size, wanted = facts.size, facts.hash_value
        chunks = service.data.read(_staged(image_id, facts), 0, size)
    algorithm = facts.hash_algo if facts else image.os_hash_algo
    reading = Reading(service.world, chunks, service.settings.image_size_cap_bytes, algorithm or "sha512")
    reading.progress = _progress(step, plan)
    await service.stores.data(store).save(image_id, reading.pieces())
    if reading.size_bytes != size or (wanted and reading.hash_value() != wanted):
        await service.stores.data(store).drop(image_id)
        raise unavailable("The data changed while it was copied.", hint="Try again.")


async def drop_from(step: Step[ImageService], image_id: str, store: str) -> None:
    """The store no longer has the data."""
    await step.services.stores.data(store).drop(image_id)


async def clear_staged(step: Step[ImageService], image_id: str) -> None:
    """Nothing is staged any more."""
    await step.services.data.drop(STAGED + image_id)
    await step.services.data.drop(STAGED + image_id + "-converted")


async def drop_staged(step: Step[ImageService], image_id: str) -> None:
    """Undo of bringing and judging: nothing is staged any more."""
    await clear_staged(step, image_id)


def note_store(connection: Connection, image_id: str, operation_id: str, store: str, ok: bool) -> None:
    """The image says how it went with the store."""
    data_store.stored(connection, image_id, operation_id, store, ok)


def copied(connection: Connection, image_id: str, operation_id: str, plan: Plan, now: datetime) -> None:
    """An active image is in more stores."""
    data_store.end_import(connection, image_id, operation_id, {"updated_at": now}, {})
    end_task(connection, plan.task_id, {"image_id": image_id}, now)


def active(
    connection: Connection, whose: tuple[str, str], plan: Plan, facts: Facts, brought: Brought | None, now: datetime
) -> None:
    """The image has its data."""
    image_id, operation_id = whose
    values: dict[str, Any] = {"status": "active", **facts.columns(), "disk_format": facts.disk_format}
    values["updated_at"] = now
    properties = dict(plan.inject)
    if brought and brought.container_format:
        values["container_format"] = brought.container_format
        properties = brought.properties | properties
    data_store.end_import(connection, image_id, operation_id, values, properties)
    end_task(connection, plan.task_id, {"image_id": image_id}, now, plan.warning)


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The image waits for another try; the task says why."""
    now = row.updated_at or row.created_at
    data_store.give_up_import(connection, row.resource_id, row.id, now)
    failed_task(connection, row.args["plan"]["task_id"], fault, now)


IMPORT: Kind[ImageService] = Kind("import", import_image, failed, undos=(drop_staged, drop_from))
