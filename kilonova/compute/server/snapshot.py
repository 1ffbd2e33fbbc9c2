"""Make an image of a server: its root disk as it is at one moment, copied while the guest runs.

The image's record stands before the answer, so its id can be told; its bytes follow. When anything fails it is gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, forbidden, invalid
from kilonova.compute.core import Compute, on_host
from kilonova.compute.server import snapshot_volumes, store
from kilonova.compute.server.begin import ADMIN, begin, load, new_operation
from kilonova.compute.server.snapshot_volumes import Volumes, drop_snapshots, snapshots_instead_of_bytes
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.contract import NewImage
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.trace import spans

UPLOADING = "image_uploading"
PATIENCE_SECONDS = 60.0
# What describes one image and not what is made from it.
_NOT_INHERITED = (
    "disk_format", "cache_in_nova", "bittorrent", "os_glance_", "img_signature", "img_block_device_mapping",
    "block_device_mapping", "bdm_v2", "root_device_name", "mappings", "stores", "locations", "direct_url",
    "owner_specified.",
)  # fmt: skip


# What block storage tells of the image that a volume was made from, besides its properties.
_OF_THE_VOLUMES_IMAGE = {
    "image_id", "image_name", "min_ram", "min_disk", "size", "checksum", "container_format", "visibility", "name", "id",
}  # fmt: skip


class CreateImage(msgspec.Struct, forbid_unknown_fields=True):
    """{"createImage": {…}}."""

    name: str
    metadata: dict[str, str] = {}


async def create_image(compute: Compute, request: Request[CreateImage]) -> Answer:
    """POST /servers/{id}/action {"createImage"}: 202 with the image's id, or since before 2.45 its address."""
    server = await load(compute, request)
    name = checked_image_name(request.body.name)
    await check_metadata(compute, server, request.body.metadata)
    image = new_image(compute, request, server, name, request.body.metadata)
    if not server.image_id:
        request.enforce(server.target(), rule=_OF_VOLUMES)
    await compute.peers.images.create(request.caller.token, image)
    try:
        if server.image_id:
            await begin(compute, request, server.id, "createImage", {"image_id": image.id})
        else:
            await _begin_volumes(compute, request, server.id, image.id)
    except Fault:
        await compute.peers.images.delete(request.caller.token, image.id)
        raise
    return told_of(request, image.id)


def told_of(request: Request[Any], image_id: str) -> Answer:
    """What the maker of an image is told."""
    if request.version >= (2, 45):
        return Answer({"image_id": image_id})
    return Answer(None, headers={"Location": f"{request.origin}/images/{image_id}"})


async def _begin_volumes(compute: Compute, request: Request[Any], server_id: str, image_id: str) -> None:
    spans.about(server_id)
    args = {"server_id": server_id, "image_id": image_id}
    row = new_operation(compute, request, "createImage", server_id, args)
    await compute.db.write(snapshot_volumes.begin, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)


def checked_image_name(name: str) -> str:
    """The name without blanks around it, of at most 255 characters."""
    if not 0 < len(name.strip()) <= 255:
        raise invalid("Invalid input for field/attribute name: 1 to 255 characters are needed.")
    return name.strip()


async def check_metadata(compute: Compute, server: store.Server, wanted: dict[str, str]) -> None:
    """Not more properties than the quota allows, and none that is too long."""
    limits = await compute.db.read(compute.catalogue.limits, server.project_id)
    if 0 <= limits.metadata_items < len(wanted):
        raise forbidden(f"Image property count exceeds limit: {limits.metadata_items} are allowed.")
    for key, value in wanted.items():
        if not 0 < len(key) <= 255 or len(value) > 255:
            raise invalid(f"Invalid input for field/attribute metadata: {key[:60]!r} is too long, or empty.")


def new_image(
    compute: Compute, request: Request[Any], server: store.Server, name: str, more: dict[str, str]
) -> NewImage:
    """The image's record, in the words by which the field tells a snapshot."""
    caller = request.caller
    inherited = {
        key: value
        for key, value in server.image_properties.items()
        if not key.startswith(_NOT_INHERITED) and key not in _OF_THE_VOLUMES_IMAGE
    }
    told = {
        "image_type": "snapshot",
        "instance_uuid": server.id,
        "user_id": caller.user_id,
        "owner_id": server.project_id,
        "base_image_ref": inherited.get("base_image_ref") or server.image_id,
        "image_state": "available",
        "image_location": "snapshot",
        "boot_roles": ",".join(sorted(caller.roles)),
    }
    properties = {key: str(value) for key, value in {**inherited, **told, **more}.items()}
    if not server.image_id:  # its disks are snapshots of volumes, and as large as those
        return NewImage(compute.world.ids.uuid(), name, disk_format="raw", properties=properties)
    flavor = server.flavor_struct
    return NewImage(compute.world.ids.uuid(), name, min_disk_gb=flavor.root_gb, properties=properties)


# ── the flow, run by a conductor


async def flow(
    op: Operation[Compute], compute: Compute, server_id: str, image_id: str, host: str, volumes: Volumes | None = None
) -> None:
    """Read down: from a running guest to an image that another can boot from."""
    await op.step("the image waits for its bytes", image_waits, image_id, undo=drop_image)
    if volumes is None:
        await copy_root_disk(op, server_id, image_id, host)
    else:
        await snapshots_instead_of_bytes(op, server_id, image_id, host, volumes)
    await op.finish("servers: task_state = None", _end, server_id, op.id, compute.world.clock.now())


async def copy_root_disk(op: Operation[Compute], server_id: str, image_id: str, host: str) -> None:
    """The image has the root disk as it is at one moment, and is active."""
    there = on_host(host)
    await op.step(
        "host copies the root disk", there.snapshot, server_id, image_id, undo=there.drop_snapshot,
        patience_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    await op.step(
        "host sends the copy to image", there.upload_snapshot, server_id, image_id, shows=UPLOADING,
        patience_seconds=PATIENCE_SECONDS,
    )  # fmt: skip


async def image_waits(step: Step[Compute], image_id: str) -> None:
    """The record that the API made is there; a user who deleted it meanwhile ends the operation here."""
    await step.services.peers.images.show(step.secrets().get("token", ""), image_id)


async def drop_image(step: Step[Compute], image_id: str) -> None:
    """Undo: no image without a server's bytes stays."""
    await step.services.peers.images.delete(step.secrets().get("token", ""), image_id)


def _end(connection: Connection, server_id: str, operation_id: str, now: datetime) -> None:
    store.end(connection, server_id, operation_id, "createImage", now, {})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KIND: Kind[Compute] = Kind("createImage", flow, _failed, store.show_task, undos=(drop_image, drop_snapshots))
_CREATE = "os_compute_api:servers:create_image"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(
        method="POST",
        path=_ACTION,
        handler=create_image,
        policy=_CREATE,
        action="createImage",
        body=CreateImage,
        success=202,
    ),
)
_OF_VOLUMES = f"{_CREATE}:allow_volume_backed"
_POST = (("POST", f"{_ACTION} (createImage)"),)
RULES = (
    Rule(_CREATE, PROJECT_MEMBER_OR_ADMIN, "Make an image of a server", _POST),
    Rule(_OF_VOLUMES, PROJECT_MEMBER_OR_ADMIN, "Make an image of a server that boots from a volume", _POST),
)
