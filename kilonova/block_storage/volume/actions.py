"""POST /volumes/{id}/action: the older steps of attaching, extend, flags, image metadata, and resets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.block_storage.attachment import connection_store
from kilonova.block_storage.attachment import resource as attachments
from kilonova.block_storage.attachment import store as attachment_store
from kilonova.block_storage.attachment.store import Attachment
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.names import checked_flag, checked_pairs, checked_size
from kilonova.block_storage.volume import extend as extension
from kilonova.block_storage.volume import store
from kilonova.block_storage.volume.resource import begin_delete, seen, target
from kilonova.block_storage.volume.store import Volume
from kilonova.http.request import Request
from kilonova.http.route import Handler, Route
from kilonova.policy.personas import VOLUME_ADMIN_OR_MEMBER, VOLUME_ADMIN_OR_READER
from kilonova.policy.rules import Rule

STATUSES = (
    "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching",
    "in-use", "maintenance", "detaching", "reserved", "extending", "error_extending", "downloading", "uploading",
)  # fmt: skip


class Extend(msgspec.Struct, forbid_unknown_fields=True):
    new_size: Any


class Bootable(msgspec.Struct, forbid_unknown_fields=True):
    bootable: Any


class Readonly(msgspec.Struct, forbid_unknown_fields=True):
    readonly: Any


class Status(msgspec.Struct, forbid_unknown_fields=True):
    status: str | None = None
    attach_status: str | None = None
    migration_status: str | None = None


class Attach(msgspec.Struct, forbid_unknown_fields=True):
    mountpoint: str = ""
    instance_uuid: str | None = None
    host_name: str | None = None
    mode: str = "rw"


class Detach(msgspec.Struct, forbid_unknown_fields=True):
    attachment_id: str | None = None
    connector: dict[str, Any] | None = None


class WithConnector(msgspec.Struct, forbid_unknown_fields=True):
    connector: dict[str, Any]


class ImageMetadata(msgspec.Struct, forbid_unknown_fields=True):
    metadata: dict[str, Any]


class ImageKey(msgspec.Struct, forbid_unknown_fields=True):
    key: str


async def _volume(service: BlockStorage, request: Request[Any]) -> Volume:
    volume = await seen(service, request)
    request.enforce(target(volume))
    return volume


def _moves(name: str, origin: tuple[str, ...], end: str) -> Handler:
    """An action that only moves the status."""

    async def act(service: BlockStorage, request: Request[Any]) -> None:
        volume = await _volume(service, request)
        values = {"status": end, "previous_status": volume.status, "updated_at": service.world.clock.now()}
        allowed = (*origin, "in-use") if name == "reserve" and volume.multiattach else origin
        if not await service.db.write(store.move, volume.id, allowed, values):
            raise _wrong_status(volume, name, allowed)

    return act


def _wrong_status(volume: Volume, verb: str, allowed: tuple[str, ...]) -> Exception:
    return invalid(
        f"Invalid volume: Volume {volume.id} status must be {' or '.join(allowed)} to {verb}, but the current "
        f"status is {volume.status}."
    )


async def unreserve(service: BlockStorage, request: Request[Any]) -> None:
    volume = await _volume(service, request)
    status = "in-use" if any(one.status == "attached" for one in volume.attachments) else "available"
    values = {"status": status, "updated_at": service.world.clock.now()}
    if not await service.db.write(store.move, volume.id, ("attaching",), values):
        raise _wrong_status(volume, "unreserve", ("attaching",))


async def attach(service: BlockStorage, request: Request[Attach]) -> None:
    volume, body, now = await _volume(service, request), request.body, service.world.clock.now()
    if bool(body.instance_uuid) == bool(body.host_name):
        raise invalid("Invalid request to attach volume to an invalid target", hint="Name a server or a host.")
    if body.mode not in ("rw", "ro"):
        raise invalid("Invalid request to attach volume with an invalid mode. Attaching mode should be 'rw' or 'ro'.")
    if volume.readonly and body.mode == "rw":
        raise invalid("Invalid volume: Invalid attaching mode 'rw' for read-only volumes.", hint="Attach it with ro.")
    one = Attachment(
        id=service.world.ids.uuid(),
        volume_id=volume.id,
        project_id=volume.project_id,
        created_at=now,
        instance_id=body.instance_uuid or "",
        status="attached",
        mode=body.mode,
        host=body.host_name or "",
        mountpoint=body.mountpoint[:255],
        connector={"host": body.host_name} if body.host_name else {},
        attached_at=now,
    )

    def write(connection: Any) -> None:
        allowed = ("available", "attaching", "in-use") if volume.multiattach else ("available", "attaching")
        if not store.move(connection, volume.id, allowed, {"status": "in-use", "updated_at": now}):
            raise _wrong_status(volume, "attach", allowed)
        attachment_store.insert(connection, one)

    await service.db.write(write)


async def detach(service: BlockStorage, request: Request[Detach]) -> None:
    await _detach(service, request)


async def force_detach(service: BlockStorage, request: Request[Detach]) -> None:
    await _detach(service, request)


async def _detach(service: BlockStorage, request: Request[Detach]) -> None:
    volume, wanted = await _volume(service, request), request.body.attachment_id if request.body else None
    held = [one for one in volume.attachments if not wanted or one.id == wanted]
    if wanted and not held:
        raise invalid(f"Invalid volume: volume {volume.id} has no attachment {wanted[:60]}.")
    if len(held) > 1:
        raise invalid("Invalid volume: volume is attached to more than one server or host.", hint="Say attachment_id.")
    for one in held:
        attachments.require_not_in_a_server(request, one)
        await attachments.disconnect(service, one)
    if not held:
        now = service.world.clock.now()
        values = {"status": "available", "updated_at": now}
        await service.db.write(store.move, volume.id, ("in-use", "detaching"), values)


async def initialize_connection(service: BlockStorage, request: Request[WithConnector]) -> dict[str, Any]:
    volume, connector = await _volume(service, request), request.body.connector
    if not isinstance(connector.get("host"), str) or not connector["host"]:
        raise invalid("Invalid input for field connector: it has no host.")
    attachments.connect_here_only(request, connector)
    await service.db.write(connection_store.want, volume.id, connector["host"][:255], service.world.clock.now())
    found = await service.agent(volume.host).initialize_connection(volume.id, attachments.typed(connector))
    data = found.data | {"access_mode": "ro" if volume.readonly else "rw", "encrypted": False}
    return {"connection_info": {"driver_volume_type": found.driver_volume_type, "data": data}}


async def terminate_connection(service: BlockStorage, request: Request[WithConnector]) -> None:
    volume, connector = await _volume(service, request), request.body.connector
    for one in volume.attachments:
        if one.host == connector.get("host"):
            attachments.require_not_in_a_server(request, one)
    await service.agent(volume.host).terminate_connection(volume.id, attachments.typed(connector))
    await service.db.write(connection_store.unwant, volume.id, str(connector["host"])[:255])


async def extend(service: BlockStorage, request: Request[Extend]) -> None:
    volume = await _volume(service, request)
    size_gib = checked_size(request.body.new_size, "new_size")
    row = service.operation(request, "extend", volume.id, {})
    begin = partial(extension.begin, online=request.version >= (3, 42))
    await service.start(row, begin, row, size_gib, dict(service.settings.quota))


async def set_bootable(service: BlockStorage, request: Request[Bootable]) -> None:
    volume = await _volume(service, request)
    values = {"bootable": checked_flag(request.body.bootable, "bootable"), "updated_at": service.world.clock.now()}
    await service.db.write(store.change, volume.id, values)


async def set_readonly(service: BlockStorage, request: Request[Readonly]) -> None:
    volume = await _volume(service, request)
    readonly = checked_flag(request.body.readonly, "readonly")
    values = {"readonly": readonly, "updated_at": service.world.clock.now()}
    if not await service.db.write(store.move, volume.id, ("available",), values):
        raise _wrong_status(volume, "update its readonly flag", ("available",))
    await service.db.write(store.put_metadata, volume.id, "volume", {"readonly": str(readonly)})


async def reset_status(service: BlockStorage, request: Request[Status]) -> None:
    volume, body = await _volume(service, request), request.body
    if body.status is None and body.attach_status is None and body.migration_status is None:
        raise invalid("Must specify 'status', 'attach_status' or 'migration_status' for update.")
    if body.status is not None and body.status.lower() not in STATUSES:
        raise invalid(f"Must specify a valid status: {body.status[:40]!r}.", hint=f"Known: {', '.join(STATUSES)}.")
    if body.attach_status not in (None, "attached", "detached"):
        raise invalid("Must specify a valid attach status: attached or detached.")
    now = service.world.clock.now()

    def write(connection: Any) -> None:
        if body.status is not None:
            values = {"status": body.status.lower(), "previous_status": volume.status, "updated_at": now}
            store.change(connection, volume.id, values)
        if body.attach_status == "detached":
            attachment_store.delete_of_volume(connection, volume.id)

    await service.db.write(write)


async def force_delete(service: BlockStorage, request: Request[Any]) -> None:
    await begin_delete(service, request, await _volume(service, request), force=True)


async def set_image_metadata(service: BlockStorage, request: Request[ImageMetadata]) -> dict[str, Any]:
    volume, values = await _volume(service, request), checked_pairs(request.body.metadata, "metadata")
    await service.db.write(store.put_metadata, volume.id, "image", values)
    return {"metadata": (await service.db.read(store.get, volume.id)).image_metadata}


async def show_image_metadata(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    return {"metadata": (await _volume(service, request)).image_metadata}


async def unset_image_metadata(service: BlockStorage, request: Request[ImageKey]) -> None:
    volume = await _volume(service, request)
    await service.db.write(store.drop_metadata, volume.id, "image", request.body.key)


_A, _ADMIN_ACTIONS = "volume_extension:volume_actions:{}", "volume_extension:volume_admin_actions:{}"
_IMAGE = "volume_extension:volume_image_metadata:{}"
_USER_ACTIONS = ("attach", "detach", "begin_detaching", "roll_detaching", "reserve", "unreserve",
                 "initialize_connection", "terminate_connection")  # fmt: skip
RULES = (
    *(Rule(_A.format(verb), VOLUME_ADMIN_OR_MEMBER, f"Action {verb} of a volume.") for verb in _USER_ACTIONS),
    *(
        Rule(_ADMIN_ACTIONS.format(verb), "rule:admin_api", f"Action {verb} of a volume.")
        for verb in ("reset_status", "force_delete", "force_detach")
    ),
    Rule("volume:extend", VOLUME_ADMIN_OR_MEMBER, "Extend a volume."),
    Rule("volume:update_readonly_flag", VOLUME_ADMIN_OR_MEMBER, "Make a volume read-only."),
    Rule(_IMAGE.format("show"), VOLUME_ADMIN_OR_READER, "See a volume's image metadata."),
    Rule(_IMAGE.format("set"), VOLUME_ADMIN_OR_MEMBER, "Set a volume's image metadata."),
    Rule(_IMAGE.format("remove"), VOLUME_ADMIN_OR_MEMBER, "Drop a volume's image metadata."),
)


def _action(
    name: str, handler: Callable[..., Any], policy: str, body: type[msgspec.Struct] | None = None, success: int = 202
) -> Route:
    return Route(
        method="POST",
        path="/volumes/{volume_id}/action",
        handler=handler,
        policy=policy,
        action=name,
        body=body,
        success=success,
    )


ROUTES = (
    _action("os-reserve", _moves("reserve", ("available",), "attaching"), _A.format("reserve")),
    _action("os-unreserve", unreserve, _A.format("unreserve")),
    _action("os-begin_detaching", _moves("detach", ("in-use",), "detaching"), _A.format("begin_detaching")),
    _action("os-roll_detaching", _moves("roll back", ("detaching",), "in-use"), _A.format("roll_detaching")),
    _action("os-attach", attach, _A.format("attach"), Attach),
    _action("os-detach", detach, _A.format("detach"), Detach),
    _action("os-force_detach", force_detach, _ADMIN_ACTIONS.format("force_detach"), Detach),
    _action("os-initialize_connection", initialize_connection, _A.format("initialize_connection"), WithConnector, 200),
    _action("os-terminate_connection", terminate_connection, _A.format("terminate_connection"), WithConnector),
    _action("os-extend", extend, "volume:extend", Extend),
    _action("os-set_bootable", set_bootable, "volume:update", Bootable, 200),
    _action("os-update_readonly_flag", set_readonly, "volume:update_readonly_flag", Readonly),
    _action("os-reset_status", reset_status, _ADMIN_ACTIONS.format("reset_status"), Status),
    _action("os-force_delete", force_delete, _ADMIN_ACTIONS.format("force_delete")),
    _action("os-set_image_metadata", set_image_metadata, _IMAGE.format("set"), ImageMetadata, 200),
    _action("os-show_image_metadata", show_image_metadata, _IMAGE.format("show"), None, 200),
    _action("os-unset_image_metadata", unset_image_metadata, _IMAGE.format("remove"), ImageKey, 200),
)
