"""Tasks: list, show, create (an import into a new image), and those of one image."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from kilonova.base.clock import iso_seconds
from kilonova.base.faults import invalid, not_found
from kilonova.http.listing import page_from
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image.resource import seen, target
from kilonova.image.importing.begin import import_into_new_image
from kilonova.image.task import store
from kilonova.image.task.store import Task
from kilonova.policy.rules import Rule


class ImportInput(msgspec.Struct):
    """What to import, and the image that it becomes."""

    import_from: str
    import_from_format: str
    image_properties: dict[str, Any]


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v2/tasks."""

    type: Literal["import"]
    input: ImportInput


def view(task: Task) -> dict[str, Any]:
    """A task as lists show it."""
    shown: dict[str, Any] = {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "created_at": iso_seconds(task.created_at),
        "updated_at": iso_seconds(task.updated_at),
        "self": f"/v2/tasks/{task.id}",
        "schema": "/v2/schemas/task",
    }
    if task.expires_at is not None:
        shown["expires_at"] = iso_seconds(task.expires_at)
    return shown


def whole_view(task: Task) -> dict[str, Any]:
    """A task by itself."""
    return {**view(task), "input": task.input, "result": task.result, "message": task.message}


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def _of_image_view(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "expires_at": _instant(task.expires_at),
        "created_at": _instant(task.created_at),
        "updated_at": _instant(task.updated_at),
        "deleted_at": None,
        "deleted": False,
        "input": task.input,
        "result": task.result,
        "message": task.message,
    }


def _viewer(request: Request[Any]) -> str:
    return "" if request.allows("context_is_admin") else request.caller.project_id or "-"


async def list_(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    page = page_from(request.query, sortable=set(store.SORTS))
    equal = {name: value for name in ("type", "status") if (value := request.query.get(name))}
    found = await service.db.read(store.listed, _viewer(request), equal, page)
    answer = {"tasks": [view(task) for task in found], "schema": "/v2/schemas/tasks", "first": "/v2/tasks"}
    if found and len(found) == page.limit:
        answer["next"] = f"/v2/tasks?marker={found[-1].id}&limit={page.limit}"
    return answer


async def show(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    return whole_view(await service.db.read(store.get, request.path["task_id"], _viewer(request)))


async def create(service: ImageService, request: Request[NewTask]) -> Answer:
    """An import from the web into a new image, through the same filter as web-download."""
    request.enforce()
    wanted = request.body.input
    if not wanted.image_properties.get("container_format") or not wanted.image_properties.get("disk_format"):
        raise invalid("Invalid input for field image_properties: container_format and disk_format must be there.")
    if wanted.import_from_format != wanted.image_properties["disk_format"]:
        raise invalid("import_from_format must be the disk_format of the image.", hint="Data is what it says it is.")
    task = await import_into_new_image(service, request, wanted.import_from, wanted.image_properties)
    return Answer(whole_view(task), 201, {"Location": f"{request.origin}/v2/tasks/{task.id}"})


async def of_image(service: ImageService, request: Request[Any]) -> dict[str, Any]:
    image = await seen(service, request)
    request.enforce(target(image))
    mine = image.owner == request.caller.project_id or request.allows("context_is_admin")
    if not mine:
        raise not_found("Image", image.id)
    return {"tasks": [_of_image_view(task) for task in await service.db.read(store.of_image, image.id)]}


ADMIN = "rule:context_is_admin"
_ONE = "/v2/tasks/{task_id}"
RULES = (
    Rule("tasks_api_access", ADMIN, "Who may use tasks at all.", scopes=()),
    Rule("get_tasks", "rule:tasks_api_access", "List tasks.", (("GET", "/v2/tasks"),)),
    Rule("get_task", "rule:tasks_api_access", "Show a task.", (("GET", _ONE),)),
    Rule("add_task", "rule:tasks_api_access", "Create a task.", (("POST", "/v2/tasks"),)),
)
ROUTES = (
    Route(method="GET", path="/v2/tasks", handler=list_, policy="get_tasks"),
    Route(method="POST", path="/v2/tasks", handler=create, policy="add_task", body=NewTask, success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_task"),
    Route(method="GET", path="/v2/images/{image_id}/tasks", handler=of_image, policy="get_image"),
)
