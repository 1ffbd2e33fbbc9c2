"""Create servers: POST /servers checks everything, records the servers, and hands each to a conductor, whose flow takes
it from the scheduler's answer to a running guest, host after host if need be.

What the body may say and how it is checked is in create_request.py; the steps that hold things elsewhere in hold.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, no_capacity, over_quota, unavailable
from kilonova.base.faults import Kind as FaultKind
from kilonova.compute.contract import BlockDevice, Built, Destination, RequestSpec
from kilonova.compute.core import Catalogue, Compute, Limits, on_host
from kilonova.compute.scheduler.resources import resources_of
from kilonova.compute.schema import idempotency, journal
from kilonova.compute.server import hold_store, ports_store, states, store
from kilonova.compute.server.begin import new_operation
from kilonova.compute.server.boot_source import ROOT, truth
from kilonova.compute.server.create_checks import checked_password
from kilonova.compute.server.create_request import ZERO_DISK, CreateBody, CreateServer, Plan, check
from kilonova.compute.server.hold import (
    claim_alternate,
    give_back_claim,
    let_go,
    reserve_volumes,
    select_destinations,
    unplace,
    unreserve_volumes,
)
from kilonova.compute.server.hold_request import reserve, unreserve
from kilonova.compute.server.names import hostname_of
from kilonova.compute.server.views import links
from kilonova.db.database import says
from kilonova.db.idempotency import earlier, remember
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.saga.operation import Kind, Operation
from kilonova.trace import spans

# ── the handler


async def create(compute: Compute, request: Request[CreateBody]) -> Answer:
    """POST /servers: 202 with the server's id and its password, or the reservation's id."""
    request.enforce()
    spans.note("policy: create is allowed")
    want = convert(request.body.server, CreateServer, request.version, "server")
    check_rights(request, want)
    if request.idempotency_key and (before := await compute.db.read(_earlier, request)):
        return _answer(request, want, before[0], compute.sealer.open(before[1]).get("admin_password"))
    plan = await check(compute, request, want, request.body.hints or request.body.old_hints)
    password = checked_password(want.admin_pass) or compute.world.ids.secret(9)
    ids = [compute.world.ids.uuid() for _ in range(plan.count[1])]
    await reserve(compute, request, plan, ids[0])
    now, reservation = compute.world.clock.now(), f"r-{compute.world.ids.secret(6)[:8].lower()}"
    made = [record_of(request, plan, (one, number, len(ids)), reservation, now) for number, one in enumerate(ids)]
    rows = [_operation(compute, request, one, password) for one in made]
    try:
        kept = await compute.db.write(record, compute.catalogue, plan, made, rows, request.idempotency_key)
    except Fault:
        await unreserve(compute, ids[0])
        raise
    if not kept:  # the same request, sent twice at once: the other one made it
        await unreserve(compute, ids[0])
        raise conflict("The same request is being served.", hint="Send it again to have its answer.")
    spans.note(f"quota: {kept} fit; records and action written", over="")
    for row in rows[:kept]:
        await compute.conductor.build_instances(row.id)
    return _answer(request, want, made[0][0], password)


def _operation(compute: Compute, request: Request[Any], made: Made, password: str) -> OperationRow:
    _, mapping, spec = made
    volumes = any(device.destination_type == "volume" or device.volume_id for device in mapping)
    args = {"server_id": spec.server_id, "spec": msgspec.to_builtins(spec), "volumes": volumes}
    return new_operation(compute, request, "create", spec.server_id, args, {"admin_password": password})


def _answer(request: Request[Any], want: CreateServer, server: store.Server, password: str | None) -> Answer:
    """What was accepted. A repeat has no password once the server is built: it is kept no longer than that."""
    if truth(want.return_reservation_id, "return_reservation_id"):
        return Answer({"reservation_id": server.reservation_id})
    found = links(request.origin, server.id)
    body = {
        "id": server.id,
        "links": found,
        "OS-DCF:diskConfig": server.disk_config,
        "security_groups": [{"name": group} for group in server.security_groups],
    }
    if password:
        body["adminPass"] = password
    return Answer({"server": body}, headers={"Location": found[0]["href"]})


def _earlier(connection: Connection, request: Request[Any]) -> tuple[store.Server, bytes | None] | None:
    """(the first server, its operation's secrets) that an earlier request with this key made."""
    server_id = earlier(connection, idempotency, request.idempotency_key, request.caller.user_id)
    server = store.find(connection, server_id, deleted=True) if server_id else None
    if server is None:
        return None
    operation = journal.get(connection, server.operation_id) if server.operation_id else None
    return server, operation.sealed if operation else None


def check_rights(request: Request[Any], want: CreateServer) -> None:
    """Some parts of a request have rules of their own."""
    if want.block_device_mapping_v2:
        request.enforce(rule=f"{_CREATE}:attach_volume")
    if want.networks and want.networks != "none":
        request.enforce(rule=f"{_CREATE}:attach_network")
    if want.trusted_image_certificates is not None:
        request.enforce(rule=f"{_CREATE}:trusted_certs")


# ── the record

Made = tuple[store.Server, list[BlockDevice], RequestSpec]


def record_of(request: Request[Any], plan: Plan, place: tuple[str, int, int], reservation: str, now: datetime) -> Made:
    """(server, block devices, request spec) of one server of the request; `place` is (id, number, of how many)."""
    server_id, number, total = place
    want, caller = plan.want, request.caller
    tail = f"-{number + 1}" if total > 1 else ""
    name = f"{want.name}{tail}"
    hostname = f"{want.hostname}{tail}" if want.hostname else hostname_of(name, server_id)
    server = store.Server(
        number=0,
        id=server_id,
        name=name,
        description=want.description if request.version >= (2, 19) else name,
        hostname=hostname,
        project_id=caller.project_id,
        user_id=caller.user_id,
        vm_state=states.BUILDING,
        task_state=states.SCHEDULING,
        power_state="nostate",
        operation_id="",
        host="",
        node="",
        availability_zone="",
        pinned_zone=plan.zone,
        flavor=msgspec.to_builtins(plan.flavor),
        vcpus=plan.flavor.vcpus,
        memory_mb=plan.flavor.memory_mb,
        image_id=plan.boot.image_id,
        image_properties=plan.boot.image_properties,
        key_name=want.key_name or "",
        public_key=plan.public_key,
        user_data=want.user_data or "",
        config_drive=truth(want.config_drive, "config_drive"),
        metadata=want.metadata,
        personality=plan.personality,
        port_requests=msgspec.to_builtins(plan.ports),
        security_groups=plan.groups,
        ports=[],
        access_ip_v4=want.access_ip_v4 or "",
        access_ip_v6=want.access_ip_v6 or "",
        locked=False,
        locked_by="",
        locked_reason=None,
        progress=0,
        disk_config=want.disk_config,
        root_device_name=ROOT,
        reservation_id=reservation,
        launch_index=number,
        trusted_certs=want.trusted_image_certificates,
        server_group_id=plan.group_id,
        created_at=now,
        updated_at=now,
    )
    mapping = [msgspec.structs.replace(d, id=d.id if number == 0 else f"{d.id[:24]}{number:012x}") for d in
               plan.boot.devices]  # fmt: skip
    return server, mapping, _spec(plan, server)


def _spec(plan: Plan, server: store.Server) -> RequestSpec:
    return RequestSpec(
        server_id=server.id,
        project_id=server.project_id,
        user_id=server.user_id,
        flavor=plan.flavor,
        resources=resources_of(plan.flavor, plan.boot.image_properties, from_volume=plan.boot.from_volume),
        image_properties=plan.boot.image_properties,
        image_id=plan.boot.image_id,
        least_memory_mb=plan.boot.least_memory_mb,
        least_disk_gb=plan.boot.least_disk_gb,
        availability_zone=plan.zone,
        requested_host=plan.host,
        scheduler_hints=plan.hints,
    )


@says(lambda _c, _plan, made, *_: f"servers: vm_state = building, task_state = scheduling; {len(made)} recorded")
def record(
    connection: Connection, catalogue: Catalogue, plan: Plan, made: list[Made], rows: list[OperationRow], key: str
) -> int:
    """How many servers the quota had room for (at least min_count); they and their operations are written.

    0: a request with the same idempotency key made them before.
    """
    project_id, user_id = made[0][0].project_id, made[0][0].user_id
    limits = catalogue.lock_limits(connection, project_id)
    if earlier(connection, idempotency, key, user_id) is not None:
        return 0
    if any(device.attachment_id for device in made[0][1]) and not hold_store.become_record(connection, made[0][0].id):
        raise unavailable("Block storage took too long to reserve the volumes.", hint="Try again.")
    remember(connection, idempotency, key, user_id, made[0][0].id, made[0][0].created_at)
    fits = plan.count[1] if limits.unlimited else within_quota(store.usage(connection, project_id), limits, plan)
    if (own := catalogue.user_limits(connection, project_id, user_id)) is not None:
        fits = min(fits, within_quota(store.usage(connection, project_id, user_id), own, plan))
    for (server, mapping, spec), row in zip(made[:fits], rows, strict=False):
        server.operation_id = row.id
        store.insert(connection, server, mapping, plan.want.tags, spec)
        journal.insert(connection, row)
        if plan.group_id:
            catalogue.join_group(connection, plan.group_id, project_id, server.id)
    return fits


def within_quota(used: tuple[int, int, int], limits: Limits, plan: Plan) -> int:
    """How many of max_count fit; OVER_QUOTA when not even min_count do."""
    least, most = plan.count
    each = {"instances": 1, "cores": plan.flavor.vcpus, "ram": plan.flavor.memory_mb}
    fits = most
    for (resource, one), have in zip(each.items(), used, strict=True):
        limit: int = getattr(limits, resource)
        if limit < 0 or not one:
            continue
        fits = min(fits, max(limit - have, 0) // one)
        if fits < least:
            raise over_quota(resource, wanted=one * least, used=have, limit=limit)
    return fits


# ── the flow, run by a conductor


async def flow(
    op: Operation[Compute], compute: Compute, server_id: str, spec: RequestSpec, volumes: bool = True
) -> None:
    """Read down: the life of a create, from the queue to a running guest."""
    hosts = await op.step("scheduler picks a host, placement claims it", select_destinations, spec, undo=let_go)
    refused: list[tuple[str, Fault]] = []
    for number, destination in enumerate(hosts):
        start = op.mark()
        try:
            if number == 0 or await op.step(
                "placement claims the next host", claim_alternate, spec, destination, undo=give_back_claim
            ):
                await build_on(op, compute, server_id, destination, volumes)
                return
            refused.append((destination.host, _full()))
        except Fault as fault:
            refused.append((destination.host, fault))
            if number + 1 < len(hosts):
                await op.undo_since(start)
    raise no_host_built(refused)


async def build_on(
    op: Operation[Compute], compute: Compute, server_id: str, chosen: Destination, volumes: bool
) -> None:
    """One host's attempt; when it fails, all of it can be undone and another host tried."""
    there, now = on_host(chosen.host), compute.world.clock.now
    placing = Placing(compute.catalogue)
    named = "the record names the chosen host"
    await op.write_with_next(named, placing.place, server_id, op.id, chosen, undo=unplace)
    if volumes:
        await op.step("volumes are reserved", reserve_volumes, server_id, undo=unreserve_volumes)
    built = await op.step(
        "host fetches the record, brings the image, asks for ports and volumes, makes disks and starts the guest",
        there.build_and_run_instance,
        server_id,
        volumes,
        undo=there.remove,
        shows=states.NETWORKING,
        then=(states.BLOCK_DEVICE_MAPPING, states.SPAWNING),
    )
    await op.finish(
        "servers: addresses recorded, vm_state = active, task_state = None", set_active, server_id, op.id, built, now()
    )


# ── what the steps need


class Placing:
    """The unit that names the host, with what it looks up beside servers."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def place(self, connection: Connection, server_id: str, operation_id: str, chosen: Destination) -> None:
        """The record names the host, its node and its availability zone."""
        self._catalogue.check_group(connection, server_id, chosen.host)
        zone = self._catalogue.zone_of(connection, chosen.host)
        store.place(connection, server_id, operation_id, (chosen.host, chosen.node, zone))


def set_active(connection: Connection, server_id: str, operation_id: str, built: Built, now: datetime) -> None:
    """Active, launched now, with the addresses and volumes that it was built with."""
    if built.devices:
        store.connect_devices(connection, server_id, built.devices)
    values = {"vm_state": states.ACTIVE, "power_state": str(built.power), "launched_at": now}
    values |= store.ports_as(ports_store.with_told(connection, server_id, built.ports))
    store.end(connection, server_id, operation_id, "create", now, values)


def _full() -> Fault:
    return no_capacity("It had no room left when its turn came.")


def no_host_built(refused: list[tuple[str, Fault]]) -> Fault:
    """Why no host could build the server: for the user without hosts' names, for operators with them and all."""
    if len(refused) == 1:
        told = refused[0][1].told
    else:
        told = " ".join(f"Host {number}: {fault.told}" for number, (_, fault) in enumerate(refused, 1))
    return Fault(
        FaultKind.NO_CAPACITY,
        f"No host could build the server. {told}",
        hint="Delete it and try again later, or ask your operator.",
        code="BuildFailed",
        data={"details": [f"{host}: {fault!r}" for host, fault in refused]},
    )


def failed(connection: Connection, row: OperationRow, fault: Fault) -> None:
    """The server is in error, with the reasons."""
    store.to_error(connection, row.resource_id, row.id, row.updated_at or row.created_at, fault)


# ── the declaration

KIND: Kind[Compute] = Kind(
    "create", flow, failed, store.show_task, (let_go, give_back_claim, unplace, unreserve_volumes)
)

_CREATE = "os_compute_api:servers:create"
_FORCED = "os_compute_api:servers:create:forced_host"
_HOST = "os_compute_api:compute:servers:create:requested_destination"
_POST = (("POST", "/servers"),)
ROUTES = (Route(method="POST", path="/servers", handler=create, policy=_CREATE, body=CreateBody, success=202),)
RULES = (
    Rule(_CREATE, PROJECT_MEMBER_OR_ADMIN, "Create a server", _POST),
    Rule(ZERO_DISK, ADMIN, "Create a server from an image with a flavor that has no disk", _POST),
    Rule(_FORCED, ADMIN, "Create a server on a named host, without asking the scheduler's filters", _POST),
    Rule(_HOST, ADMIN, "Create a server on a named host or node", _POST),
    Rule(f"{_CREATE}:attach_volume", PROJECT_MEMBER_OR_ADMIN, "Create a server with a volume attached", _POST),
    Rule(f"{_CREATE}:attach_network", PROJECT_MEMBER_OR_ADMIN, "Create a server with a network attached", _POST),
    Rule(f"{_CREATE}:trusted_certs", PROJECT_MEMBER_OR_ADMIN, "Create a server with trusted image certificates",
         _POST),
)  # fmt: skip
