"""What POST /servers may say: its body, and the check that makes a plan of it before anything is written.

What it boots from is in boot_source.py; checks of single fields are in create_checks.py.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind, invalid
from kilonova.compute.contract import BlockDevice, Flavor
from kilonova.compute.contract.numa import check_placeable
from kilonova.compute.core import Catalogue, Compute, Limits
from kilonova.compute.server.boot_source import (
    BootSource,
    check_image,
    choose,
    devices_from,
    devices_of_image,
    found,
    merged,
    with_root,
)
from kilonova.compute.server.create_checks import (
    checked_group,
    checked_ip,
    checked_metadata,
    checked_networks,
    checked_personality,
    checked_tags,
    checked_user_data,
    counts,
    zone_and_host,
)
from kilonova.compute.server.names import checked_hostname, checked_name, checked_text
from kilonova.http.request import Request
from kilonova.http.schema import since, until
from kilonova.image.contract import ImageRef
from kilonova.network.contract import PortRequest

ZERO_DISK = "os_compute_api:servers:create:zero_disk_flavor"
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
    flavor, public_key, limits, zones = await compute.db.read(_lookups, compute.catalogue, want, caller)
    checked_metadata(want.metadata, limits.metadata_items)
    want.tags = checked_tags(want.tags)
    zone, host = zone_and_host(request, want.availability_zone, want.host or want.hypervisor_hostname, zones)
    boot = await boot_source(compute, request, want, flavor)
    check_placeable(flavor, boot.image_properties)
    ports = await network_plan(compute, request, want)
    groups = list(dict.fromkeys(group.name for group in want.security_groups)) or ["default"]
    await found_by_peer(compute.peers.networks.check_security_groups(caller.token, caller.project_id, groups))
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
    connection: Connection, catalogue: Catalogue, want: CreateServer, caller: Caller
) -> tuple[Flavor, str, Limits, set[str]]:
    """(flavor, public key, limits, the zones that have a host); those cost a reading of all hosts, and are only read
    when a zone is asked for."""
    flavor = catalogue.flavor(connection, last_of(want.flavor_ref), caller.project_id)
    public_key = catalogue.public_key(connection, caller.user_id, want.key_name) if want.key_name else ""
    zones = catalogue.zones(connection) if want.availability_zone else set[str]()
    return flavor, public_key, catalogue.limits(connection, caller.project_id), zones


def last_of(reference: str | int) -> str:
    """The id at the end of a reference, which may be a whole URL."""
    return str(reference).rstrip("/").rsplit("/", 1)[-1]


async def boot_source(compute: Compute, request: Request[Any], want: CreateServer, flavor: Flavor) -> BootSource:
    """What it boots from; a flavor without a disk needs a volume, or the right to have the image's size."""
    token, ids = request.caller.token, compute.world.ids
    seen: dict[str, ImageRef] = {}

    async def show_image(image_id: str) -> ImageRef:
        if image_id not in seen:
            seen[image_id] = await compute.peers.images.show(token, image_id)
        return seen[image_id]

    devices = devices_from(want.block_device_mapping_v2, request.version, ids.uuid)
    image_id = last_of(want.image_ref) if want.image_ref else ""
    if image_id:
        image = await found(show_image(image_id), f"Image {image_id}")
        if defined := devices_of_image(image, request.version, ids.uuid):
            check_image(image, flavor, 0)
            devices, image_id = merged(defined, devices), ""
    devices = with_root(devices, image_id, ids.uuid())
    boot = await choose(
        devices,
        flavor,
        show_image,
        lambda volume_id: compute.peers.volumes.show(token, volume_id),
        lambda snapshot_id: compute.peers.volumes.show_snapshot(token, snapshot_id),
    )
    if not boot.from_volume and flavor.root_gb == 0:
        request.enforce(rule=ZERO_DISK)
    return boot


async def network_plan(compute: Compute, request: Request[Any], want: CreateServer) -> list[PortRequest]:
    """What is asked of network for each NIC; network itself says whether it can be had."""
    wanted = checked_networks(want.networks, request.version)
    if wanted is None:
        return []
    checking = compute.peers.networks.check(request.caller.token, request.caller.project_id, wanted)
    return list(await found_by_peer(checking))


async def found_by_peer(asked: Any) -> Any:
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
