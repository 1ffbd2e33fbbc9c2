"""The API's part of an import: image, task and operation are recorded together, then a worker is told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.http.request import Request
from kilonova.image.core import ImageService
from kilonova.image.image import data_store
from kilonova.image.image import store as image_store
from kilonova.image.image.locations import WEB_STORE, Validation, may_be_added
from kilonova.image.image.patch import assign
from kilonova.image.image.store import Image, Location
from kilonova.image.importing.plan import STATUS, WEB, LocationPlan, Plan
from kilonova.image.schema import journal
from kilonova.image.task import store as task_store
from kilonova.image.task.store import Task
from kilonova.saga.begin import Wanted, asked
from kilonova.saga.journal import OperationRow


def new_task(service: ImageService, request: Request[Any], type_: str, image: Image, input_: dict[str, Any]) -> Task:
    """A task of the caller's that has not begun."""
    now = service.world.clock.now()
    return Task(
        id=service.world.ids.uuid(),
        type=type_,
        status="pending",
        owner=request.caller.project_id,
        user_id=request.caller.user_id,
        image_id=image.id,
        request_id=request.request_id,
        input=input_,
        created_at=now,
        updated_at=now,
    )


def operation(
    service: ImageService, request: Request[Any], kind: str, image_id: str, args: dict[str, Any]
) -> OperationRow:
    """A row for the journal, with the caller's token sealed."""
    return asked(service.world, service.workers().sealer, request, Wanted(kind, image_id, args))


def _record(connection: Connection, image_id: str, plan: Plan, task: Task, row: OperationRow) -> Image:
    task_store.insert(connection, task)
    wanted = (STATUS[plan.method], plan.stores)
    image = data_store.begin_import(connection, image_id, row.id, wanted, row.created_at)
    journal.insert(connection, row)
    return image


async def import_image(
    service: ImageService, request: Request[Any], image: Image, plan: Plan, task: Task, wanted: dict[str, int]
) -> None:
    """The import is recorded and a worker knows. CONFLICT when the image is not in the method's status, OVER_QUOTA
    when the project may not have what is `wanted`."""
    row = operation(service, request, "import", image.id, {"image_id": image.id, "plan": msgspec.to_builtins(plan)})
    limits = await service.limits_of(request, image.owner)

    def record(connection: Connection) -> None:
        data_store.require_room(connection, image.owner or "", limits, wanted)
        _record(connection, image.id, plan, task, row)

    await service.db.write(record)
    await service.workers().run(row.id)


async def import_into_new_image(
    service: ImageService, request: Request[Any], uri: str, properties: dict[str, Any]
) -> Task:
    """An image with these fields, to be filled from the web (POST /v2/tasks)."""
    now = service.world.clock.now()
    image = Image(service.world.ids.uuid(), None, "queued", "shared", request.caller.project_id, now, now)
    for name, value in properties.items():
        assign(image, name, value, creating=True)
    await may_be_added(service, uri)
    input_ = {"import_from": uri, "import_from_format": image.disk_format, "image_properties": properties}
    task = new_task(service, request, "import", image, input_)
    plan = Plan(WEB, task.id, [service.stores.default.id], uri=uri, inject=service.injected(request))
    args = {"image_id": image.id, "plan": msgspec.to_builtins(plan)}
    row = operation(service, request, "import", image.id, args)
    limits = await service.limits_of(request, image.owner)

    def record(connection: Connection) -> None:
        data_store.require_room(connection, image.owner or "", limits, {"image_count_total": 1})
        image_store.insert_image(connection, image, "", request.caller.user_id)
        _record(connection, image.id, plan, task, row)

    await service.db.write(record)
    await service.workers().run(row.id)
    return task


def _record_location(
    connection: Connection, image: Image, place: Location, values: dict[str, Any], records: tuple[Task, OperationRow]
) -> None:
    task, row = records
    task_store.insert(connection, task)
    noted = image.properties | {data_store.TASK: row.id}
    data_store.set_locations(connection, image, [place], {**values, "properties": noted})
    journal.insert(connection, row)


async def import_location(
    service: ImageService, request: Request[Any], image: Image, url: str, said: Validation | None
) -> None:
    """The image's data is at `url`. Hashes that were given are verified before it is active; none: it is active at
    once, and hashed by a task when the operator wants that."""
    now: datetime = service.world.clock.now()
    task = new_task(service, request, "location_import", image, {"image_id": image.id, "loc_url": url,
                    "validation_data": msgspec.to_builtins(said) if said else {}})  # fmt: skip
    plan = LocationPlan(task.id, url)
    values: dict[str, Any] = {"updated_at": now, "status": "active"}
    if said is not None:
        plan = LocationPlan(task.id, url, said.os_hash_algo, said.os_hash_value, said.checksum or "")
        values["status"] = "importing"
    else:
        values["size"] = await service.web().size(url)
        if service.settings.do_secure_hash:
            values["os_hash_algo"] = service.settings.hashing_algorithm
    args = {"image_id": image.id, "plan": msgspec.to_builtins(plan)}
    row = operation(service, request, "location", image.id, args)
    await service.db.write(_record_location, image, Location(WEB_STORE, url), values, (task, row))
    await service.workers().run(row.id)
