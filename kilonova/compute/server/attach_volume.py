"""Attach a volume to a server and detach it again, while its guest runs, is paused or is off.

The record has the device from the request on, marked as on its way; the volume is reserved before the answer, so that
of two servers that ask for it only one is told yes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection as Database

from kilonova.base.faults import Fault, conflict, invalid, not_found
from kilonova.base.faults import Kind as FaultKind
from kilonova.base.ids import is_uuid
from kilonova.block_storage.contract import Connection, VolumeRef
from kilonova.compute.contract import BlockDevice
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import states, store
from kilonova.compute.server.begin import load, new_operation, record_beside
from kilonova.compute.server.device_names import give_names, name_for_new
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN, PROJECT_READER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow, Superseded
from kilonova.saga.operation import Kind, Operation, Step

ATTACHING, DETACHING = "attaching", "detaching"
REFUSALS = (FaultKind.CONFLICT, FaultKind.INVALID, FaultKind.NOT_FOUND, FaultKind.FORBIDDEN, FaultKind.OVER_QUOTA)
PATIENCE_SECONDS = 60.0
_DEVICE = re.compile(r"(/dev/x?[a-z]?d?)[a-z]+[0-9]*\Z")


class Attach(msgspec.Struct, forbid_unknown_fields=True, rename={"volume_id": "volumeId"}):
    """{"volumeAttachment": {…}} of POST."""

    volume_id: str
    device: str | None = None
    tag: Annotated[str | None, since("2.49")] = None
    delete_on_termination: Annotated[bool, since("2.79")] = False


class Change(msgspec.Struct, forbid_unknown_fields=True, rename={"volume_id": "volumeId", "server_id": "serverId"}):
    """{"volumeAttachment": {…}} of PUT: only delete_on_termination changes, the rest must say what is."""

    volume_id: str
    delete_on_termination: bool | None = None
    id: str | None = None
    server_id: str | None = None
    device: str | None = None
    tag: str | None = None


# ── attach: the API's part


async def attach(compute: Compute, request: Request[Attach]) -> dict[str, Any]:
    """POST /servers/{id}/os-volume_attachments: 200 once the volume is the server's; the guest has it soon after."""
    server = await load(compute, request)
    want = request.body
    _check_body(want)
    volume = await _volume(compute, request, want.volume_id)
    _check_volume(volume, request)
    device = BlockDevice(
        id=compute.world.ids.uuid(),
        source_type="volume",
        destination_type="volume",
        boot_index=None,
        volume_id=volume.id,
        volume_size_gib=volume.size_gib,
        delete_on_termination=want.delete_on_termination,
        tag=want.tag or "",
        under_way=ATTACHING,
    )
    args = {"server_id": server.id, "device_id": device.id}
    row = new_operation(compute, request, "attach_volume", server.id, args)

    def add(connection: Database, seen: store.Server) -> None:
        _add_device(connection, seen, device, want.device or "", volume)

    await record_beside(compute, request, "attach_volume", row, add)
    await _reserve_at_once(compute, request, row, device)
    await compute.conductor.run_operation(row.id)
    return {"volumeAttachment": shown(request, server.id, device, new=True)}


async def _reserve_at_once(compute: Compute, request: Request[Any], row: OperationRow, device: BlockDevice) -> None:
    """The volume is the server's before the answer. Without an answer of block storage the flow asks it again."""
    token, volumes, server_id = request.caller.token, compute.peers.volumes, row.resource_id
    try:
        attachment_id = await volumes.reserve(token, _reserve_key(row.id), device.volume_id, server_id)
    except Fault as fault:
        if fault.kind not in REFUSALS:
            return
        await compute.db.write(_refused, row, fault)
        raise _as_told(fault) from fault
    if not await compute.db.write(_reserved, server_id, device.id, attachment_id):
        await volumes.detach(token, attachment_id)
        raise conflict(f"Instance {server_id} was deleted meanwhile.", code="InstanceInvalidState")


def _check_body(want: Attach) -> None:
    if not is_uuid(want.volume_id):
        raise invalid(f"Invalid input for field/attribute volumeId. Value: {want.volume_id[:60]}. It is not a UUID.")
    if want.device is not None and not _DEVICE.match(want.device):
        raise invalid(f"Invalid input for field/attribute device. Value: {want.device[:60]}.",
                      hint="Write it like /dev/vdb, or leave it out.")  # fmt: skip
    if want.tag is not None and (not 0 < len(want.tag) <= 60 or "/" in want.tag or "," in want.tag):
        raise invalid("Invalid input for field/attribute tag: 1 to 60 characters without slash and comma.")


async def _volume(compute: Compute, request: Request[Any], volume_id: str) -> VolumeRef:
    try:
        return await compute.peers.volumes.show(request.caller.token, volume_id)
    except Fault as fault:
        if fault.kind is FaultKind.NOT_FOUND:
            raise not_found("Volume", volume_id, code="VolumeNotFound") from fault
        raise


def _check_volume(volume: VolumeRef, request: Request[Any]) -> None:
    if volume.multiattach and request.version < (2, 60):
        raise invalid(
            f"Volume {volume.id} can be attached to several servers at once, which needs microversion 2.60.",
            hint="Ask with a newer microversion.",
            code="MultiattachNotSupportedOldMicroversion",
        )
    if volume.status not in (("available", "in-use") if volume.multiattach else ("available",)):
        raise invalid(
            f"Invalid volume: volume {volume.id} status must be available. Currently in {volume.status}.",
            hint="Detach it from the server that has it, or choose another.",
        )


def _add_device(
    connection: Database, server: store.Server, device: BlockDevice, wanted: str, volume: VolumeRef
) -> None:
    """The record has the device, at a place that its guest has free."""
    mapping = store.devices_of(connection, server.id)
    if any(one.volume_id == volume.id for one in mapping):
        raise invalid(
            f"Invalid volume: volume {volume.id} already attached.",
            hint="A server has a volume once only.",
        )
    if volume.multiattach and not server.host:
        raise conflict("A volume of several servers cannot be attached to a server that is shelved and offloaded.")
    give_names(server, mapping)
    device.device_name = name_for_new(server, mapping, wanted)
    store.set_devices(connection, server.id, [*mapping, device])


@says(lambda row, _fault: "block devices: the volume was refused; the attach has failed")
def _refused(connection: Database, row: OperationRow, fault: Fault) -> None:
    """The operation is over. A conductor that took it up meanwhile is told the same and ends it."""
    try:
        journal.move(connection, row, "failed", row.created_at, fault)
    except Superseded:
        return
    _drop_device(connection, row.resource_id, row.args["device_id"])


def _as_told(fault: Fault) -> Fault:
    if fault.kind in (FaultKind.CONFLICT, FaultKind.INVALID):
        return invalid(fault.message, hint=fault.hint)
    return fault


def _reserve_key(operation_id: str) -> str:
    """The key of the flow's own step, so that it finds what the API reserved."""
    return f"{operation_id}/{reserve_volume.__name__}/0"


# ── attach: the flow, run by a conductor


async def attach_flow(op: Operation[Compute], compute: Compute, server_id: str, device_id: str, host: str) -> None:
    """Read down: from a reserved volume to a disk in the guest. Without a host the next build plugs it in."""
    attachment_id = await op.step(
        "block storage reserves the volume", reserve_volume, server_id, device_id, undo=give_back_volume
    )
    await op.write("block devices: attachment recorded", _reserved, server_id, device_id, attachment_id)
    if host:
        there = on_host(host)
        found = await op.step(
            "host asks block storage to connect", there.connect_volume, server_id, device_id,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        await op.write("block devices: connection recorded", _connected, server_id, device_id, found)
        await op.step(
            "host plugs the disk into the guest", there.plug_volume, server_id, device_id, undo=there.unplug_volume,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
    await op.write("block devices: attached", _attached, server_id, device_id)
    if host:  # last, as whoever waits for `in-use` goes on at once
        await op.step("block storage hears that the guest has it", complete_attachment, attachment_id)
    await op.finish("the volume is attached", _done)


async def complete_attachment(step: Step[Compute], attachment_id: str) -> None:
    """The volume is in use."""
    await step.services.peers.volumes.complete(await step.services.peers.own_token(), attachment_id)


async def reserve_volume(step: Step[Compute], server_id: str, device_id: str) -> str:
    """The attachment's id; the API made it already, by the same key."""
    device = await step.services.db.read(_device, server_id, device_id)
    if device is None:
        raise not_found("Block device", device_id)
    token = step.secrets().get("token", "")
    return await step.services.peers.volumes.reserve(token, step.key, device.volume_id, server_id)


async def give_back_volume(
    step: Step[Compute], server_id: str, device_id: str, attachment_id: str | None = None
) -> None:  # fmt: skip
    """Undo of a reservation, also of one that was made and never recorded, or after the device was dropped."""
    compute = step.services
    device = await compute.db.read(_device, server_id, device_id)
    if device is None and attachment_id is None:
        return
    token = await compute.peers.own_token()
    for held in await compute.peers.volumes.attachments_of(token, server_id):
        if held.id == attachment_id or (device is not None and held.volume_id == device.volume_id):
            await compute.peers.volumes.detach(token, held.id)
    await compute.db.write(_drop_device, server_id, device_id)


# ── detach


async def detach(compute: Compute, request: Request[Any]) -> Answer:
    """DELETE /servers/{id}/os-volume_attachments/{volume}: 202; the volume is available once the guest let go."""
    server = await load(compute, request)
    volume_id = request.path["volume_id"]
    device = _named(await compute.db.read(store.devices_of, server.id), volume_id)
    row = new_operation(compute, request, "detach_volume", server.id, {"server_id": server.id, "device_id": device.id})

    def mark(connection: Database, seen: store.Server) -> None:
        _mark_detaching(connection, seen, volume_id)

    await record_beside(compute, request, "detach_volume", row, mark)
    await compute.conductor.run_operation(row.id)
    return Answer(None)


def _named(mapping: list[BlockDevice], volume_id: str) -> BlockDevice:
    for device in mapping:
        if volume_id and device.volume_id == volume_id:
            return device
    raise not_found("Volume attachment", volume_id[:80], code="VolumeBDMNotFound")


def _mark_detaching(connection: Database, server: store.Server, volume_id: str) -> None:
    mapping = store.devices_of(connection, server.id)
    device = _named(mapping, volume_id)
    if device.boot_index == 0 and server.vm_state != states.SHELVED_OFFLOADED:
        raise invalid("Cannot detach a root device volume", hint="Delete the server to free its root volume.")
    if device.under_way:
        raise invalid(
            f"Invalid volume: Unable to detach volume. Volume {volume_id} is {device.under_way}, not in-use.",
            hint="Wait until that has ended.",
        )
    give_names(server, mapping)
    device.under_way = DETACHING
    store.set_devices(connection, server.id, mapping)


async def detach_flow(op: Operation[Compute], compute: Compute, server_id: str, device_id: str, host: str) -> None:
    """Read down: from a disk in the guest to an available volume. The guest lets go first, then block storage."""
    if host:
        there = on_host(host)
        await op.step(
            "host takes the disk out of the guest", there.unplug_volume, server_id, device_id, undo=there.plug_volume,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
    await op.step("block storage detaches the volume", detach_volume, server_id, device_id)
    await op.finish("block devices: detached", _drop_device, server_id, device_id)


async def detach_volume(step: Step[Compute], server_id: str, device_id: str) -> None:
    """No host is connected for the server, the volume is available; done already is fine."""
    device = await step.services.db.read(_device, server_id, device_id)
    if device is not None and device.attachment_id:
        await step.services.peers.volumes.detach(await step.services.peers.own_token(), device.attachment_id)


# ── units


def _device(connection: Database, server_id: str, device_id: str) -> BlockDevice | None:
    return next((one for one in store.devices_of(connection, server_id) if one.id == device_id), None)


def _change(database: Database, server_id: str, device_id: str, **values: Any) -> bool:
    """Set fields of one device; False when a delete took it away."""
    store.get(database, server_id, deleted=True, lock=True)
    mapping = store.devices_of(database, server_id)
    for device in mapping:
        if device.id == device_id:
            for name, value in values.items():
                setattr(device, name, value)
            store.set_devices(database, server_id, mapping)
            return True
    return False


@says("block devices: attachment recorded")
def _reserved(connection: Database, server_id: str, device_id: str, attachment_id: str) -> bool:
    return _change(connection, server_id, device_id, attachment_id=attachment_id)


def _connected(connection: Database, server_id: str, device_id: str, found: Connection) -> None:
    _change(connection, server_id, device_id, connection=found)


def _attached(connection: Database, server_id: str, device_id: str) -> None:
    _change(connection, server_id, device_id, under_way="")


def _drop_device(connection: Database, server_id: str, device_id: str) -> None:
    store.get(connection, server_id, deleted=True, lock=True)
    mapping = store.devices_of(connection, server_id)
    store.set_devices(connection, server_id, [device for device in mapping if device.id != device_id])


def _done(connection: Database) -> None:
    """The record says it all already."""


def _attach_failed(connection: Database, row: OperationRow, fault: Fault) -> None:
    _drop_device(connection, row.args["server_id"], row.args["device_id"])


def _detach_failed(connection: Database, row: OperationRow, fault: Fault) -> None:
    """The guest did not let go: it has the disk as before."""
    _change(connection, row.args["server_id"], row.args["device_id"], under_way="")


# ── list, show, update


def shown(request: Request[Any], server_id: str, device: BlockDevice, *, new: bool = False) -> dict[str, Any]:
    """An attachment as clients of the request's version see it; the answer to a new one never had the newest keys."""
    one: dict[str, Any] = {
        "device": device.device_name or None,
        "serverId": server_id,
        "volumeId": device.volume_id,
    }
    if request.version < (2, 89) or new:
        one["id"] = device.volume_id
    else:
        one |= {"attachment_id": device.attachment_id or None, "bdm_uuid": device.id}
    if request.version >= (2, 70):
        one["tag"] = device.tag or None
    if request.version >= (2, 79):
        one["delete_on_termination"] = device.delete_on_termination
    return one


async def _attached_to(compute: Compute, request: Request[Any]) -> tuple[store.Server, list[BlockDevice]]:
    server = await load(compute, request)
    mapping = await compute.db.read(store.devices_of, server.id)
    give_names(server, mapping)
    return server, [device for device in mapping if device.volume_id]


async def index(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-volume_attachments, paged by limit and offset."""
    server, found = await _attached_to(compute, request)
    start = request.query.integer("offset") or 0
    limit = request.query.integer("limit")
    page = found[start : None if limit is None else start + limit]
    return {"volumeAttachments": [shown(request, server.id, device) for device in page]}


async def show(compute: Compute, request: Request[Any]) -> dict[str, Any]:
    """GET /servers/{id}/os-volume_attachments/{volume}."""
    server, found = await _attached_to(compute, request)
    return {"volumeAttachment": shown(request, server.id, _named(found, request.path["volume_id"]))}


async def update(compute: Compute, request: Request[Change]) -> Answer:
    """PUT /servers/{id}/os-volume_attachments/{volume}: whether the volume is deleted with the server."""
    server, found = await _attached_to(compute, request)
    device, want = _named(found, request.path["volume_id"]), request.body
    if want.volume_id != device.volume_id:
        raise invalid(
            "The volume of an attachment cannot be exchanged here.",
            hint="Detach the volume and attach the other one.",
        )
    said = {"id": want.id, "serverId": want.server_id, "device": want.device, "tag": want.tag}
    known = {"id": device.volume_id, "serverId": server.id, "device": device.device_name, "tag": device.tag}
    for name, value in said.items():
        if value is not None and value != known[name]:
            raise invalid(f"Invalid input for field/attribute {name}: it cannot be changed.")
    if want.delete_on_termination is None:
        raise invalid("Invalid input for field/attribute volumeAttachment: delete_on_termination is missing.")
    await compute.db.write(_keep_or_delete, server.id, device.id, want.delete_on_termination)
    return Answer(None)


@says("block devices: delete_on_termination")
def _keep_or_delete(connection: Database, server_id: str, device_id: str, delete: bool) -> None:
    _change(connection, server_id, device_id, delete_on_termination=delete)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("attach_volume", attach_flow, _attach_failed, undos=(give_back_volume,)),
    Kind("detach_volume", detach_flow, _detach_failed),
)
_P = "os_compute_api:os-volumes-attachments:{}"
_ALL = "/servers/{server_id}/os-volume_attachments"
_ONE = f"{_ALL}/{{volume_id}}"
ROUTES = (
    Route(method="GET", path=_ALL, handler=index, policy=_P.format("index")),
    Route(method="POST", path=_ALL, handler=attach, policy=_P.format("create"), body=Attach,
          envelope="volumeAttachment"),
    Route(method="GET", path=_ONE, handler=show, policy=_P.format("show")),
    Route(method="PUT", path=_ONE, handler=update, policy=_P.format("update"), body=Change,
          envelope="volumeAttachment", since="2.85", success=202),
    Route(method="DELETE", path=_ONE, handler=detach, policy=_P.format("delete"), success=202),
)  # fmt: skip
RULES = (
    Rule(_P.format("index"), PROJECT_READER_OR_ADMIN, "List a server's volumes", (("GET", _ALL),)),
    Rule(_P.format("create"), PROJECT_MEMBER_OR_ADMIN, "Attach a volume to a server", (("POST", _ALL),)),
    Rule(_P.format("show"), PROJECT_READER_OR_ADMIN, "Show a server's volume", (("GET", _ONE),)),
    Rule(_P.format("update"), PROJECT_MEMBER_OR_ADMIN, "Say whether a volume goes with its server", (("PUT", _ONE),)),
    Rule(_P.format("delete"), PROJECT_MEMBER_OR_ADMIN, "Detach a volume from a server", (("DELETE", _ONE),)),
)
