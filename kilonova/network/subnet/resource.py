"""/v2.0/subnets: make, list, show, change, delete."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.network import addresses, door
from kilonova.network.addresses import wrong
from kilonova.network.core import NetworkService
from kilonova.network.network import store as networks
from kilonova.network.subnet import store
from kilonova.network.subnet.store import Subnet
from kilonova.policy import personas

Name = Annotated[str, Meta(max_length=255)]
MODES = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")


class Pool(msgspec.Struct, forbid_unknown_fields=True):
    """First and last address, both included."""

    start: str
    end: str


class HostRoute(msgspec.Struct, forbid_unknown_fields=True):
    """A route that guests learn."""

    destination: str
    nexthop: str


class SubnetChange(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: what may change."""

    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    gateway_ip: str | UnsetType | None = UNSET
    enable_dhcp: bool | UnsetType = UNSET
    allocation_pools: list[Pool] | UnsetType = UNSET
    dns_nameservers: list[str] | UnsetType | None = UNSET
    host_routes: list[HostRoute] | UnsetType | None = UNSET


class SubnetWanted(SubnetChange, forbid_unknown_fields=True, kw_only=True):
    """POST: a new subnet."""

    project_id: Name = ""
    tenant_id: Name = ""
    network_id: str
    ip_version: int
    cidr: str
    ipv6_ra_mode: str | UnsetType | None = UNSET
    ipv6_address_mode: str | UnsetType | None = UNSET


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """{"subnet": …} or {"subnets": […]}."""

    subnet: SubnetWanted | UnsetType = UNSET
    subnets: list[SubnetWanted] | UnsetType = UNSET


def target(subnet: Subnet) -> dict[str, Any]:
    """The subnet as policy rules look at it."""
    owner = {"network:tenant_id": subnet.network_project_id, "network_id": subnet.network_id}
    return door.target(subnet.project_id, shared=subnet.shared, **owner)


def view(subnet: Subnet) -> dict[str, Any]:
    """The subnet as everybody who may see it does."""
    return {
        **door.standard(subnet),
        "network_id": subnet.network_id,
        "ip_version": subnet.ip_version,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip or None,
        "enable_dhcp": subnet.enable_dhcp,
        "allocation_pools": [{"start": first, "end": last} for first, last in subnet.pools],
        "dns_nameservers": subnet.dns_nameservers,
        "host_routes": [{"destination": to, "nexthop": via} for to, via in subnet.host_routes],
        "ipv6_ra_mode": subnet.ipv6_ra_mode or None,
        "ipv6_address_mode": subnet.ipv6_address_mode or None,
        "subnetpool_id": None,
    }


async def index(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /subnets"""
    wanted = door.wanted_from(request, store.LISTING, "get_subnet")
    rows = await service.db.read(store.list_subnets, wanted)
    return door.answer_list(request, "subnets", [view(row) for row in rows], wanted)


async def seen(service: NetworkService, request: Request[Any], id_: str) -> Subnet:
    """The subnet, when the caller may see it."""
    subnet = await service.db.read(store.find_subnet, id_)
    return door.seen(request, "get_subnet", subnet, target, store.no_subnet(id_))


async def show(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """GET /subnets/{id}"""
    return {"subnet": door.chosen(request, view(await seen(service, request, request.path["id"])))}


async def create(service: NetworkService, request: Request[CreateBody]) -> dict[str, Any]:
    """POST /subnets, one or many"""
    wanted, bulk = door.singles(request.body, "subnet", "subnets")
    rows = [await _new(service, request, one) for one in wanted]
    shown = [view(row) for row in await service.change(store.create_subnets, rows)]
    return {"subnets": shown} if bulk else {"subnet": shown[0]}


async def _new(service: NetworkService, request: Request[Any], body: SubnetWanted) -> Subnet:
    project_id = door.project_of(request, body)
    owner = await service.db.read(store.networks_owner, body.network_id)
    if owner is None:
        request.enforced = True
        raise networks.no_network(body.network_id)
    network = door.target(owner[0], shared=owner[1], **{"router:external": owner[2], "network:tenant_id": owner[0]})
    door.see(request, "get_network", network, networks.no_network(body.network_id))
    request.enforce(door.target(project_id, **{"network:tenant_id": owner[0]}), "create_subnet")
    now = service.draw.now()
    subnet = Subnet(
        id=service.draw.id(), project_id=project_id, created_at=now, updated_at=now, network_id=body.network_id,
        ip_version=body.ip_version, cidr=body.cidr, shared=owner[1], network_project_id=owner[0],
        **door.given(body, "name", "description", "enable_dhcp"),
    )  # fmt: skip
    _fill(service, subnet, body)
    return subnet


def _fill(service: NetworkService, subnet: Subnet, body: SubnetWanted) -> None:
    """Everything about addresses, checked: CIDR, modes, gateway, pools, name servers, routes."""
    if subnet.ip_version not in (4, 6):
        raise wrong(f"'{subnet.ip_version}' is not in [4, 6] for ip_version")
    cidr = addresses.network(subnet.cidr, subnet.ip_version)
    if cidr.prefixlen == 0:
        raise wrong("0 is not allowed as CIDR prefix length")
    if cidr.is_multicast or cidr.is_loopback:
        raise wrong(f"multicast and loopback are not allowed as CIDR: {cidr}")
    subnet.cidr = str(cidr)
    _set_modes(subnet, cidr, body)
    if body.gateway_ip is UNSET:
        subnet.gateway_ip = addresses.default_gateway(cidr)
    else:
        subnet.gateway_ip = _gateway(cidr, body.gateway_ip)
    if body.allocation_pools is UNSET:
        subnet.pools = addresses.default_pools(cidr, subnet.gateway_ip)
    else:
        subnet.pools = addresses.pools(cidr, [(p.start, p.end) for p in body.allocation_pools], subnet.gateway_ip)
    subnet.dns_nameservers = _name_servers(service, subnet.ip_version, body.dns_nameservers or [])
    subnet.host_routes = _routes(service, subnet.ip_version, body.host_routes or [])


def _set_modes(subnet: Subnet, cidr: addresses.Network, body: SubnetWanted) -> None:
    subnet.ipv6_ra_mode, subnet.ipv6_address_mode = body.ipv6_ra_mode or "", body.ipv6_address_mode or ""
    modes = [mode for mode in (subnet.ipv6_ra_mode, subnet.ipv6_address_mode) if mode]
    if not modes:
        return
    if subnet.ip_version == 4:
        raise wrong("ipv6_ra_mode or ipv6_address_mode cannot be set with ip_version 4")
    if any(mode not in MODES for mode in modes):
        raise wrong(f"ipv6 modes must be of {', '.join(MODES)}")
    if len(set(modes)) > 1:
        raise wrong(
            f"ipv6_ra_mode set to '{modes[0]}' with ipv6_address_mode set to '{modes[1]}' is not valid. If both "
            "attributes are set, they must be the same value"
        )
    if not subnet.enable_dhcp:
        raise wrong("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if modes[0] != "dhcpv6-stateful" and cidr.prefixlen != 64:
        raise wrong(f"Invalid CIDR {cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, which "
                    "requires the prefix to be /64")  # fmt: skip


def _gateway(cidr: addresses.Network, text: str | None) -> str:
    if not text:
        return ""
    gateway = addresses.address(text)
    if gateway.version != cidr.version:
        raise wrong(f"gateway_ip '{text}' does not match the ip_version '{cidr.version}'")
    if gateway in cidr and not addresses.is_usable(cidr, gateway):
        raise wrong("Gateway is not valid on subnet")
    return str(gateway)


def _name_servers(service: NetworkService, version: int, asked: list[str]) -> list[str]:
    limit = service.settings.dns_nameservers_per_subnet
    if len(asked) > limit:
        raise invalid(f"Unable to complete operation. The number of DNS nameservers exceeds the limit {limit}.",
                      code="DNSNameServersExhausted")  # fmt: skip
    servers = [str(addresses.address(one)) for one in asked]
    if len(set(servers)) < len(servers):
        raise wrong(f"dns_nameservers {servers} has duplicates")
    return servers


def _routes(service: NetworkService, version: int, asked: list[HostRoute]) -> list[list[str]]:
    limit = service.settings.host_routes_per_subnet
    if len(asked) > limit:
        raise invalid(f"Unable to complete operation. The number of host routes exceeds the limit {limit}.",
                      code="HostRoutesExhausted")  # fmt: skip
    made = []
    for route in asked:
        destination, via = addresses.network(route.destination, version), addresses.address(route.nexthop)
        if via.version != version:
            raise wrong(f"nexthop {via} does not match the ip_version {version}")
        made.append([str(destination), str(via)])
    return made


async def update(service: NetworkService, request: Request[Any]) -> dict[str, Any]:
    """PUT /subnets/{id}"""
    subnet = await seen(service, request, request.path["id"])
    request.enforce(target(subnet))
    body: SubnetChange = request.body
    values = door.given(body, "name", "description", "enable_dhcp")
    if body.gateway_ip is not UNSET:
        values["gateway_ip"] = _gateway(addresses.network(subnet.cidr), body.gateway_ip)
    if body.allocation_pools is not UNSET:
        values["pools"] = [[pool.start, pool.end] for pool in body.allocation_pools]
    if body.dns_nameservers is not UNSET:
        values["dns_nameservers"] = _name_servers(service, subnet.ip_version, body.dns_nameservers or [])
    if body.host_routes is not UNSET:
        values["host_routes"] = _routes(service, subnet.ip_version, body.host_routes or [])
    if values.get("enable_dhcp") is False and subnet.ipv6_ra_mode + subnet.ipv6_address_mode:
        raise wrong("enable_dhcp cannot be switched off while IPv6 modes are set")
    return {"subnet": view(await service.change(store.update_subnet, subnet.id, values))}


async def delete(service: NetworkService, request: Request[Any]) -> None:
    """DELETE /subnets/{id}"""
    subnet = await seen(service, request, request.path["id"])
    request.enforce(target(subnet))
    await service.change(store.delete_subnet, subnet.id)


_CHANGES = f"{personas.ADMIN_OR_PROJECT_MEMBER} or ({personas.ADMIN_OR_NETWORK_OWNER_MEMBER})"
RULES = door.rules(
    {
        "create_subnet": personas.ADMIN_OR_NETWORK_OWNER_MEMBER,
        "get_subnet": f"{personas.ADMIN_OR_PROJECT_READER} or rule:shared",
        "update_subnet": _CHANGES,
        "delete_subnet": _CHANGES,
    },
    about="subnets",
)
_ONE = "/v2.0/subnets/{id}"
ROUTES = (
    Route(method="GET", path="/v2.0/subnets", handler=index, policy="get_subnet"),
    Route(method="POST", path="/v2.0/subnets", handler=create, policy="create_subnet", body=CreateBody, success=201),
    Route(method="GET", path=_ONE, handler=show, policy="get_subnet"),
    Route(method="PUT", path=_ONE, handler=update, policy="update_subnet", body=SubnetChange, envelope="subnet"),
    Route(method="DELETE", path=_ONE, handler=delete, policy="delete_subnet", success=204),
)
