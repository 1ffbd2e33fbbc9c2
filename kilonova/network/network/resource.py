"""/v2.0/networks: make, list, show, change, delete."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import door
from kilonova.network.addresses import wrong
from kilonova.network.contract import BESIDE_HEADER, BESIDE_NETWORK
from kilonova.network.core import NetworkService
from kilonova.network.network import store
from kilonova.network.network.store import Network
from kilonova.network.quota import store as quota
from kilonova.network.settings import QuotaDefaults
from kilonova.policy import personas

Name = Annotated[str, Meta(max_length=255)]
_RENAMED = {
    "external": "router:external",
    "segment_type": "provider:network_type",
    "physical_network": "provider:physical_network",
    "segment_id": "provider:segmentation_id",
    "port_security": "port_security_enabled",
}


class NetworkChange(msgspec.Struct, forbid_unknown_fields=True, rename=_RENAMED):
    """PUT: what may change."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    external: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    mtu: Annotated[int, Meta(ge=0, le=65535)] | UnsetType = UNSET
    port_security: bool | UnsetType = UNSET


class NetworkWanted(NetworkChange, forbid_unknown_fields=True, rename=_RENAMED):
    """POST: a new network."""

    project_id: Name = ""
    tenant_id: Name = ""
    segment_type: str | UnsetType | None = UNSET
    physical_network: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    segment_id: int | UnsetType | None = UNSET


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"network": …} or {"networks": […]}."""

    network: NetworkWanted | UnsetType = UNSET
    networks: list[NetworkWanted] | UnsetType = UNSET


_GUARDED = {
    "shared": ("shared", False),
    "external": ("router:external", False),
    "is_default": ("is_default", False),
    "port_security": ("port_security_enabled", True),
}
_PROVIDER = {
    "segment_type": ("provider:network_type", None),
    "physical_network": ("provider:physical_network", None),
    "segment_id": ("provider:segmentation_id", None),
}
_SET = ("name", "description", "admin_state_up", "shared", "external", "is_default", "mtu", "port_security")


def target(network: Network) -> dict[str, Any]:
    """The network as policy rules look at it."""
    shared = {"shared": network.shared, "router:external": network.external, "network:tenant_id": network.project_id}
    return door.target(network.project_id, **shared)


def view(request: Request[Any], network: Network) -> dict[str, Any]:
    """The network as this caller sees it."""
    return _view(network, provider=_shows_provider(request))


def _view(network: Network, *, provider: bool) -> dict[str, Any]:
    shown = {
        **door.standard(network),
        "admin_state_up": network.admin_state_up,
        "mtu": network.mtu,
        "status": "ACTIVE",
        "subnets": network.subnets,
        "shared": network.shared,
        "availability_zone_hints": [],
        "availability_zones": [],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
        "router:external": network.external,
        "port_security_enabled": network.port_security,
    }
    if network.external:
        shown["is_default"] = network.is_default
    if provider:
        shown["provider:network_type"] = network.segment_type
        shown["provider:physical_network"] = network.physical_network or None
        shown["provider:segmentation_id"] = network.segment_id
    return shown


def _shows_provider(request: Request[Any]) -> bool:
    return request.allows("get_network:provider:network_type", door.ANYBODY)


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /networks"""
    wanted = door.wanted_from(request, store.LISTING, "get_network")
    rows = await service.db.read(store.list_networks, wanted)
    provider = _shows_provider(request)
    return door.answer_list(request, "networks", [_view(row, provider=provider) for row in rows], wanted)


async def seen(service: NetworkService, request: Request[Any], id_: str) -> Network:
    """The network, when the caller may see it."""
    network = await service.db.read(store.find_network, id_)
    return door.seen(request, "get_network", network, target, store.no_network(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /networks/{id}"""
    if request.headers.get(BESIDE_HEADER) != BESIDE_NETWORK or not request.allows("get_quota", door.own(request)):
        return _shown(request, await service.db.read(store.find_network, request.path["id"]))
    project_id, defaults = request.caller.project_id, service.settings.quotas
    network, ports = await service.db.read(_with_quota, request.path["id"], project_id, defaults)
    return _shown(request, network) | {"quota": {"port": ports}}


def _shown(request: Request[Any], network: Network | None) -> dict[str, Any]:
    known = door.seen(request, "get_network", network, target, store.no_network(request.path["id"]))
    return {"network": door.chosen(request, view(request, known))}


def _with_quota(
    connection: Connection, id_: str, project_id: str, defaults: QuotaDefaults
) -> tuple[Network | None, dict[str, int]]:
    return store.find_network(connection, id_), quota.room(connection, project_id, "port", defaults)


async def create(service: NetworkService, request: Request[CreateBody]) -> dict[str, Any]:
    """POST /networks, one or many"""
    wanted, bulk = door.singles(request.body, "network", "networks")
    rows = [_new(service, request, one) for one in wanted]
    made = await service.change(store.create_networks, rows)
    shown = [_view(row, provider=_shows_provider(request)) for row in made]
    return {"networks": shown} if bulk else {"network": shown[0]}


def _new(service: NetworkService, request: Request[Any], body: NetworkWanted) -> Network:
    project_id = door.project_of(request, body)
    of = door.target(project_id, **{"network:tenant_id": project_id})
    door.guard(request, "create_network", body, {**_GUARDED, **_PROVIDER}, of)
    now = service.draw.now()
    network = Network(
        id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now, **door.given(body, *_SET)
    )
    _choose_segment(service, network, body)
    largest = service.settings.mtu_of(network.segment_type)
    network.mtu = network.mtu or largest
    _check_mtu(network.mtu, largest)
    return network


def _choose_segment(service: NetworkService, network: Network, body: NetworkWanted) -> None:
    """The provider attributes, or the cloud's own way (VXLAN)."""
    kind = body.segment_type or ""
    number = body.segment_id if body.segment_id is not UNSET else None
    network.physical_network = body.physical_network or ""
    if not kind:
        if number is not None or network.physical_network:
            raise wrong("network_type required")
        return
    if kind not in ("vxlan", "vlan", "flat", "local"):
        raise wrong(f"provider:network_type {kind[:20]!r} is not supported")
    network.segment_type, network.segment_id = kind, number
    if kind in ("flat", "local") and number is not None:
        raise wrong(f"segmentation_id prohibited for {kind} provider network")
    if kind in ("vxlan", "local") and network.physical_network:
        raise wrong(f"physical_network prohibited for {kind} provider network")
    if kind in ("flat", "vlan") and not network.physical_network:
        raise wrong(f"physical_network required for {kind} provider network")
    limits = {"vxlan": (1, (1 << 24) - 1), "vlan": (1, 4094)}
    if number is not None and not limits[kind][0] <= number <= limits[kind][1]:
        raise wrong(f"segmentation_id out of range ({limits[kind][0]} through {limits[kind][1]})")


def _check_mtu(mtu: int, largest: int) -> None:
    if not 68 <= mtu <= largest:
        raise invalid(
            f"Invalid input for operation: Requested MTU {mtu} is out of range 68 to {largest}.", code="InvalidInput"
        )


async def update(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """PUT /networks/{id}"""
    network = await seen(service, request, request.path["id"])
    guarded = {name: (attribute, UNSET) for name, (attribute, _) in _GUARDED.items()}
    door.guard(request, "update_network", request.body, guarded, target(network))
    values = door.given(request.body, *_SET)
    if "mtu" in values:
        largest = service.settings.mtu_of(network.segment_type)
        values["mtu"] = values["mtu"] or largest
        _check_mtu(values["mtu"], largest)
    changed = await service.change(store.update_network, network.id, values)
    return {"network": _view(changed, provider=_shows_provider(request))}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /networks/{id}"""
    network = await seen(service, request, request.path["id"])
    request.enforce(target(network))
    await service.change(store.delete_network, network.id)


_ADMIN, _MEMBER = personas.ADMIN_ONLY, personas.ADMIN_OR_PROJECT_MEMBER
_PROVIDER_RULES = {attribute: _ADMIN for attribute, _ in _PROVIDER.values()}
RULES = door.rules(
    {
        "external": "field:networks:router:external=True",
        "create_network": _MEMBER,
        "get_network": f"{personas.ADMIN_OR_PROJECT_READER} or rule:shared or rule:external or rule:context_is_advsvc",
        "update_network": _MEMBER,
        "delete_network": _MEMBER,
        **door.each(["create_network", "update_network"], {"shared": _ADMIN, "router:external": _ADMIN}),
        **door.each(["create_network", "update_network"], {"is_default": _ADMIN, "port_security_enabled": _MEMBER}),
        **door.each(["create_network", "get_network", "update_network"], _PROVIDER_RULES),
    },
    about="networks",
)
_ONE = "/v2.0/networks/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/networks", handler=index, policy="get_network"),
    Route(method="POST", path="/v2.0/networks", handler=create, policy="create_network", body=CreateBody, success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_network"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_network", body=NetworkChange, envelope="network"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_network", success=204),
)
