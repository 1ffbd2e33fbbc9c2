"""Rebuild a server: a fresh root disk from an image; id, addresses, ports and volumes stay.

Until the new guest runs the old disks are kept, so that a rebuild that fails gives the old server back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid, no_capacity
from kilonova.compute.contract import Power, RequestSpec
from kilonova.compute.contract.numa import topology_of
from kilonova.compute.core import Compute, Limits, on_host
from kilonova.compute.schema import journal
from kilonova.compute.server import migration_store, states, store, views
from kilonova.compute.server.begin import ADMIN, load, new_operation
from kilonova.compute.server.boot_source import check_image, truth
from kilonova.compute.server.create_checks import (
    checked_ip,
    checked_metadata,
    checked_password,
    checked_personality,
    checked_user_data,
)
from kilonova.compute.server.create_request import found_by_peer, last_of
from kilonova.compute.server.insist import until_done
from kilonova.compute.server.names import checked_hostname, checked_name, checked_text
from kilonova.compute.server.resize import spec_of
from kilonova.compute.server.resource import load_shown
from kilonova.compute.server.start_stop import PATIENCE_SECONDS
from kilonova.compute.server.store import Server
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert, since, until
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.trace import spans

Unset = msgspec.UnsetType
UNSET = msgspec.UNSET
Values = dict[str, Any]

# ── the request


class Rebuild(msgspec.Struct, forbid_unknown_fields=True, rename={
    "image_ref": "imageRef", "admin_pass": "adminPass", "disk_config": "OS-DCF:diskConfig",
    "access_ip_v4": "accessIPv4", "access_ip_v6": "accessIPv6"}):  # fmt: skip
    """{"rebuild": {…}}; what is not named stays as it is."""

    image_ref: Annotated[str, msgspec.Meta(min_length=1)]
    name: str | None = None
    admin_pass: str = ""
    metadata: dict[str, Any] | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    disk_config: Literal["AUTO", "MANUAL"] | None = None
    preserve_ephemeral: bool | str = False
    personality: Annotated[list[dict[str, Any]] | None, until("2.56")] = None
    description: Annotated[str | Unset | None, since("2.19")] = UNSET
    key_name: Annotated[str | Unset | None, since("2.54")] = UNSET
    user_data: Annotated[str | Unset | None, since("2.57")] = UNSET
    trusted_image_certificates: Annotated[list[str] | Unset | None, since("2.63")] = UNSET
    hostname: Annotated[str | None, since("2.90")] = None


class Work(msgspec.Struct):
    """What the flow needs to know, besides which server where: `spec` when the image is another; `was` its vm_state;
    `image_id` "" when its root is a volume."""

    keep_ephemeral: bool
    spec: RequestSpec | None
    was: str = ""
    image_id: str = ""


async def rebuild(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"rebuild": …}: 202 with the server as it shows now, and its password."""
    server = await load(compute, request)
    want = convert(request.body, Rebuild, request.version, "rebuild")
    states.check("rebuild", server.now(), admin=request.allows(ADMIN))
    if want.trusted_image_certificates is not UNSET:
        request.enforce(server.target(), rule=f"{_REBUILD}:trusted_certs")
    password = checked_password(want.admin_pass) or compute.world.ids.secret(9)
    values = await _values(compute, request, server, want)
    spec = None
    if server.image_id and values["image_id"] != server.image_id:
        new = msgspec.structs.replace(server, image_properties=values["image_properties"])
        spec = spec_of(await compute.db.read(store.spec_of, server.id), new, server.flavor_struct)
    spans.about(server.id)
    keep_ephemeral = truth(want.preserve_ephemeral, "preserve_ephemeral")
    work = Work(keep_ephemeral, spec, image_id=values.get("image_id", ""))
    args = {"server_id": server.id, "work": msgspec.to_builtins(work)}
    row = new_operation(compute, request, "rebuild", server.id, args, {"admin_password": password, "new": values})
    await compute.db.write(_begin, compute, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)
    shown = await load_shown(compute, request)
    body = views.changed(request.version, shown) | {"adminPass": password}
    if request.version >= (2, 54):
        body["key_name"] = shown.server.key_name or None
    if request.version >= (2, 57):
        body["user_data"] = shown.server.user_data or None
    return Answer({"server": body}, headers={"Location": body["links"][0]["href"]})


async def _values(compute: Compute, request: Request[Any], server: Server, want: Rebuild) -> Values:
    """The columns of the record that change, checked."""
    key_name = "" if want.key_name is UNSET else want.key_name or ""
    limits, public_key = await compute.db.read(_lookups, compute, server, key_name)
    values: Values = {}
    if want.name is not None:
        values["name"] = checked_name(want.name, "rebuild.name")
    if want.metadata is not None:
        checked_metadata(want.metadata, limits.metadata_items)
        values["metadata"] = want.metadata
    for column, version in (("access_ip_v4", 4), ("access_ip_v6", 6)):
        if (address := getattr(want, column)) is not None:
            values[column] = checked_ip(address, version, f"rebuild.accessIPv{version}")
    if want.disk_config is not None:
        values["disk_config"] = want.disk_config
    if want.personality is not None:
        values["personality"] = checked_personality(want.personality, limits)
    if want.description is not UNSET:
        values["description"] = checked_text(want.description, "rebuild.description")
    if want.key_name is not UNSET:
        values |= {"key_name": key_name, "public_key": public_key}
    if want.user_data is not UNSET:
        checked_user_data(want.user_data)
        values["user_data"] = want.user_data or ""
    if want.trusted_image_certificates is not UNSET:
        values["trusted_certs"] = _checked_certificates(server, want.trusted_image_certificates)
    if want.hostname is not None:
        values["hostname"] = checked_hostname(want.hostname, dotted=request.version >= (2, 94))
    return values | await _image(compute, request, server, last_of(want.image_ref))


def _lookups(connection: Connection, compute: Compute, server: Server, key_name: str) -> tuple[Limits, str]:
    """(limits, public key). A key pair is the server's owner's."""
    limits = compute.catalogue.limits(connection, server.project_id)
    if not key_name:
        return limits, ""
    return limits, compute.catalogue.public_key(connection, server.user_id, key_name)


def _checked_certificates(server: Server, ids: list[str] | None) -> list[str] | None:
    if ids is None:
        return None
    if not 1 <= len(ids) <= 50 or len(set(ids)) != len(ids) or not all(ids):
        raise invalid("Invalid input for field rebuild.trusted_image_certificates: 1 to 50 different ids.")
    if not server.image_id:
        raise invalid("Image certificate validation is not supported for volume-backed servers.")
    return ids


async def _image(compute: Compute, request: Request[Any], server: Server, image_id: str) -> Values:
    """The image is ready, and the server's flavor has room for it."""
    showing = compute.peers.images.show(request.caller.token, image_id)
    image = await found_by_peer(showing)
    if not server.image_id:
        _check_volume_root(server, image_id)
        return {}
    if image.properties.get("block_device_mapping"):
        raise invalid(
            f"Image {image_id} stands for volumes and has no disk of its own.", hint="Create a server from it."
        )
    check_image(image, server.flavor_struct, server.flavor_struct.root_gb)
    flavor = server.flavor_struct
    if topology_of(flavor, image.properties) != topology_of(flavor, server.image_properties):
        raise invalid(
            "The image asks for other NUMA nodes, CPUs or pages than the server has.", hint="Create a server from it."
        )
    return {"image_id": image_id, "image_properties": dict(image.properties) | {"disk_format": image.disk_format}}


def _check_volume_root(server: Server, image_id: str) -> None:
    """A root volume keeps what is on it: only the image that it was made from may be named.

    From 2.93 on OpenStack writes another image over the volume when block storage can do that; ours cannot.
    """
    if server.image_properties.get("image_id") != image_id:
        raise invalid(
            "Unable to rebuild with a different image for a volume-backed server.",
            hint="Create a volume from the image and a server from the volume.",
        )


@says(lambda _compute, row, _admin: "servers: task_state = rebuilding; what was asked for is recorded")
def _begin(connection: Connection, compute: Compute, row: OperationRow, admin: bool) -> None:
    """The record says what was asked for; what it said before is sealed in the operation, for an undo."""
    server = store.take(connection, row.resource_id, "rebuild", row, admin=admin)
    secrets = compute.sealer.open(row.sealed)
    secrets["old"] = msgspec.to_builtins({column: getattr(server, column) for column in secrets["new"]})
    row.sealed = compute.sealer.seal(secrets)
    row.args["host"], row.args["work"]["was"] = server.host, server.vm_state
    _write(connection, server.id, secrets["new"], row.created_at)
    migration_store.close_of(connection, server.id, row.created_at)  # of a resize that ended in error
    migration_store.charge(connection, server.id)
    journal.insert(connection, row)


def _write(connection: Connection, server_id: str, values: Values, now: datetime) -> None:
    migration_store.write_server(connection, server_id, values, now)
    if image_id := values.get("image_id"):
        mapping = store.devices_of(connection, server_id)
        for device in mapping:
            if device.boot_index == 0 and device.destination_type == "local":
                device.image_id = image_id
        store.set_devices(connection, server_id, mapping)


# ── the flow


async def flow(op: Operation[Compute], compute: Compute, server_id: str, host: str, work: Work) -> None:
    """Read down: the same server on a fresh root disk; one that was stopped stays so, one in error is active."""
    there, now, power, was = on_host(host), compute.world.clock.now, None, work.was
    await op.step("the record says what was asked for", take_wishes, server_id, undo=take_back_wishes)
    if work.spec is not None:
        await op.step("scheduler's filters look at the new image", ask_filters, work.spec)
    await op.step("host has nothing left of an earlier change", there.forget_disks, server_id)
    if work.image_id:
        await op.step("host brings the image", there.bring_image, server_id, work.image_id)
    if was == states.ERROR:
        await op.step(
            "block storage: the volumes are still attached",
            there.attach_volumes,
            server_id,
            shows="rebuild_block_device_mapping",
        )
    if was == states.ACTIVE:
        await op.step(
            "host cuts the guest's power", there.stop, server_id, 0.0, undo=there.start, shows="rebuild_spawning"
        )
    await op.step(
        "host keeps the old disks and makes fresh ones",
        there.rebuild_disks,
        server_id,
        work.keep_ephemeral,
        undo=there.restore_disks,
        shows="rebuild_spawning",
        patience_seconds=PATIENCE_SECONDS,
    )
    if was != states.STOPPED:
        power = await op.step("host starts the guest", there.start, server_id, patience_seconds=PATIENCE_SECONDS)
    await until_done(op, compute, "host removes the old disks", there.forget_disks, server_id)
    await op.finish("servers: rebuilt, task_state = None", _end, server_id, op.id, power, now())


# ── what the steps need


async def take_wishes(step: Step[Compute], server_id: str) -> None:
    """The record says what was asked for."""
    await _rewrite(step, server_id, "new")


async def take_back_wishes(step: Step[Compute], server_id: str) -> None:
    """The record says what it said before."""
    await _rewrite(step, server_id, "old")


async def _rewrite(step: Step[Compute], server_id: str, which: str) -> None:
    rewrite: Callable[..., None] = _write
    await step.services.db.write(rewrite, server_id, step.secrets()[which], step.world.clock.now())


async def ask_filters(step: Step[Compute], spec: RequestSpec) -> None:
    """The server's own host may run the new image; NO_CAPACITY says why not. Claims stay as they are."""
    if refused := await step.services.scheduler.refusals(spec):
        raise no_capacity(
            "No valid host was found. The server's host cannot run this kind of image.",
            hint="Choose another image.",
            inside="; ".join(f"{one.host}: {one.filter}: {one.reason}" for one in refused),
        )


def _end(connection: Connection, server_id: str, operation_id: str, power: Power | None, now: datetime) -> None:
    values: Values = {"launched_at": now}
    if power is not None:
        values |= {"vm_state": states.ACTIVE, "power_state": str(power)}
    store.end(connection, server_id, operation_id, "rebuild", now, values)


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    store.give_back(connection, row.resource_id, row.id, row.updated_at or row.created_at)


# ── the declaration

KIND: Kind[Compute] = Kind("rebuild", flow, _failed, store.show_task, (take_back_wishes,))
_REBUILD = "os_compute_api:servers:rebuild"
_ACTION = "/servers/{server_id}/action"
_POST = (("POST", f"{_ACTION} (rebuild)"),)
ROUTES = (
    Route(method="POST", path=_ACTION, handler=rebuild, policy=_REBUILD, action="rebuild", body=object, success=202),
)
RULES = (
    Rule(_REBUILD, PROJECT_MEMBER_OR_ADMIN, "Rebuild a server", _POST),
    Rule(f"{_REBUILD}:trusted_certs", PROJECT_MEMBER_OR_ADMIN, "Rebuild with trusted image certificates", _POST),
)
