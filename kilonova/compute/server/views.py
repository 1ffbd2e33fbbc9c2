"""How a server looks to clients, microversion by microversion. Everything comes from compute's own rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.base.clock import iso_micros, iso_seconds
from kilonova.compute.server.states import status_of
from kilonova.compute.server.store import Server, ServerFault
from kilonova.http.fields import Field, View

_POWER = {"nostate": 0, "running": 1, "paused": 3, "shutdown": 4, "crashed": 6, "suspended": 7}
_WITH_PROGRESS = {"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"}
_WITH_FAULT = {"ERROR", "DELETED"}
_FLAVOR_KEYS = (
    ("vcpus", "vcpus"),
    ("ram", "memory_mb"),
    ("disk", "root_gb"),
    ("ephemeral", "ephemeral_gb"),
    ("swap", "swap_mb"),
    ("original_name", "name"),
)


class Eyes(msgspec.Struct, frozen=True):
    """Who looks, decided once per request: where links lead, and which extras the caller may see."""

    origin: str
    operator: bool = False  # OS-EXT-SRV-ATTR:*
    host_status: str = ""  # "": hidden; all | unknown_only
    extra_specs: bool = True
    fault_details: bool = False


class Shown(msgspec.Struct):
    """A server with what stands beside it."""

    server: Server
    eyes: Eyes
    status: str
    tags: list[str] = []
    volumes: list[tuple[str, bool]] = []  # (volume id, delete_on_termination)
    fault: ServerFault | None = None
    host_status: str = ""
    hints: dict[str, Any] = {}


def links(origin: str, server_id: str) -> list[dict[str, str]]:
    """The server's self and bookmark links."""
    return [
        {"rel": "self", "href": f"{origin}/v2.1/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{origin}/servers/{server_id}"},
    ]


def host_id(project_id: str, host: str) -> str:
    """A host's name as another project's users may know it: the same for the project's servers there, no more."""
    return hashlib.sha224(f"{project_id}{host}".encode()).hexdigest() if host else ""


def addresses(server: Server) -> dict[str, list[dict[str, Any]]]:
    """{network name: [address]}."""
    found: dict[str, list[dict[str, Any]]] = {}
    for port in server.ports:
        shown = found.setdefault(port["network_name"], [])
        for fixed in port["fixed_ips"]:
            shown.append(_address(fixed["address"], port["mac"], "fixed"))
            for floating, stands_for in port.get("floating", ()):
                if stands_for == fixed["address"]:
                    shown.append(_address(floating, port["mac"], "floating"))
    return found


def _address(address: str, mac: str, kind: str) -> dict[str, Any]:
    return {
        "version": 6 if ":" in address else 4,
        "addr": address,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": mac,
    }


def _image(shown: Shown) -> Any:
    image_id = shown.server.image_id
    if not image_id:
        return ""
    return {"id": image_id, "links": [{"rel": "bookmark", "href": f"{shown.eyes.origin}/images/{image_id}"}]}


def _image_with_properties(shown: Shown) -> Any:
    image = _image(shown)
    if image:
        image["properties"] = {k: v for k, v in shown.server.image_properties.items() if k != "disk_format"}
    return image


def _flavor_link(shown: Shown) -> Any:
    flavor_id = shown.server.flavor["id"]
    return {"id": flavor_id, "links": [{"rel": "bookmark", "href": f"{shown.eyes.origin}/flavors/{flavor_id}"}]}


def _flavor(shown: Shown) -> Any:
    flavor = shown.server.flavor
    made = {name: flavor[key] for name, key in _FLAVOR_KEYS}
    if shown.eyes.extra_specs:
        made["extra_specs"] = flavor.get("extra_specs", {})
    return made


def _zone(shown: Shown) -> str:
    return shown.server.availability_zone or shown.server.pinned_zone


def _time(moment: Any) -> str | None:
    return iso_micros(moment) if moment else None


def _fault(shown: Shown) -> Any:
    fault = shown.fault
    if fault is None:
        return None
    made = {"code": fault.code, "created": iso_seconds(fault.created_at), "message": fault.message}
    if shown.eyes.fault_details and fault.details:
        made["details"] = fault.details
    return made


def _security_groups(shown: Shown) -> Any:
    """The groups of its ports; until it has some, those that were asked for."""
    server = shown.server
    known = [groups for port in server.ports if (groups := port.get("security_groups")) is not None]
    names = dict.fromkeys(name for groups in known for name in groups) if known else server.security_groups
    return [{"name": name} for name in names]


_F = Field[Shown]
_ID = (
    _F("id", lambda s: s.server.id),
    _F("name", lambda s: s.server.name),
    _F("links", lambda s: links(s.eyes.origin, s.server.id)),
)
_BASE = (
    *_ID,
    _F("status", lambda s: s.status),
    _F("tenant_id", lambda s: s.server.project_id),
    _F("user_id", lambda s: s.server.user_id),
    _F("metadata", lambda s: s.server.metadata),
    _F("hostId", lambda s: host_id(s.server.project_id, s.server.host)),
    _F("image", _image, until="2.97"),
    _F("image", _image_with_properties, since="2.98"),
    _F("flavor", _flavor_link, until="2.46"),
    _F("flavor", _flavor, since="2.47"),
    _F("created", lambda s: iso_seconds(s.server.created_at)),
    _F("updated", lambda s: iso_seconds(s.server.updated_at)),
    _F("addresses", lambda s: addresses(s.server)),
    _F("accessIPv4", lambda s: s.server.access_ip_v4),
    _F("accessIPv6", lambda s: s.server.access_ip_v6),
    _F("OS-DCF:diskConfig", lambda s: s.server.disk_config),
    _F("locked", lambda s: s.server.locked, since="2.9"),
    _F("description", lambda s: s.server.description, since="2.19"),
    _F("tags", lambda s: s.tags, since="2.26"),
    _F("trusted_image_certificates", lambda s: s.server.trusted_certs, since="2.63"),
    _F("locked_reason", lambda s: s.server.locked_reason, since="2.73"),
    _F("OS-EXT-SRV-ATTR:hostname", lambda s: s.server.hostname, since="2.90"),
    _F("pinned_availability_zone", lambda s: s.server.pinned_zone or None, since="2.96"),
    _F("scheduler_hints", lambda s: s.hints, since="2.100"),
)
_EXTRAS = (
    _F("OS-EXT-AZ:availability_zone", _zone),
    _F("config_drive", lambda s: "True" if s.server.config_drive else ""),
    _F("key_name", lambda s: s.server.key_name or None),
    _F("OS-SRV-USG:launched_at", lambda s: _time(s.server.launched_at)),
    _F("OS-SRV-USG:terminated_at", lambda s: _time(s.server.terminated_at)),
    _F("OS-EXT-STS:task_state", lambda s: s.server.task_state or None),
    _F("OS-EXT-STS:vm_state", lambda s: s.server.vm_state),
    _F("OS-EXT-STS:power_state", lambda s: _POWER.get(s.server.power_state, 0)),
    _F("os-extended-volumes:volumes_attached", lambda s: [{"id": v} for v, _ in s.volumes], until="2.2"),
    _F(
        "os-extended-volumes:volumes_attached",
        lambda s: [{"id": v, "delete_on_termination": d} for v, d in s.volumes],
        since="2.3",
    ),
)
_OPERATOR = (
    _F("OS-EXT-SRV-ATTR:host", lambda s: s.server.host or None),
    _F("OS-EXT-SRV-ATTR:hypervisor_hostname", lambda s: s.server.node or None),
    _F("OS-EXT-SRV-ATTR:instance_name", lambda s: f"instance-{s.server.number:08x}"),
    _F("OS-EXT-SRV-ATTR:reservation_id", lambda s: s.server.reservation_id, since="2.3"),
    _F("OS-EXT-SRV-ATTR:launch_index", lambda s: s.server.launch_index, since="2.3"),
    _F("OS-EXT-SRV-ATTR:kernel_id", lambda s: s.server.image_properties.get("kernel_id", ""), since="2.3"),
    _F("OS-EXT-SRV-ATTR:ramdisk_id", lambda s: s.server.image_properties.get("ramdisk_id", ""), since="2.3"),
    _F("OS-EXT-SRV-ATTR:hostname", lambda s: s.server.hostname, since="2.3"),
    _F("OS-EXT-SRV-ATTR:root_device_name", lambda s: s.server.root_device_name, since="2.3"),
    _F("OS-EXT-SRV-ATTR:user_data", lambda s: s.server.user_data or None, since="2.3"),
)
_GROUPS = _F("server_groups", lambda s: [s.server.server_group_id] if s.server.server_group_id else [], since="2.71")

SUMMARY = View[Shown](*_ID)
_DETAIL = {True: View[Shown](*_BASE, *_EXTRAS, *_OPERATOR), False: View[Shown](*_BASE, *_EXTRAS)}
_ONE = {True: View[Shown](*_BASE, *_EXTRAS, *_OPERATOR, _GROUPS), False: View[Shown](*_BASE, *_EXTRAS, _GROUPS)}
_CHANGED = View[Shown](*_BASE)  # the answer of update and rebuild before 2.75

Version = tuple[int, int]


def detail(version: Version, shown: Shown) -> dict[str, Any]:
    """One entry of /servers/detail."""
    return _finished(_DETAIL[shown.eyes.operator].show(version, shown), version, shown)


def one(version: Version, shown: Shown) -> dict[str, Any]:
    """GET /servers/{id}."""
    return _finished(_ONE[shown.eyes.operator].show(version, shown), version, shown)


def changed(version: Version, shown: Shown) -> dict[str, Any]:
    """The answer of an update: short before 2.75, as GET after."""
    if version >= (2, 75):
        return one(version, shown)
    made = _finished(_CHANGED.show(version, shown), version, shown, short=True)
    if version >= (2, 71):
        made["server_groups"] = _GROUPS.get(shown)
    return made


def _finished(made: dict[str, Any], version: Version, shown: Shown, *, short: bool = False) -> dict[str, Any]:
    """With the keys that are there only in some states."""
    if shown.status in _WITH_PROGRESS:
        made["progress"] = shown.server.progress
    if shown.status in _WITH_FAULT and (fault := _fault(shown)):
        made["fault"] = fault
    if short:
        return made
    if groups := _security_groups(shown):
        made["security_groups"] = groups
    if version >= (2, 16) and shown.host_status:
        made["host_status"] = shown.host_status
    return made


def shown_as(server: Server, eyes: Eyes, host_is_up: Callable[[str], bool | None]) -> Shown:
    """The server ready to be shown; tags, volumes and fault are filled in by who read them."""
    shown = Shown(server, eyes, status_of(server.vm_state, server.task_state))
    if eyes.host_status:
        up = host_is_up(server.host) if server.host else None
        word = "" if not server.host else "UNKNOWN" if up is None else "UP" if up else "DOWN"
        if eyes.host_status == "all" or word == "UNKNOWN":
            shown.host_status = word
    return shown
