"""/v2.0/routers: make, list, show, change, delete; legs added and removed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import addresses, door
from kilonova.network.allocation_store import Ask
from kilonova.network.core import NetworkService
from kilonova.network.network import resource as networks
from kilonova.network.port import resource as ports
from kilonova.network.port.body import FixedIp, asks
from kilonova.network.router import store
from kilonova.network.router.store import Gateway, Leg, Router
from kilonova.network.subnet import resource as subnets
from kilonova.policy import personas

Name = Annotated[str, Meta(max_length=255)]


class GatewayInfo(msgspec.Struct, forbid_unknown_fields=True):
    """external_gateway_info."""

    network_id: str | UnsetType = UNSET
    enable_snat: bool | UnsetType = UNSET
    external_fixed_ips: list[FixedIp] | UnsetType = UNSET


class ExtraRoute(msgspec.Struct, forbid_unknown_fields=True):
    """A route of the router."""

    destination: str
    nexthop: str


class RouterChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: what may change."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    external_gateway_info: GatewayInfo | UnsetType | None = UNSET
    routes: list[ExtraRoute] | UnsetType | None = UNSET


class RoutesOnly(msgspec.Struct, forbid_unknown_fields=True):
    """Routes to add or to take away."""

    routes: list[ExtraRoute]


class RouterWanted(RouterChange, forbid_unknown_fields=True):
    """POST: a new router."""

    project_id: Name = ""
    tenant_id: Name = ""


class InterfaceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which leg: by port or by subnet."""

    port_id: str | None = None
    subnet_id: str | None = None


def target(router: Router) -> dict[str, Any]:
    """The router as policy rules look at it."""
    return door.target(router.project_id)


def _view(router: Router) -> dict[str, Any]:
    gateway = None
    if router.gateway_network_id:
        gateway = {
            "network_id": router.gateway_network_id,
            "enable_snat": router.snat,
            "external_fixed_ips": [{"subnet_id": h.subnet_id, "ip_address": h.address} for h in router.gateway_ips],
        }
    return {
        **door.standard(router),
        "admin_state_up": router.admin_state_up,
        "status": "ACTIVE",
        "external_gateway_info": gateway,
        "routes": [{"destination": to, "nexthop": via} for to, via in router.routes],
        "availability_zone_hints": [],
        "availability_zones": [],
    }


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /routers"""
    wanted = door.wanted_from(request, store.LISTING, "get_router")
    rows = await service.db.read(store.list_routers, wanted)
    return door.answer_list(request, "routers", [_view(row) for row in rows], wanted)


async def _seen(service: NetworkService, request: Request[Any]) -> Router:
    id_ = request.path["id"]
    router = await service.db.read(store.find_router, id_)
    return door.seen(request, "get_router", router, target, store.no_router(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /routers/{id}"""
    return {"router": door.chosen(request, _view(await _seen(service, request)))}


async def create(service: NetworkService, request: Request[RouterWanted]) -> dict[str, Any]:
    """POST /routers"""
    body = request.body
    project_id = door.project_of(request, body)
    of = door.target(project_id)
    request.enforce(of)
    gateway = await _gateway(service, request, body, of, None)
    if body.routes:
        raise store.bad_routes([], "a new router has no connected subnet")
    now = service.draw.now()
    values = door.given(body, "name", "description", "admin_state_up")
    router = Router(id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now, **values)
    return {"router": _view(await service.change(store.create_router, router, gateway))}


async def _gateway(
    service: NetworkService, request: Request[Any], body: RouterChange, of: dict[str, Any], router: Router | None
) -> Gateway | None:
    """The gateway that the body asks for, its attributes allowed and its network seen; None when it asks for none."""
    info = body.external_gateway_info
    if not isinstance(info, GatewayInfo) or info == GatewayInfo():
        return None
    verb = "update_router" if router else "create_router"
    request.enforce(of, f"{verb}:external_gateway_info")
    network_id = info.network_id if info.network_id is not UNSET else router.gateway_network_id if router else ""
    if not network_id:
        raise invalid("Invalid input for external_gateway_info. Reason: network_id is required.", code="HTTPBadRequest")
    request.enforce(of, f"{verb}:external_gateway_info:network_id")
    if info.enable_snat is not UNSET:
        request.enforce(of, f"{verb}:external_gateway_info:enable_snat")
    asked: tuple[Ask, ...] | None = None
    if info.external_fixed_ips is not UNSET and info.external_fixed_ips:
        request.enforce(of, f"{verb}:external_gateway_info:external_fixed_ips")
        asked = tuple(asks(info.external_fixed_ips) or ())
    await networks.seen(service, request, network_id)
    snat = info.enable_snat if info.enable_snat is not UNSET else router.snat if router else True
    return Gateway(network_id, snat, asked)


async def update(service: NetworkService, request: Request[RouterChange]) -> dict[str, Any]:
    """PUT /routers/{id}"""
    router, body = await _seen(service, request), request.body
    request.enforce(target(router))
    gateway = await _gateway(service, request, body, target(router), router)
    clear = body.external_gateway_info is not UNSET and gateway is None
    values = door.given(body, "name", "description", "admin_state_up")
    if body.routes is not UNSET:
        values["routes"] = _routes(service, body.routes or [])
    return {"router": _view(await service.change(store.update_router, router.id, values, gateway, clear=clear))}


def _routes(service: NetworkService, asked: list[ExtraRoute]) -> list[list[str]]:
    limit = service.settings.routes_per_router
    if len(asked) > limit:
        raise store.too_many_routes(limit)
    made = []
    for route in asked:
        to, via = addresses.network(route.destination), addresses.address(route.nexthop)
        if to.version != via.version:
            raise store.bad_routes([[str(to), str(via)]], "destination and nexthop are of different IP versions")
        if [str(to), str(via)] in made:
            raise store.bad_routes([[str(to), str(via)]], "duplicate route")
        made.append([str(to), str(via)])
    return made


async def add_routes(service: NetworkService, request: Request[RoutesOnly]) -> dict[str, Any]:
    """PUT /routers/{id}/add_extraroutes: beside those that are there"""
    return await _amend(service, request, store.add_routes)


async def remove_routes(service: NetworkService, request: Request[RoutesOnly]) -> dict[str, Any]:
    """PUT /routers/{id}/remove_extraroutes: one that is not there is no error"""
    return await _amend(service, request, store.remove_routes)


async def _amend(service: NetworkService, request: Request[RoutesOnly], amend: store.Amend) -> dict[str, Any]:
    router = await _seen(service, request)
    request.enforce(target(router))
    limit = service.settings.routes_per_router
    return {"router": _view(await service.change(amend, router.id, _routes(service, request.body.routes), limit))}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /routers/{id}"""
    router = await _seen(service, request)
    request.enforce(target(router))
    await service.change(store.delete_router, router.id)


async def add_interface(service: NetworkService, request: Request[InterfaceBody]) -> dict[str, Any]:
    """PUT /routers/{id}/add_router_interface"""
    router, body = await _seen(service, request), request.body
    request.enforce(target(router))
    _one_of(body)
    if body.port_id:
        await ports.seen(service, request, body.port_id)
        return _leg_view(await service.change(store.add_interface_by_port, router.id, body.port_id))
    await subnets.seen(service, request, body.subnet_id or "")
    return _leg_view(await service.change(store.add_interface_by_subnet, router.id, body.subnet_id or ""))


async def remove_interface(service: NetworkService, request: Request[InterfaceBody]) -> dict[str, Any]:
    """PUT /routers/{id}/remove_router_interface"""
    router, body = await _seen(service, request), request.body
    request.enforce(target(router))
    if not body.port_id and not body.subnet_id:
        _one_of(body)
    leg = await service.change(
        store.remove_interface, router.id, port_id=body.port_id or "", subnet_id=body.subnet_id or ""
    )
    return _leg_view(leg)


def _one_of(body: InterfaceBody) -> None:
    if bool(body.port_id) == bool(body.subnet_id):
        message = (
            "Cannot specify both subnet-id and port-id"
            if body.port_id
            else "Either subnet_id or port_id must be specified"
        )
        raise invalid(f"Bad router request: {message}.", code="BadRequest")


def _leg_view(leg: Leg) -> dict[str, Any]:
    return {
        "id": leg.router_id,
        "project_id": leg.project_id,
        "tenant_id": leg.project_id,
        "port_id": leg.port_id,
        "network_id": leg.network_id,
        "subnet_id": leg.subnet_ids[0],
        "subnet_ids": list(leg.subnet_ids),
        "tags": [],
    }


_ADMIN, _MEMBER = personas.ADMIN_ONLY, personas.ADMIN_OR_PROJECT_MEMBER
_GATEWAY = {
    "external_gateway_info": _MEMBER,
    "external_gateway_info:network_id": _MEMBER,
    "external_gateway_info:enable_snat": _ADMIN,
    "external_gateway_info:external_fixed_ips": _ADMIN,
}
RULES = door.rules(
    {
        "create_router": _MEMBER,
        "get_router": personas.ADMIN_OR_PROJECT_READER,
        "update_router": _MEMBER,
        "delete_router": _MEMBER,
        "add_router_interface": _MEMBER,
        "remove_router_interface": _MEMBER,
        "add_extraroutes": _MEMBER,
        "remove_extraroutes": _MEMBER,
        **door.each(["create_router", "update_router"], _GATEWAY),
    },
    about="routers",
)
_ONE = "/v2.0/routers/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/routers", handler=index, policy="get_router"),
    Route(method="POST", path="/v2.0/routers", handler=create, policy="create_router", body=RouterWanted,
          envelope="router", success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_router"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_router", body=RouterChange, envelope="router"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_router", success=204),
    Route(method="PUT", path=f"{_ONE}/add_router_interface", handler=add_interface, policy="add_router_interface",
          body=InterfaceBody),
    Route(method="PUT", path=f"{_ONE}/remove_router_interface", handler=remove_interface,
          policy="remove_router_interface", body=InterfaceBody),
    Route(method="PUT", path=f"{_ONE}/add_extraroutes", handler=add_routes, policy="add_extraroutes",
          body=RoutesOnly, envelope="router"),
    Route(method="PUT", path=f"{_ONE}/remove_extraroutes", handler=remove_routes, policy="remove_extraroutes",
          body=RoutesOnly, envelope="router"),
)  # fmt: skip
