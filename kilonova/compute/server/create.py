"""Create servers: POST /servers checks everything, records the servers, and hands each to a conductor.

The flow that builds them is in build.py; what they boot from is checked in boot_source.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind, conflict, invalid, over_quota
from kilonova.compute.contract import BlockDevice, Flavor, RequestSpec
from kilonova.compute.core import Catalogue, Compute, Limits
from kilonova.compute.schema import idempotency, journal
from kilonova.compute.server import states, store
from kilonova.compute.server.begin import new_operation
from kilonova.compute.server.boot_source import ROOT, BootSource, choose, devices_from, truth, with_root
from kilonova.compute.server.create_checks import (
    checked_group,
    checked_ip,
    checked_metadata,
    checked_networks,
    checked_password,
    checked_personality,
    checked_tags,
    checked_user_data,
    counts,
    resources_of,
    zone_and_host,
)
from kilonova.compute.server.names import checked_hostname, checked_name, checked_text, hostname_of
from kilonova.compute.server.views import links
from kilonova.db.database import says
from kilonova.db.idempotency import earlier, remember
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.http.schema import convert, since, until
from kilonova.network.contract import PortRequest
from kilonova.policy.personas import ADMIN, PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow
from kilonova.trace import spans

_RENAMED = {
    "disk_config": "OS-DCF:diskConfig",
    "admin_pass": "adminPass",
    "flavor_ref": "flavorRef",
    "image_ref": "imageRef",
    "access_ip_v4": "accessIPv4",
    "access_ip_v6": "accessIPv6",
}


class GroupName(msgspec.Struct, forbid_unknown_fields=True):
    """One of security_groups."""

    name: str = ""


class CreateServer(msgspec.Struct, forbid_unknown_fields=True, rename=_RENAMED):
    """{"server": {…}} of POST /servers."""

    name: str
    flavor_ref: str | int
    image_ref: str = ""
    admin_pass: str = ""
    networks: list[dict[str, Any]] | str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    disk_config: str = "MANUAL"
    metadata: dict[str, Any] = {}
    availability_zone: str = ""
    block_device_mapping_v2: list[dict[str, Any]] = []
    config_drive: bool | str | None = None
    min_count: int | str = 1
    max_count: int | str | None = None
    return_reservation_id: bool | str = False
    key_name: str | None = None
    security_groups: list[GroupName] = []
    user_data: str | None = None
    personality: Annotated[list[dict[str, Any]], until("2.56")] = []
    description: Annotated[str | None, since("2.19")] = None
    tags: Annotated[list[str], since("2.52")] = []
    trusted_image_certificates: Annotated[list[str] | None, since("2.63")] = None
    host: Annotated[str, since("2.74")] = ""
    hypervisor_hostname: Annotated[str, since("2.74")] = ""
    hostname: Annotated[str, since("2.90")] = ""


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """The whole body; scheduler hints stand beside the server, under either name."""

    server: dict[str, Any]
    hints: dict[str, Any] = msgspec.field(default={}, name="os:scheduler_hints")
    old_hints: dict[str, Any] = msgspec.field(default={}, name="OS-SCH-HNT:scheduler_hints")


class Plan(msgspec.Struct):
    """The request, checked: everything that the record needs."""

    want: CreateServer
    flavor: Flavor
    boot: BootSource
    ports: list[PortRequest]
    groups: list[str]
    zone: str
    host: str
    count: tuple[int, int]
    hints: dict[str, Any]
    public_key: str = ""
    group_id: str = ""
    personality: list[tuple[str, str]] = []


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
    reserved = await reserve(compute, request, plan, ids[0])
    now, reservation = compute.world.clock.now(), f"r-{compute.world.ids.secret(6)[:8].lower()}"
    made = [record_of(request, plan, (one, number, len(ids)), reservation, now) for number, one in enumerate(ids)]
    rows = [_operation(compute, request, spec, password) for _, _, spec in made]
    try:
        kept = await compute.db.write(record, compute.catalogue, plan, made, rows, request.idempotency_key)
    except Fault:
        await unreserve(compute, request, reserved)
        raise
    if not kept:  # the same request, sent twice at once: the other one made it
        await unreserve(compute, request, reserved)
        raise conflict("The same request is being served.", hint="Send it again to have its answer.")
    spans.note(f"quota: {kept} fit; records and action written", over="")
    for row in rows[:kept]:
        await compute.conductor.build_instances(row.id)
    return _answer(request, want, made[0][0], password)


def _operation(compute: Compute, request: Request[Any], spec: RequestSpec, password: str) -> OperationRow:
    args = {"server_id": spec.server_id, "spec": msgspec.to_builtins(spec)}
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


# ── the checks, all before anything is written


async def check(compute: Compute, request: Request[Any], want: CreateServer, hints: dict[str, Any]) -> Plan:
    """The request as a plan; the first thing wrong raises."""
    caller = request.caller
    checked_name(want.name)
    checked_text(want.description, "server.description")
    checked_user_data(want.user_data)
    if want.disk_config not in ("AUTO", "MANUAL"):
        raise invalid("Invalid input for field server.OS-DCF:diskConfig: use AUTO or MANUAL.")
    if want.hostname:
        checked_hostname(want.hostname, dotted=request.version >= (2, 94))
    want.access_ip_v4 = checked_ip(want.access_ip_v4, 4, "server.accessIPv4")
    want.access_ip_v6 = checked_ip(want.access_ip_v6, 6, "server.accessIPv6")
    count = counts(want.min_count, want.max_count)
    if count[1] > compute.settings.max_servers_per_request:
        raise invalid(f"max_count must be at most {compute.settings.max_servers_per_request}.")
    key_owner = caller.user_id
    flavor, public_key, limits, zones = await compute.db.read(
        _lookups, compute.catalogue, _last(want.flavor_ref), (key_owner, want.key_name or ""), caller.project_id
    )
    checked_metadata(want.metadata, limits.metadata_items)
    want.tags = checked_tags(want.tags)
    zone, host = zone_and_host(request, want.availability_zone, want.host or want.hypervisor_hostname, zones)
    boot = await boot_source(compute, request, want, flavor)
    ports = await network_plan(compute, request, want)
    groups = list(dict.fromkeys(group.name for group in want.security_groups)) or ["default"]
    await _found(compute.peers.networks.check_security_groups(caller.token, caller.project_id, groups))
    return Plan(
        want=want,
        flavor=flavor,
        boot=boot,
        ports=ports,
        groups=groups,
        zone=zone,
        host=host,
        count=_possible(count, boot.devices, ports),
        hints=hints,
        public_key=public_key,
        group_id=checked_group(hints),
        personality=checked_personality(want.personality, limits),
    )


def _lookups(
    connection: Connection, catalogue: Catalogue, flavor_id: str, key: tuple[str, str], project_id: str
) -> tuple[Flavor, str, Limits, set[str]]:
    flavor = catalogue.flavor(connection, flavor_id, project_id)
    public_key = catalogue.public_key(connection, *key) if key[1] else ""
    return flavor, public_key, catalogue.limits(connection, project_id), catalogue.zones(connection)


def _last(reference: str | int) -> str:
    """The id at the end of a reference, which may be a whole URL."""
    return str(reference).rstrip("/").rsplit("/", 1)[-1]


async def boot_source(compute: Compute, request: Request[Any], want: CreateServer, flavor: Flavor) -> BootSource:
    """What it boots from; a flavor without a disk needs a volume, or the right to have the image's size."""
    token, ids = request.caller.token, compute.world.ids
    devices = devices_from(want.block_device_mapping_v2, request.version, ids.uuid)
    devices = with_root(devices, _last(want.image_ref) if want.image_ref else "", ids.uuid())
    boot = await choose(
        devices,
        flavor,
        lambda image_id: compute.peers.images.show(token, image_id),
        lambda volume_id: compute.peers.volumes.show(token, volume_id),
    )
    if not boot.from_volume and flavor.root_gb == 0:
        request.enforce(rule=_ZERO_DISK)
    return boot


async def network_plan(compute: Compute, request: Request[Any], want: CreateServer) -> list[PortRequest]:
    """What is asked of network for each NIC; network itself says whether it can be had."""
    wanted = checked_networks(want.networks, request.version)
    if wanted is None:
        return []
    checking = compute.peers.networks.check(request.caller.token, request.caller.project_id, wanted)
    return list(await _found(checking))


async def _found(asked: Any) -> Any:
    """What a peer answers; what it does not find is the request's mistake."""
    try:
        return await asked
    except Fault as fault:
        if fault.kind is Kind.NOT_FOUND:
            raise invalid(fault.message, hint=fault.hint) from fault
        raise


def _possible(count: tuple[int, int], devices: list[BlockDevice], ports: list[PortRequest]) -> tuple[int, int]:
    if count[1] > 1 and any(device.source_type == "volume" for device in devices):
        raise invalid("Cannot attach one or more volumes to multiple instances.")
    if count[1] > 1 and any(port.port_id or port.fixed_ip for port in ports):
        raise invalid("Ports and fixed addresses cannot be used with several servers.")
    return count


# ── volumes are reserved before the record stands, and given back when it cannot


async def reserve(compute: Compute, request: Request[Any], plan: Plan, server_id: str) -> list[str]:
    """Attachment ids of the named volumes, now reserved for the server."""
    made: list[str] = []
    volumes = compute.peers.volumes
    for number, device in enumerate(plan.boot.devices):
        if device.volume_id:
            key = f"{server_id}/api/{number}"
            try:
                attachment = await volumes.reserve(request.caller.token, key, device.volume_id, server_id)
            except Fault as fault:
                await unreserve(compute, request, made)
                if fault.kind is Kind.CONFLICT:
                    raise invalid(fault.message, hint=fault.hint) from fault
                raise
            device.attachment_id = attachment
            made.append(attachment)
    return made


async def unreserve(compute: Compute, request: Request[Any], attachments: list[str]) -> None:
    """The volumes are available again."""
    for attachment in attachments:
        await compute.peers.volumes.detach(request.caller.token, attachment)


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
        resources=resources_of(plan.flavor, from_volume=plan.boot.from_volume),
        image_properties=plan.boot.image_properties,
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
    remember(connection, idempotency, key, user_id, made[0][0].id, made[0][0].created_at)
    fits = within_quota(store.usage(connection, project_id), limits, plan)
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


# ── the declaration

_CREATE = "os_compute_api:servers:create"
_ZERO_DISK = "os_compute_api:servers:create:zero_disk_flavor"
_FORCED = "os_compute_api:servers:create:forced_host"
_HOST = "os_compute_api:compute:servers:create:requested_destination"
_POST = (("POST", "/servers"),)
ROUTES = (Route(method="POST", path="/servers", handler=create, policy=_CREATE, body=CreateBody, success=202),)
RULES = (
    Rule(_CREATE, PROJECT_MEMBER_OR_ADMIN, "Create a server", _POST),
    Rule(_ZERO_DISK, ADMIN, "Create a server from an image with a flavor that has no disk", _POST),
    Rule(_FORCED, ADMIN, "Create a server on a named host, without asking the scheduler's filters", _POST),
    Rule(_HOST, ADMIN, "Create a server on a named host or node", _POST),
    Rule(f"{_CREATE}:attach_volume", PROJECT_MEMBER_OR_ADMIN, "Create a server with a volume attached", _POST),
    Rule(f"{_CREATE}:attach_network", PROJECT_MEMBER_OR_ADMIN, "Create a server with a network attached", _POST),
    Rule(f"{_CREATE}:trusted_certs", PROJECT_MEMBER_OR_ADMIN, "Create a server with trusted image certificates",
         _POST),
)  # fmt: skip
