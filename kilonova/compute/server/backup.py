"""Back a server up: an image of its root disk, after which only the newest `rotation` backups of that kind are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.compute.core import Compute
from kilonova.compute.server import store
from kilonova.compute.server.begin import begin, load
from kilonova.compute.server.insist import until_done
from kilonova.compute.server.snapshot import (
    check_metadata,
    checked_image_name,
    copy_root_disk,
    drop_image,
    image_waits,
    new_image,
    told_of,
)
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step

ROTATION_MOST = 1000


class CreateBackup(msgspec.Struct, forbid_unknown_fields=True):
    """{"createBackup": {…}}; `backup_type` is the user's word: daily, weekly, …"""

    name: str
    backup_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    rotation: int | str
    metadata: dict[str, str] = {}


class Rotation(msgspec.Struct):
    """Of backups of a kind, how many stay."""

    backup_type: str
    keep: int


async def create_backup(compute: Compute, request: Request[CreateBackup]) -> Answer:
    """POST /servers/{id}/action {"createBackup"}: 202 with the image's id, or before 2.45 its address."""
    server, body = await load(compute, request), request.body
    name, rotation = checked_image_name(body.name), Rotation(body.backup_type, _checked_rotation(body.rotation))
    await check_metadata(compute, server, body.metadata)
    if not server.image_id:
        raise invalid(
            "It is not supported to backup volume backed instance.",
            hint="Back its volumes up, or make an image of it.",
        )
    words = {"image_type": "backup", "backup_type": rotation.backup_type}
    image = new_image(compute, request, server, name, {**body.metadata, **words})
    await compute.peers.images.create(request.caller.token, image)
    try:
        args = {"image_id": image.id, "rotation": msgspec.to_builtins(rotation)}
        await begin(compute, request, server.id, "createBackup", args)
    except Fault:
        await compute.peers.images.delete(request.caller.token, image.id)
        raise
    return told_of(request, image.id)


def _checked_rotation(value: int | str) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and int(text) <= ROTATION_MOST):
        raise invalid(f"Invalid input for field rotation: {text[:20]!r} is not a number of 0 to {ROTATION_MOST}.")
    return int(text)


# ── the flow, run by a conductor


async def flow(
    op: Operation[Compute], compute: Compute, server_id: str, image_id: str, host: str, rotation: Rotation
) -> None:
    """Read down: one backup more, and those gone that nobody asked to keep."""
    await op.step("the image waits for its bytes", image_waits, image_id, undo=drop_image)
    await copy_root_disk(op, server_id, image_id, host)
    await until_done(op, compute, "older backups are deleted", delete_older, server_id, rotation)
    await op.finish("servers: task_state = None", _end, server_id, op.id, compute.world.clock.now())


async def delete_older(step: Step[Compute], server_id: str, rotation: Rotation) -> None:
    """The newest of the server's backups of that kind stay, as many as were asked for."""
    images, token = step.services.peers.images, step.secrets().get("token", "")
    words = {"instance_uuid": server_id, "image_type": "backup", "backup_type": rotation.backup_type}
    for image_id in (await images.newest_first(token, words))[rotation.keep :]:
        await images.delete(token, image_id)


def _end(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    store.end(connection, server_id, operation_id, "createBackup", now, {})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KIND: Kind[Compute] = Kind("createBackup", flow, _failed, store.show_task, undos=(drop_image,))
_BACKUP = "os_compute_api:os-create-backup"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=create_backup, policy=_BACKUP, action="createBackup", body=CreateBackup,
          success=202),
)  # fmt: skip
RULES = (Rule(_BACKUP, PROJECT_MEMBER_OR_ADMIN, "Back a server up", (("POST", f"{_ACTION} (createBackup)"),)),)
