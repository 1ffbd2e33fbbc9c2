"""os-hypervisors: the machines that run servers, as they last reported themselves.

From 2.88 on room and use are placement's to tell; before, they stand here as the host sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.base.ids import is_uuid
from kilonova.compute.contract import HostReport
from kilonova.compute.core import Compute
from kilonova.compute.host import service_store as store
from kilonova.compute.host.service_store import Service
from kilonova.compute.host.services import known
from kilonova.http.fields import Field, View
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule

PAGE_MAXIMUM = 1000
Servers = dict[str, list[tuple[str, str]]]


class Hypervisor(msgspec.Struct, frozen=True):
    """A host with its report and its service."""

    service: Service
    said: HostReport

    @property
    def id(self) -> str:
        """Its id from 2.53 on: that of its resource provider."""
        return self.service.host.provider_id


def _service(h: Hypervisor, *, old: bool) -> dict[str, Any]:
    said = h.service.said
    return {"host": said.host, "id": said.id if old else said.uuid, "disabled_reason": said.disabled_reason}


_BRIEF: View[Hypervisor] = View(
    Field("id", lambda h: h.service.said.id, until="2.52"),
    Field("id", lambda h: h.id, since="2.53"),
    Field("hypervisor_hostname", lambda h: h.said.node),
    Field("state", lambda h: h.service.state),
    Field("status", lambda h: h.service.status),
)
_FULL: View[Hypervisor] = View(
    Field("host_ip", lambda h: h.said.host_ip),
    Field("hypervisor_type", lambda h: h.said.hypervisor_type),
    Field("hypervisor_version", lambda h: h.said.hypervisor_version),
    Field("service", lambda h: _service(h, old=True), until="2.52"),
    Field("service", lambda h: _service(h, old=False), since="2.53"),
    Field("cpu_info", lambda h: msgspec.json.encode(h.said.cpu_info).decode(), until="2.27"),
    Field("cpu_info", lambda h: h.said.cpu_info, since="2.28", until="2.87"),
    Field("vcpus", lambda h: h.said.vcpus, until="2.87"),
    Field("vcpus_used", lambda h: h.said.vcpus_used, until="2.87"),
    Field("memory_mb", lambda h: h.said.memory_mb, until="2.87"),
    Field("memory_mb_used", lambda h: h.said.memory_mb_used, until="2.87"),
    Field("free_ram_mb", lambda h: h.said.memory_mb - h.said.memory_mb_used, until="2.87"),
    Field("local_gb", lambda h: h.said.disk_gb, until="2.87"),
    Field("local_gb_used", lambda h: h.said.disk_gb_used, until="2.87"),
    Field("free_disk_gb", lambda h: h.said.disk_gb - h.said.disk_gb_used, until="2.87"),
    Field("disk_available_least", lambda h: h.said.free_disk_gb, until="2.87"),
    Field("running_vms", lambda h: h.said.running_servers, until="2.87"),
    Field("current_workload", lambda h: 0, until="2.87"),  # operations in flight are not told by hosts
    Field("uptime", lambda h: None, since="2.88"),  # hosts do not tell it
)
_SUMS = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
         "free_disk_gb", "disk_available_least", "running_vms", "current_workload")  # fmt: skip


def _shown(request: Request[Any], one: Hypervisor, servers: Servers | None, *, full: bool) -> dict[str, Any]:
    made = _BRIEF.show(request.version, one)
    if full:
        made |= _FULL.show(request.version, one)
    if servers is not None and (here := servers.get(one.service.host.name)):
        made["servers"] = [{"uuid": id_, "name": name} for id_, name in here]
    return made


async def _all(compute: Compute) -> list[Hypervisor]:
    return [Hypervisor(service, service.host.said) for service in await known(compute)]


async def _servers(compute: Compute, request: Request[Any]) -> Servers | None:
    if request.version < (2, 53) or not request.query.boolean("with_servers"):
        return None
    return await compute.db.read(store.servers_by_host)


def _matching(request: Request[Any], found: list[Hypervisor]) -> list[Hypervisor]:
    pattern = request.query.get("hypervisor_hostname_pattern") if request.version >= (2, 53) else None
    if pattern is None:
        return found
    if "limit" in request.query or "marker" in request.query:
        raise invalid("Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.")
    return _named(found, pattern)


def _named(found: list[Hypervisor], pattern: str) -> list[Hypervisor]:
    named = [one for one in found if pattern.lower() in one.said.node.lower()]
    if not named:
        raise Fault(Kind.NOT_FOUND, f"No hypervisor matching '{pattern[:255]}' could be found.")
    return named


def _id(request: Request[Any], one: Hypervisor) -> str:
    return one.id if request.version >= (2, 53) else str(one.service.said.id)


def _page(request: Request[Any], found: list[Hypervisor]) -> tuple[list[Hypervisor], bool]:
    """(the page asked for, whether more follows): pages exist from 2.33 on."""
    if request.version < (2, 33):
        return found, False
    limit, marker = request.query.integer("limit"), request.query.get("marker")
    if marker is not None:
        ids = [_id(request, one) for one in found]
        if marker not in ids:
            raise invalid(f"Marker {marker[:80]} could not be found.", hint="Start again without a marker.")
        found = found[ids.index(marker) + 1 :]
    size = PAGE_MAXIMUM if limit is None else min(limit, PAGE_MAXIMUM)
    return found[:size], 0 < size < len(found)


async def _list(compute: Compute, request: Request[None], *, full: bool) -> dict[str, Any]:
    request.enforce()
    servers = await _servers(compute, request)
    found, more = _page(request, _matching(request, await _all(compute)))
    made: dict[str, Any] = {"hypervisors": [_shown(request, one, servers, full=full) for one in found]}
    if more:
        kept = "&".join(f"{key}={value}" for key, value in request.query.pairs if key == "limit")
        href = f"{request.origin}{request.url_path}?{kept}&marker={_id(request, found[-1])}"
        made["hypervisors_links"] = [{"rel": "next", "href": href}]
    return made


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The hypervisors."""
    return await _list(compute, request, full=False)


async def detail(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The hypervisors with all that is known of them."""
    return await _list(compute, request, full=True)


async def _one(compute: Compute, request: Request[Any]) -> Hypervisor:
    request.enforce()
    wanted = request.path["hypervisor_id"]
    if request.version >= (2, 53) and not is_uuid(wanted):
        raise invalid(f"Invalid uuid {wanted[:80]}.")
    for one in await _all(compute):
        if _id(request, one) == wanted:
            return one
    raise Fault(Kind.NOT_FOUND, f"Hypervisor with ID '{wanted[:80]}' could not be found.")


async def show(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """One hypervisor."""
    servers = await _servers(compute, request)
    return {"hypervisor": _shown(request, await _one(compute, request), servers, full=True)}


def totals(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Sums over hypervisors."""
    return {"count": len(found), **{name: sum(one[name] for one in found) for name in _SUMS}}


async def statistics(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """Sums over the hypervisors that are enabled."""
    request.enforce()
    enabled = [one for one in await _all(compute) if not one.service.said.disabled]
    return {"hypervisor_statistics": totals([_FULL.show(request.version, one) for one in enabled])}


async def search(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """Hypervisors by a part of their name (up to 2.52)."""
    request.enforce()
    found = _named(await _all(compute), request.path["hypervisor_id"])
    return {"hypervisors": [_shown(request, one, None, full=False) for one in found]}


async def servers(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """Hypervisors by a part of their name, with their servers (up to 2.52)."""
    request.enforce()
    found = _named(await _all(compute), request.path["hypervisor_id"])
    here = await compute.db.read(store.servers_by_host)
    return {"hypervisors": [_shown(request, one, here, full=False) for one in found]}


_NAME = "os_compute_api:os-hypervisors"
_ALL, _ONE = "/os-hypervisors", "/os-hypervisors/{hypervisor_id}"
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_ALL, handler=index, policy=f"{_NAME}:list"),
    Route(method="GET", path=f"{_ALL}/detail", handler=detail, policy=f"{_NAME}:list-detail"),
    Route(method="GET", path=f"{_ALL}/statistics", handler=statistics, policy=f"{_NAME}:statistics", until="2.87"),
    Route(method="GET", path=_ONE, handler=show, policy=f"{_NAME}:show"),
    Route(method="GET", path=f"{_ONE}/search", handler=search, policy=f"{_NAME}:search", until="2.52"),
    Route(method="GET", path=f"{_ONE}/servers", handler=servers, policy=f"{_NAME}:servers", until="2.52"),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_NAME}:list", ADMIN, "List hypervisors", (("GET", _ALL),)),
    Rule(f"{_NAME}:list-detail", ADMIN, "List hypervisors in detail", (("GET", f"{_ALL}/detail"),)),
    Rule(f"{_NAME}:statistics", ADMIN, "Sum up hypervisors", (("GET", f"{_ALL}/statistics"),)),
    Rule(f"{_NAME}:show", ADMIN, "Show a hypervisor", (("GET", _ONE),)),
    Rule(f"{_NAME}:search", ADMIN, "Find hypervisors by name", (("GET", f"{_ONE}/search"),)),
    Rule(f"{_NAME}:servers", ADMIN, "List servers on hypervisors", (("GET", f"{_ONE}/servers"),)),
)
