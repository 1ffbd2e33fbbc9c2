"""Services, availability zones, and the scheduler's pools."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.clock import iso_micros
from kilonova.base.faults import invalid
from kilonova.block_storage.backend import store
from kilonova.block_storage.backend.store import SCHEDULER_BINARY, VOLUME_BINARY, Service
from kilonova.block_storage.core import BlockStorage
from kilonova.block_storage.volume import store as volume_store
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.rules import Rule


class ServiceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which service, and why it is disabled."""

    host: str
    binary: str = VOLUME_BINARY
    disabled_reason: str | None = None


async def services(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    query = request.query
    found = await service.db.read(store.listed, query.get("binary") or "", query.get("host") or "")
    now = service.world.clock.now()
    return {"services": [_shown(request, one, one.is_up(now)) for one in found]}


def _shown(request: Request[Any], one: Service, up: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "binary": one.binary,
        "host": one.host,
        "zone": one.availability_zone,
        "status": "disabled" if one.disabled else "enabled",
        "state": "up" if up else "down",
        "updated_at": iso_micros(one.reported_at),
        "disabled_reason": one.disabled_reason,
    }
    if one.binary == VOLUME_BINARY:
        made |= {"replication_status": "disabled", "active_backend_id": None, "frozen": False}
    if request.version >= (3, 7):
        made["cluster"] = None
    if request.version >= (3, 49):
        made["backend_state"] = "up" if up else "down"
    if request.version < (3, 49) or one.binary == SCHEDULER_BINARY:
        made.pop("backend_state", None)
    return made


async def enable(service: BlockStorage, request: Request[ServiceBody]) -> dict[str, Any]:
    request.enforce()
    body = request.body
    one = await service.db.write(store.disable, body.binary, body.host, False, None)
    return {"host": one.host, "service": one.binary, "binary": one.binary, "disabled": False, "status": "enabled"}


async def disable(service: BlockStorage, request: Request[ServiceBody]) -> dict[str, Any]:
    request.enforce()
    body = request.body
    one = await service.db.write(store.disable, body.binary, body.host, True, None)
    return {"host": one.host, "service": one.binary, "binary": one.binary, "disabled": True, "status": "disabled"}


async def disable_with_reason(service: BlockStorage, request: Request[ServiceBody]) -> dict[str, Any]:
    request.enforce()
    body, reason = request.body, (request.body.disabled_reason or "").strip()
    if not 0 < len(reason) <= 255:
        raise invalid("Disabled reason contains invalid characters or is too long", hint="1 to 255 characters.")
    one = await service.db.write(store.disable, body.binary, body.host, True, reason)
    told = {"host": one.host, "service": one.binary, "binary": one.binary, "disabled": True, "status": "disabled"}
    return told | {"disabled_reason": reason}


async def zones(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    """Zones that volumes can be made in: open to every token, as today."""
    now = service.world.clock.now()
    usable = {service.settings.availability_zone: True}
    for one in await service.db.read(store.listed, VOLUME_BINARY):
        fine = not one.disabled and one.is_up(now)
        usable[one.availability_zone] = fine or usable.get(one.availability_zone, False)
    shown = [{"zoneName": name, "zoneState": {"available": fine}} for name, fine in sorted(usable.items())]
    return {"availabilityZoneInfo": shown}


async def pools(service: BlockStorage, request: Request[Any]) -> dict[str, Any]:
    request.enforce()
    found = await service.db.read(store.listed, VOLUME_BINARY)
    used = await service.db.read(volume_store.provisioned)
    wanted, detail = request.query.get("name"), request.query.boolean("detail")
    made = []
    for one in found:
        name = f"{one.host}#{one.capabilities.backend}" if one.capabilities else one.host
        if not wanted or wanted in (name, one.host):
            made.append(
                {"name": name} | ({"capabilities": _capabilities(one, used.get(one.host, 0))} if detail else {})
            )
    return {"pools": made}


def _capabilities(one: Service, used_gib: int) -> dict[str, Any]:
    have = one.capabilities
    if have is None:
        return {}
    return {
        "pool_name": have.backend,
        "volume_backend_name": have.backend,
        "storage_protocol": have.storage_protocol,
        "vendor_name": have.vendor_name,
        "driver_version": have.driver_version,
        "total_capacity_gb": have.total_gib,
        "free_capacity_gb": have.free_gib,
        "provisioned_capacity_gb": used_gib,
        "allocated_capacity_gb": used_gib,
        "reserved_percentage": 0,
        "thin_provisioning_support": have.thin_provisioning,
        "thick_provisioning_support": not have.thin_provisioning,
        "multiattach": have.multiattach,
        "online_extend_support": have.online_extend,
        "max_over_subscription_ratio": str(have.max_over_subscription_ratio),
        "QoS_support": False,
        "location_info": None,
        "timestamp": iso_micros(one.reported_at),
    }


_P = "volume_extension:services:{}"
_POOLS = "scheduler_extension:scheduler_stats:get_pools"
RULES = (
    Rule(_P.format("index"), "rule:admin_api", "List services.", (("GET", "/os-services"),)),
    Rule(_P.format("update"), "rule:admin_api", "Enable or disable services.", (("PUT", "/os-services/{action}"),)),
    Rule(_POOLS, "rule:admin_api", "List backend pools.", (("GET", "/scheduler-stats/get_pools"),)),
)
_UPDATE = _P.format("update")
ROUTES = (
    Route(method="GET", path="/os-services", handler=services, policy=_P.format("index")),
    Route(method="PUT", path="/os-services/enable", handler=enable, policy=_UPDATE, body=ServiceBody),
    Route(method="PUT", path="/os-services/disable", handler=disable, policy=_UPDATE, body=ServiceBody),
    Route(
        method="PUT", path="/os-services/disable-log-reason", handler=disable_with_reason, policy=_UPDATE,
        body=ServiceBody,
    ),
    Route(method="GET", path="/os-availability-zone", handler=zones, open_because="every token may know the zones"),
    Route(method="GET", path="/scheduler-stats/get_pools", handler=pools, policy=_POOLS),
)  # fmt: skip
