"""os-services: the compute services of the cloud's hosts, and taking one out of service.

Hosts report to the conductor; whoever has not done so for `host_down_seconds` is down.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import Connection

from kilonova.base.clock import iso_micros
from kilonova.base.faults import invalid
from kilonova.base.ids import is_uuid
from kilonova.compute.core import Catalogue, Compute
from kilonova.compute.host import service_store as store
from kilonova.compute.host.service_store import BINARY, Service
from kilonova.compute.values import printable_name, truth
from kilonova.http.fields import Field, View
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.http.schema import since
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule


class UpdateService(msgspec.Struct, forbid_unknown_fields=True):
    """The body from 2.53 on: what is not named stays."""

    status: Literal["enabled", "disabled"] | None = None
    disabled_reason: str | None = None
    forced_down: bool | str | int | None = None


class NamedService(msgspec.Struct, forbid_unknown_fields=True):
    """The body up to 2.52: which service, by host and binary."""

    host: str
    binary: str
    disabled_reason: str | None = None
    forced_down: Annotated[bool | str | int | None, since("2.11")] = None


_VIEW: View[tuple[Service, str]] = View(
    Field("id", lambda s: s[0].said.id, until="2.52"),
    Field("id", lambda s: s[0].said.uuid, since="2.53"),
    Field("binary", lambda s: BINARY),
    Field("host", lambda s: s[0].host.name),
    Field("zone", lambda s: s[1]),
    Field("status", lambda s: s[0].status),
    Field("state", lambda s: s[0].state),
    Field("updated_at", lambda s: iso_micros(s[0].updated_at)),
    Field("disabled_reason", lambda s: s[0].said.disabled_reason),
    Field("forced_down", lambda s: s[0].said.forced_down, since="2.11"),
)


async def known(compute: Compute) -> list[Service]:
    """Every compute service; a host that just appeared gets its ids here."""
    if new := await compute.db.read(store.without_service):
        await compute.db.write(store.add, {host: compute.world.ids.uuid() for host in new})
    return await compute.db.read(store.every, compute.world.clock.now(), compute.settings.host_down_seconds)


async def _shown(compute: Compute, request: Request[Any], services: list[Service]) -> list[dict[str, Any]]:
    zones = await compute.db.read(zones_of, compute.catalogue, [one.host.name for one in services])
    return [_VIEW.show(request.version, (one, zones[one.host.name])) for one in services]


def zones_of(connection: Connection, catalogue: Catalogue, hosts: list[str]) -> dict[str, str]:
    """host → its availability zone."""
    return {host: catalogue.zone_of(connection, host) for host in hosts}


async def index(compute: Compute, request: Request[None]) -> dict[str, Any]:
    """The services, also by `host` and `binary`."""
    request.enforce()
    host, binary = request.query.get("host"), request.query.get("binary")
    found = [one for one in await known(compute) if host in (None, one.host.name) and binary in (None, BINARY)]
    return {"services": await _shown(compute, request, found)}


def _reason(text: str | None) -> str | None:
    return None if text is None else printable_name(text, "disabled_reason")


async def update(compute: Compute, request: Request[UpdateService]) -> dict[str, Any]:
    """The service enabled, disabled, or known to be down (2.53)."""
    request.enforce()
    body, id_ = request.body, request.path["service_id"]
    if not is_uuid(id_):
        raise invalid(f"Invalid uuid {id_[:80]}.")
    values: dict[str, object] = {}
    reason = _reason(body.disabled_reason)
    if body.status is None and body.forced_down is None:
        raise invalid("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    if reason is not None and body.status != "disabled":
        raise invalid("Specifying 'disabled_reason' when status is not 'disabled' is invalid.")
    if body.status is not None:
        values |= {"disabled": body.status == "disabled", "disabled_reason": reason}
    if body.forced_down is not None:
        values["forced_down"] = truth(body.forced_down, "forced_down")
    service = next((one for one in await known(compute) if one.said.uuid == id_), None)
    if service is None:
        raise store.no_such(id_)
    await compute.db.write(store.change, service.said.id, compute.world.clock.now(), values)
    changed = next(one for one in await known(compute) if one.said.uuid == id_)
    return {"service": (await _shown(compute, request, [changed]))[0]}


async def _named(compute: Compute, request: Request[NamedService], values: dict[str, object]) -> None:
    body = request.body
    service = next((one for one in await known(compute) if one.host.name == body.host), None)
    if service is None or body.binary != BINARY:
        raise store.no_such(f"{body.binary} on host {body.host}")
    await compute.db.write(store.change, service.said.id, compute.world.clock.now(), values)


async def enable(compute: Compute, request: Request[NamedService]) -> dict[str, Any]:
    """The service gets new servers again (up to 2.52)."""
    request.enforce()
    await _named(compute, request, {"disabled": False, "disabled_reason": None})
    return {"service": {"host": request.body.host, "binary": BINARY, "status": "enabled"}}


async def disable(compute: Compute, request: Request[NamedService]) -> dict[str, Any]:
    """The service gets no new servers (up to 2.52)."""
    request.enforce()
    await _named(compute, request, {"disabled": True, "disabled_reason": None})
    return {"service": {"host": request.body.host, "binary": BINARY, "status": "disabled"}}


async def disable_with_reason(compute: Compute, request: Request[NamedService]) -> dict[str, Any]:
    """The service gets no new servers, and why (up to 2.52)."""
    request.enforce()
    reason = _reason(request.body.disabled_reason)
    if reason is None:
        raise invalid("Invalid input for field/attribute disabled_reason: it is a required property.")
    await _named(compute, request, {"disabled": True, "disabled_reason": reason})
    shown = {"host": request.body.host, "binary": BINARY, "status": "disabled", "disabled_reason": reason}
    return {"service": shown}


async def force_down(compute: Compute, request: Request[NamedService]) -> dict[str, Any]:
    """The service counts as down, or as it reports again (2.11 to 2.52)."""
    request.enforce()
    if request.body.forced_down is None:
        raise invalid("Missing forced_down field")
    down = truth(request.body.forced_down, "forced_down")
    await _named(compute, request, {"forced_down": down})
    return {"service": {"host": request.body.host, "binary": BINARY, "forced_down": down}}


_NAME = "os_compute_api:os-services"
_ALL, _ONE = "/os-services", "/os-services/{service_id}"
_OLD: dict[str, Any] = {"policy": f"{_NAME}:update", "body": NamedService, "until": "2.52"}
ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=_ALL, handler=index, policy=f"{_NAME}:list"),
    Route(method="PUT", path=_ONE, handler=update, policy=f"{_NAME}:update", body=UpdateService, since="2.53"),
    Route(method="PUT", path=f"{_ALL}/enable", handler=enable, **_OLD),
    Route(method="PUT", path=f"{_ALL}/disable", handler=disable, **_OLD),
    Route(method="PUT", path=f"{_ALL}/disable-log-reason", handler=disable_with_reason, **_OLD),
    Route(method="PUT", path=f"{_ALL}/force-down", handler=force_down, since="2.11", **_OLD),
)
RULES: tuple[Rule, ...] = (
    Rule(f"{_NAME}:list", ADMIN, "List compute services", (("GET", _ALL),)),
    Rule(f"{_NAME}:update", ADMIN, "Enable, disable or force down a compute service", (("PUT", _ONE),)),
)
