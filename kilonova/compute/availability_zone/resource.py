"""os-availability-zone: where servers may be put. Aggregates make zones; the other hosts are in the default one."""

from __future__ import annotations

from typing import Any

from kilonova.base.clock import iso_micros
from kilonova.compute.core import Compute
from kilonova.compute.host.service_store import BINARY, Service
from kilonova.compute.host.services import known, zones_of
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN, ANY
from kilonova.policy.rules import Rule


async def _zones(compute: Compute) -> dict[str, list[Service]]:
    """zone → the services of its hosts, by name."""
    services = await known(compute)
    zone_of = await compute.db.read(zones_of, compute.catalogue, [one.host.name for one in services])
    found: dict[str, list[Service]] = {}
    for one in services:
        found.setdefault(zone_of[one.host.name], []).append(one)
    return dict(sorted(found.items()))


def _zone(name: str, services: list[Service], hosts: Any) -> dict[str, Any]:
    available = any(not one.said.disabled for one in services)
    return {"zoneName": name, "zoneState": {"available": available}, "hosts": hosts}


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The zones that have hosts, without them."""
    request.enforce()
    return {"availabilityZoneInfo": [_zone(name, found, None) for name, found in (await _zones(compute)).items()]}


async def detail(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The zones with their hosts and whether those are enabled and up."""
    request.enforce()
    zones = await _zones(compute)
    return {"availabilityZoneInfo": [_zone(name, found, _hosts(found)) for name, found in zones.items()]}


def _hosts(services: list[Service]) -> dict[str, Any]:
    return {
        one.host.name: {
            BINARY: {"active": not one.said.disabled, "available": one.up, "updated_at": iso_micros(one.updated_at)}
        }
        for one in services
    }


_NAME = "os_compute_api:os-availability-zone"
_PATH = "/os-availability-zone"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_PATH, handler=index, policy=f"{_NAME}:list"),
    Route(method="GET", path=f"{_PATH}/detail", handler=detail, policy=f"{_NAME}:detail"),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_NAME}:list", ANY, "List availability zones", (("GET", _PATH),)),
    Rule(f"{_NAME}:detail", ADMIN, "List availability zones with their hosts", (("GET", f"{_PATH}/detail"),)),
)
