"""/v2.0/floatingips: make, list, show, associate, delete."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import addresses, door
from kilonova.network.allocation_store import Ask
from kilonova.network.core import NetworkService
from kilonova.network.floating_ip import store
from kilonova.network.floating_ip.store import Association, FloatingIp
from kilonova.network.network import resource as networks
from kilonova.policy import personas

Name = Annotated[str, Meta(max_length=255)]


class FloatingIpChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: what may change. A null port takes it away."""

    description: Name | UnsetType = UNSET
    port_id: str | UnsetType | None = UNSET
    fixed_ip_address: str | UnsetType | None = UNSET


class FloatingIpWanted(FloatingIpChange, forbid_unknown_fields=True, kw_only=True):
    """POST: a new floating IP."""

    floating_network_id: str
    project_id: Name = ""
    tenant_id: Name = ""
    subnet_id: str | None = None
    floating_ip_address: str | None = None


def target(row: FloatingIp) -> dict[str, Any]:
    """The floating IP as policy rules look at it."""
    return door.target(row.project_id)


def _view(row: FloatingIp) -> dict[str, Any]:
    shown = door.standard(row)
    del shown["name"]
    details = None
    if row.port is not None:
        details = {
            "name": row.port.name,
            "network_id": row.port.network_id,
            "mac_address": row.port.mac,
            "admin_state_up": row.port.admin_state_up,
            "status": row.port.status,
            "device_id": row.port.device_id,
            "device_owner": row.port.device_owner,
        }
    return {
        **shown,
        "floating_network_id": row.network_id,
        "floating_ip_address": row.address,
        "port_id": row.port_id,
        "fixed_ip_address": row.fixed_ip,
        "router_id": row.router_id or None,
        "status": row.status,
        "port_details": details,
    }


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /floatingips"""
    wanted = door.wanted_from(request, store.LISTING, "get_floatingip")
    rows = await service.db.read(store.list_floating_ips, wanted)
    return door.answer_list(request, "floatingips", [_view(row) for row in rows], wanted)


async def _seen(service: NetworkService, request: Request[Any]) -> FloatingIp:
    id_ = request.path["id"]
    row = await service.db.read(store.find_floating_ip, id_)
    return door.seen(request, "get_floatingip", row, target, store.no_floating_ip(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /floatingips/{id}"""
    return {"floatingip": door.chosen(request, _view(await _seen(service, request)))}


async def create(service: NetworkService, request: Request[FloatingIpWanted]) -> dict[str, Any]:
    """POST /floatingips"""
    body = request.body
    project_id = door.project_of(request, body)
    of = door.target(project_id)
    request.enforce(of)
    if body.floating_ip_address:
        request.enforce(of, "create_floatingip:floating_ip_address")
    await networks.seen(service, request, body.floating_network_id)
    now = service.draw.now()
    row = FloatingIp(
        id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now,
        network_id=body.floating_network_id, **door.given(body, "description"),
    )  # fmt: skip
    address = str(addresses.address(body.floating_ip_address)) if body.floating_ip_address else ""
    made = await service.change(
        store.create_floating_ip, row, Ask(body.subnet_id or "", address), _association(request, body)
    )
    return {"floatingip": _view(made)}


def _association(request: Request[Any], body: FloatingIpChange) -> Association:
    port_id = body.port_id or "" if body.port_id is not UNSET else ""
    fixed_ip = body.fixed_ip_address or "" if body.fixed_ip_address is not UNSET else ""
    if fixed_ip and not port_id:
        raise addresses.wrong("fixed_ip_address cannot be specified without a port_id")
    whose = None if request.allows("admin_only") else request.caller.project_id
    return Association(port_id, str(addresses.address(fixed_ip)) if fixed_ip else "", whose)


async def update(service: NetworkService, request: Request[FloatingIpChange]) -> dict[str, Any]:
    """PUT /floatingips/{id}"""
    row, body = await _seen(service, request), request.body
    request.enforce(target(row))
    if body.port_id is UNSET and body.fixed_ip_address not in (UNSET, None) and row.port_id:
        body.port_id = row.port_id
    wanted = None if body.port_id is UNSET and body.description is not UNSET else _association(request, body)
    changed = await service.change(store.update_floating_ip, row.id, door.given(body, "description"), wanted)
    return {"floatingip": _view(changed)}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /floatingips/{id}"""
    row = await _seen(service, request)
    request.enforce(target(row))
    await service.change(store.delete_floating_ip, row.id)


_MEMBER = personas.ADMIN_OR_PROJECT_MEMBER
RULES = door.rules(
    {
        "create_floatingip": _MEMBER,
        "create_floatingip:floating_ip_address": personas.ADMIN_ONLY,
        "get_floatingip": personas.ADMIN_OR_PROJECT_READER,
        "update_floatingip": _MEMBER,
        "delete_floatingip": _MEMBER,
    },
    about="floating IPs",
)
_ONE = "/v2.0/floatingips/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/floatingips", handler=index, policy="get_floatingip"),
    Route(method="POST", path="/v2.0/floatingips", handler=create, policy="create_floatingip", body=FloatingIpWanted,
          envelope="floatingip", success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_floatingip"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_floatingip", body=FloatingIpChange,
          envelope="floatingip"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_floatingip", success=204),
)  # fmt: skip
