"""Rescue and unrescue a server: it boots from another image, with its own root as second disk, until it is mended.

An image with `hw_rescue_device` or `hw_rescue_bus` leaves every disk of the server in its place and adds itself as the
last one, of that kind (stable device rescue); only such an image rescues a server that boots from a volume.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid
from kilonova.base.ids import is_uuid
from kilonova.compute.contract import Power, Rescue
from kilonova.compute.core import Compute, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import migration_store, states, store
from kilonova.compute.server.begin import ADMIN, begin, load, new_operation
from kilonova.compute.server.boot_source import check_image
from kilonova.compute.server.create_checks import checked_password
from kilonova.compute.server.create_request import found_by_peer
from kilonova.compute.server.insist import until_done
from kilonova.compute.server.start_stop import PATIENCE_SECONDS, grace_of
from kilonova.compute.server.store import Server
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert
from kilonova.http.versions import Version
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.trace import spans

_DEVICES = {"disk": ("virtio", "scsi", "sata", "ide"), "cdrom": ("ide", "sata", "scsi")}  # the first is the usual one


class RescueBody(msgspec.Struct, forbid_unknown_fields=True, rename={"admin_pass": "adminPass"}):
    """{"rescue": {…}}, or {"rescue": null}."""

    admin_pass: Annotated[str, msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    rescue_image_ref: str | msgspec.UnsetType = msgspec.UNSET


class Before(msgspec.Struct):
    """Of a server that is to be rescued: its vm_state, and how long its guest is given to shut down."""

    grace_seconds: float
    was: str = ""


async def rescue(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"rescue": …}: 200 with the password that the rescue system is given."""
    server = await load(compute, request)
    body = convert(request.body or {}, RescueBody, request.version, "rescue")
    states.check("rescue", server.now(), admin=request.allows(ADMIN))
    chosen = await _choose(compute, request, server, body.rescue_image_ref or "")
    password = checked_password(body.admin_pass or "") or compute.world.ids.secret(9)
    spans.about(server.id)
    before = Before(grace_of(compute, server))
    args = {"server_id": server.id, "rescue": msgspec.to_builtins(chosen), "before": msgspec.to_builtins(before)}
    row = new_operation(compute, request, "rescue", server.id, args, {"admin_password": password})
    await compute.db.write(_begin, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)
    return Answer({"adminPass": password})


async def unrescue(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"unrescue": null}."""
    server = await load(compute, request)
    states.check("unrescue", server.now(), admin=request.allows(ADMIN))
    await begin(compute, request, server.id, "unrescue", {"rescue": server.rescue})
    return Answer(None)


async def _choose(compute: Compute, request: Request[Any], server: Server, named: str) -> Rescue:
    """The image that is named, else the one that the server was made from; ready, and fit for this server."""
    image_id = named or server.image_properties.get("base_image_ref", "") or server.image_id
    if not image_id:
        raise invalid("A server that boots from a volume is rescued with an image that is named.",
                      hint="Name one: openstack server rescue --image IMAGE.")  # fmt: skip
    if not is_uuid(image_id):
        raise invalid(f"Invalid input for field rescue.rescue_image_ref: {image_id[:60]!r} is not a UUID.")
    image = await found_by_peer(compute.peers.images.show(request.caller.token, image_id))
    check_image(image, server.flavor_struct, 0)
    chosen = rescue_with(image_id, image.properties)
    _check_volume_root(server, chosen, request.version)
    return chosen


def _check_volume_root(server: Server, chosen: Rescue, version: Version) -> None:
    if server.image_id:
        return
    if version < (2, 87):
        raise invalid(f"Cannot rescue a volume-backed instance ({server.id}).", hint="Ask with microversion 2.87.")
    if not chosen.bus:
        raise invalid(
            f"Cannot rescue a volume-backed instance with image {chosen.image_id}.",
            hint="Set hw_rescue_device and hw_rescue_bus on the image.",
        )


def rescue_with(image_id: str, properties: dict[str, str]) -> Rescue:
    """How the image wants to be plugged in; INVALID when no guest here has such a device."""
    device, bus = properties.get("hw_rescue_device", ""), properties.get("hw_rescue_bus", "")
    if not device and not bus:
        return Rescue(image_id)
    buses = _DEVICES.get(device or "disk", ())
    if not buses or (bus and bus not in buses):
        raise invalid(
            f"Image {image_id} cannot be plugged in as {device or 'disk'} on {bus or 'any bus'}.",
            hint="; ".join(f"hw_rescue_device={kind}: hw_rescue_bus={', '.join(on)}" for kind, on in _DEVICES.items()),
        )
    return Rescue(image_id, device or "disk", bus or buses[0])


@says("servers: task_state = rescuing; operation rescue recorded")
def _begin(connection: Connection, row: OperationRow, admin: bool) -> None:
    server = store.take(connection, row.resource_id, "rescue", row, admin=admin)
    row.args["host"], row.args["before"]["was"] = server.host, server.vm_state
    journal.insert(connection, row)


# ── the flows, run by a conductor


async def rescue_flow(
    op: Operation[Compute], compute: Compute, server_id: str, host: str, rescue: Rescue, before: Before
) -> None:
    """Read down: from a server that is broken to one that can be mended."""
    there, now = on_host(host), compute.world.clock.now
    await op.step("host brings the image to rescue with", there.bring_image, server_id, rescue.image_id)
    if before.was != states.STOPPED:
        await op.step(
            "host stops the guest",
            there.stop,
            server_id,
            before.grace_seconds,
            undo=there.start if before.was == states.ACTIVE else None,
            patience_seconds=PATIENCE_SECONDS,
        )
    await op.write("servers: it is rescued", _remember, server_id, op.id, rescue, now(), undo=forget_rescue)
    power = await op.step(
        "host boots it from the rescue disk",
        there.rescue,
        server_id,
        undo=there.unrescue,
        patience_seconds=PATIENCE_SECONDS,
    )
    await op.finish("servers: vm_state = rescued, task_state = None", _end, server_id, op, power, now())


async def unrescue_flow(op: Operation[Compute], compute: Compute, server_id: str, host: str, rescue: Rescue) -> None:
    """Read down: from the rescue system back to the server's own."""
    there, now = on_host(host), compute.world.clock.now
    await op.step(
        "host stops the rescue system", there.stop, server_id, 0.0, undo=there.rescue, patience_seconds=PATIENCE_SECONDS
    )
    await op.step("servers: it is not rescued any more", forget_rescue, server_id, undo=remember_rescue)
    power = await op.step("host starts the guest", there.start, server_id, patience_seconds=PATIENCE_SECONDS)
    await until_done(op, compute, "host removes the rescue disk", there.forget_rescue_disks, server_id)
    await op.finish("servers: vm_state = active, task_state = None", _end, server_id, op, power, now())


# ── what the steps need


def _remember(connection: Connection, server_id: str, operation_id: str, rescue: Rescue, now: datetime) -> None:
    store.owned(connection, server_id, operation_id, now, {"rescue": msgspec.to_builtins(rescue)})


async def forget_rescue(step: Step[Compute], server_id: str) -> None:
    """The record says that the server boots from its own disk."""
    await step.services.db.write(migration_store.write_server, server_id, {"rescue": None}, step.world.clock.now())


async def remember_rescue(step: Step[Compute], server_id: str) -> None:
    """Undo: the record says again what the server is rescued with."""
    rescue = step.row.args["rescue"]
    await step.services.db.write(migration_store.write_server, server_id, {"rescue": rescue}, step.world.clock.now())


def _end(connection: Connection, server_id: str, op: Operation[Compute], power: Power, now: datetime) -> None:
    store.end(connection, server_id, op.id, op.row.kind, now, {"power_state": str(power)})


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KINDS: tuple[Kind[Compute], ...] = (
    Kind("rescue", rescue_flow, _failed, store.show_task, (forget_rescue,)),
    Kind("unrescue", unrescue_flow, _failed, store.show_task, (remember_rescue,)),
)
_RESCUE, _UNRESCUE = "os_compute_api:os-rescue", "os_compute_api:os-unrescue"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=rescue, policy=_RESCUE, action="rescue", body=object),
    Route(method="POST", path=_ACTION, handler=unrescue, policy=_UNRESCUE, action="unrescue", success=202),
)
RULES = (
    Rule(_RESCUE, PROJECT_MEMBER_OR_ADMIN, "Rescue a server", (("POST", f"{_ACTION} (rescue)"),)),
    Rule(_UNRESCUE, PROJECT_MEMBER_OR_ADMIN, "Unrescue a server", (("POST", f"{_ACTION} (unrescue)"),)),
)
