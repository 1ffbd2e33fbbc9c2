"""Resize a server: another flavor on its host, with its disks, addresses and volumes; the old disks and the old claim
are kept until the user confirms or reverts (resize_confirm.py).

It stays on its host, so nothing but the host's own disk is copied, and it may be resized when the host has room for the
old and the new size at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, invalid, over_quota
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.contract import Flavor, Power, RequestSpec
from kilonova.compute.contract.numa import check_placeable
from kilonova.compute.core import Compute, Limits, on_host
from kilonova.compute.host import store as hosts
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.schema import journal
from kilonova.compute.server import migration_store, states, store
from kilonova.compute.server.begin import ADMIN, load, new_operation
from kilonova.compute.server.boot_source import check_fits
from kilonova.compute.server.create_request import last_of
from kilonova.compute.server.hold import give_back_claim, select_destinations
from kilonova.compute.server.migration_store import Migration
from kilonova.compute.server.start_stop import PATIENCE_SECONDS, grace_of
from kilonova.compute.server.store import Server
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation, Step
from kilonova.trace import spans

# ── the API's part


class Resize(msgspec.Struct, forbid_unknown_fields=True, rename={"flavor_ref": "flavorRef",
             "disk_config": "OS-DCF:diskConfig"}):  # fmt: skip
    """{"resize": {…}}."""

    flavor_ref: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | int
    disk_config: Literal["AUTO", "MANUAL"] | None = None


class Work(msgspec.Struct):
    """What the flow needs to know, besides which server where; `runs`: the guest is on."""

    spec: RequestSpec
    migration_id: str
    grace_seconds: float
    runs: bool = False


class Move(msgspec.Struct):
    """The request, checked."""

    flavor: Flavor
    work: Work
    migration: Migration
    disk_config: str | None


async def resize(compute: Compute, request: Request[Any]) -> Answer:
    """POST /servers/{id}/action {"resize": …}: 202; VERIFY_RESIZE follows."""
    server = await load(compute, request)
    want = convert(request.body, Resize, request.version, "resize")
    states.check("resize", server.now(), admin=request.allows(ADMIN))
    flavor = await compute.db.read(compute.catalogue.flavor, last_of(want.flavor_ref), request.caller.project_id)
    check_change(server, server.flavor_struct, flavor)
    await check_image(compute, request, server, flavor)
    spans.about(server.id)
    migration = _migration(compute, request, server, flavor)
    spec = spec_of(await compute.db.read(store.spec_of, server.id), server, flavor)
    row = new_operation(compute, request, "resize", server.id, {"server_id": server.id})
    work = Work(spec, migration.id, grace_seconds=grace_of(compute, server))
    move = Move(flavor, work, migration, want.disk_config)
    await compute.db.write(_begin, compute, move, row, request.allows(ADMIN))
    await compute.conductor.run_operation(row.id)
    return Answer(None)


def check_change(server: Server, old: Flavor, new: Flavor) -> None:
    """It is another flavor, and no disk becomes smaller: what a guest wrote is never cut off."""
    check_placeable(new, server.image_properties)
    if new.id == old.id:
        raise invalid("When resizing, instances must change flavor!", code="CannotResizeToSameFlavor")
    if server.image_id and new.root_gb == 0 and old.root_gb != 0:
        raise invalid("Resize to zero disk flavor is not allowed.", code="CannotResizeDisk")
    if server.image_id and new.root_gb < old.root_gb:
        raise _smaller("root", new.root_gb, old.root_gb)
    if new.ephemeral_gb < old.ephemeral_gb:
        raise _smaller("ephemeral", new.ephemeral_gb, old.ephemeral_gb)


def _smaller(disk: str, new_gb: int, old_gb: int) -> Fault:
    return invalid(
        f"Unable to resize disk down: the flavor's {disk} disk has {new_gb} GB, the server's has {old_gb} GB.",
        hint="Choose a flavor whose disks are at least as large; or create a new server.",
        code="FlavorDiskSmaller",
    )


async def check_image(compute: Compute, request: Request[Any], server: Server, flavor: Flavor) -> None:
    """The flavor has what the server's image asks for; an image that is gone asks for nothing any more."""
    if not server.image_id:
        return
    try:
        image = await compute.peers.images.show(request.caller.token, server.image_id)
    except Fault as fault:
        if fault.kind is FaultKind.NOT_FOUND:
            return
        raise
    check_fits(image, flavor, flavor.root_gb)


def _migration(compute: Compute, request: Request[Any], server: Server, flavor: Flavor) -> Migration:
    now = compute.world.clock.now()
    return Migration(
        number=0,
        id=compute.world.ids.uuid(),
        server_id=server.id,
        type="resize",
        status=migration_store.PREPARING,
        source_host="",
        source_node="",
        target_host="",
        target_node="",
        target_ip="",
        old_flavor={},
        new_flavor=msgspec.to_builtins(flavor),
        vm_state="",
        user_id=request.caller.user_id,
        project_id=request.caller.project_id,
        created_at=now,
        updated_at=now,
    )


def spec_of(stored: RequestSpec, server: Server, flavor: Flavor) -> RequestSpec:
    """What the server needs of its host with the new flavor."""
    return msgspec.structs.replace(
        stored,
        flavor=flavor,
        resources=resources_of(flavor, server.image_properties, from_volume=not server.image_id),
        image_properties=server.image_properties,
        requested_host=server.host,
    )


@says(lambda _compute, move, row, _admin: "servers: task_state = resize_prep; quota fits; migration recorded")
def _begin(connection: Connection, compute: Compute, move: Move, row: OperationRow, admin: bool) -> None:
    """The server is taken, its project charged for the larger of the two flavors; OVER_QUOTA when that is too much."""
    migration = move.migration
    project_id = store.get(connection, migration.server_id).project_id
    limits = compute.catalogue.lock_limits(connection, project_id)
    server = store.take(connection, migration.server_id, "resize", row, admin=admin)
    check_change(server, server.flavor_struct, move.flavor)
    _within_quota(store.usage(connection, project_id), limits, server, move.flavor)
    if (own := compute.catalogue.user_limits(connection, project_id, server.user_id)) is not None:
        _within_quota(store.usage(connection, project_id, server.user_id), own, server, move.flavor)
    host = hosts.find(connection, server.host)
    migration.source_host = migration.target_host = server.host
    migration.source_node = migration.target_node = server.node
    migration.target_ip = host.said.host_ip if host else ""
    migration.old_flavor, migration.vm_state = server.flavor, server.vm_state
    migration_store.close_of(connection, server.id, row.created_at)  # one left behind by a reset of the state
    migration_store.insert(connection, migration)
    migration_store.charge(connection, server.id)
    if move.disk_config:
        store.change(connection, server.id, row.created_at, {"disk_config": move.disk_config})
    move.work.spec.requested_host, move.work.runs = server.host, server.vm_state == states.ACTIVE
    row.args |= {"host": server.host, "work": msgspec.to_builtins(move.work)}
    journal.insert(connection, row)


def _within_quota(used: tuple[int, int, int], limits: Limits, server: Server, new: Flavor) -> None:
    for resource, have, more in (
        ("cores", used[1], new.vcpus - server.vcpus),
        ("ram", used[2], new.memory_mb - server.memory_mb),
    ):
        limit: int = getattr(limits, resource)
        if more > 0 and 0 <= limit < have + more:
            raise over_quota(resource, wanted=more, used=have, limit=limit)


# ── the flow


async def flow(op: Operation[Compute], compute: Compute, server_id: str, host: str, work: Work) -> None:
    """Read down: active or stopped → resized, which waits for the user's word."""
    there, now, power, migration_id = on_host(host), compute.world.clock.now, None, work.migration_id
    await op.step(
        "placement: the migration holds the old claim", move_claim, server_id, migration_id, undo=move_claim_back
    )
    await op.step(
        "scheduler looks at the host, placement claims the new size",
        select_destinations,
        work.spec,
        undo=give_back_claim,
    )
    await op.step("host has nothing left of an earlier change", there.forget_disks, server_id)
    if work.runs:
        await op.step(
            "host stops the guest",
            there.stop,
            server_id,
            work.grace_seconds,
            undo=there.start,
            shows="resize_migrating",
            patience_seconds=PATIENCE_SECONDS,
        )
    await op.write(
        "servers: flavor = the new one", _take_flavor, server_id, migration_id, op.id, now(), undo=take_old_flavor
    )
    await op.step(
        "host copies the disks and lets them grow; the old ones are kept",
        there.resize_disks,
        server_id,
        undo=there.restore_disks,
        shows="resize_migrated",
        patience_seconds=PATIENCE_SECONDS,
    )
    if work.runs:
        power = await op.step(
            "host starts the guest", there.start, server_id, shows="resize_finish", patience_seconds=PATIENCE_SECONDS
        )
    await op.finish("servers: vm_state = resized", _end, server_id, migration_id, op.id, power, now())


# ── what the steps need


async def move_claim(step: Step[Compute], server_id: str, migration_id: str) -> None:
    """What the server held is held by its migration: nobody can take the room that a revert needs."""
    await step.services.peers.placement.move(server_id, migration_id, "MIGRATION")


async def move_claim_back(step: Step[Compute], server_id: str, migration_id: str) -> None:
    """The server holds what its migration held, instead of what it holds."""
    await step.services.peers.placement.move(migration_id, server_id, "INSTANCE")


def _take_flavor(connection: Connection, server_id: str, migration_id: str, operation_id: str, now: datetime) -> None:
    migration = migration_store.get(connection, migration_id)
    store.owned(connection, server_id, operation_id, now, {"flavor": migration.new_flavor})
    migration_store.set_status(connection, migration_id, migration_store.MIGRATING, now)


async def take_old_flavor(step: Step[Compute], server_id: str, migration_id: str) -> None:
    """Undo of the new flavor."""
    await step.services.db.write(old_flavor, server_id, migration_id, step.world.clock.now())


@says("servers: flavor = the old one")
def old_flavor(connection: Connection, server_id: str, migration_id: str, now: datetime) -> None:
    """The server is of the flavor that it had before the migration."""
    migration_store.set_flavor(connection, server_id, migration_store.get(connection, migration_id).old_flavor, now)


def _end(
    connection: Connection, server_id: str, migration_id: str, operation_id: str, power: Power | None, now: datetime
) -> None:
    values = {"launched_at": now} | ({"power_state": str(power)} if power else {})
    store.end(connection, server_id, operation_id, "resize", now, values)
    migration_store.set_status(connection, migration_id, migration_store.FINISHED, now)


def _failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """All is as it was; the migration says that it failed."""
    now = row.updated_at or row.created_at
    migration_store.set_status(connection, row.args["work"]["migration_id"], migration_store.ERROR, now)
    migration_store.charge(connection, row.resource_id)
    store.give_back(connection, row.resource_id, row.id, now)


# ── the declaration

KIND: Kind[Compute] = Kind(
    "resize", flow, _failed, store.show_task, (move_claim_back, give_back_claim, take_old_flavor)
)
_RESIZE = "os_compute_api:servers:resize"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=resize, policy=_RESIZE, action="resize", body=object, success=202),
)
RULES = (Rule(_RESIZE, PROJECT_MEMBER_OR_ADMIN, "Resize a server", (("POST", f"{_ACTION} (resize)"),)),)
