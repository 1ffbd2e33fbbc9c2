"""Routers in the database: their gateway, their legs, and the host that runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, invalid, not_found
from kilonova.network import addresses, allocation_store, contract, rows_store, schema, told_store
from kilonova.network.agent import store as agents
from kilonova.network.allocation_store import Ask
from kilonova.network.door import absent
from kilonova.network.port import store as ports
from kilonova.network.port.store import Port
from kilonova.network.quota import store as quota
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.work import Work

_routers = schema.routers
_ports = schema.ports
_subnets = schema.subnets
_floating = schema.floating_ips
Amend = Callable[..., "Router"]
GATEWAY, INTERFACE = "network:router_gateway", "network:router_interface"


class Gateway(msgspec.Struct, frozen=True):
    """The way outside that a router shall have."""

    network_id: str
    snat: bool
    asked: tuple[Ask, ...] | None = None


class Leg(msgspec.Struct, frozen=True):
    """A router's port in a subnet."""

    router_id: str
    project_id: str
    port_id: str
    network_id: str
    subnet_ids: tuple[str, ...]


class Router(Standard, kw_only=True):
    """A router as it is stored; `gateway_ips` are (subnet id, address) of its gateway port."""

    admin_state_up: bool = True
    host: str = ""
    gateway_network_id: str = ""
    gateway_port_id: str = ""
    snat: bool = True
    routes: list[list[str]] = msgspec.field(default_factory=list)
    gateway_ips: list[allocation_store.Held] = msgspec.field(default_factory=list)


def no_router(id_: str) -> Fault:
    """There is no such router for this caller."""
    return absent("Router", id_)


_PLAIN = ("id", "name", "project_id", "description", "admin_state_up", "created_at", "updated_at")
LISTING = Listing(
    _routers,
    Router,
    {**{name: _routers.c[name] for name in _PLAIN}, "revision_number": _routers.c.revision},
    lambda project_id: _routers.c.project_id == project_id,
    {"status": lambda values: sa.true() if "ACTIVE" in values else sa.false()},
)


def list_routers(connection: Connection, wanted: Wanted) -> list[Router]:
    """Routers with the addresses of their gateways."""
    return _complete(connection, rows_store.listed(connection, LISTING, wanted))


def find_router(connection: Connection, id_: str) -> Router | None:
    """One router."""
    row = rows_store.find(connection, _routers, Router, id_)
    return None if row is None else rows_store.tagged(connection, _complete(connection, [row]))[0]


def _complete(connection: Connection, rows: list[Router]) -> list[Router]:
    ids = [row.gateway_port_id for row in rows if row.gateway_port_id]
    held = allocation_store.held_by(connection, ids) if ids else {}
    for row in rows:
        row.gateway_ips = held.get(row.gateway_port_id, [])
    return rows


def create_router(work: Work, router: Router, gateway: Gateway | None) -> Router:
    """Insert it, with its gateway when it shall have one."""
    quota.take(work, router.project_id, "router")
    rows_store.insert(work, _routers, router)
    if gateway is not None:
        _set_gateway(work, router, gateway)
    return _complete(work.connection, [router])[0]


def _lock(work: Work, id_: str) -> Router:
    return rows_store.need(work.connection, _routers, Router, id_, no_router, lock=True)


def update_router(
    work: Work, id_: str, values: dict[str, Any], gateway: Gateway | None, *, clear: bool = False
) -> Router:
    """Write the values; `gateway` is set, or with `clear` taken away."""
    router = _lock(work, id_)
    if "routes" in values:
        _check_routes(work, router, values["routes"])
    if values:
        rows_store.change(work, _routers, router, values)
    if gateway is not None:
        _set_gateway(work, router, gateway)
    elif clear:
        _clear_gateway(work, router)
    told_store.tell_router(work, id_)
    return rows_store.tagged(work.connection, _complete(work.connection, [router]))[0]


def add_routes(work: Work, id_: str, routes: list[list[str]], limit: int) -> Router:
    """The router with these routes too, as one change however many ask at once."""
    known = [list(route) for route in _lock(work, id_).routes]
    whole = known + [route for route in routes if route not in known]
    if len(whole) > limit:
        raise too_many_routes(limit)
    return update_router(work, id_, {"routes": whole}, None)


def remove_routes(work: Work, id_: str, routes: list[list[str]], _limit: int) -> Router:
    """The router without them."""
    left = [list(route) for route in _lock(work, id_).routes if list(route) not in routes]
    return update_router(work, id_, {"routes": left}, None)


def too_many_routes(limit: int) -> Fault:
    """More than a router holds."""
    return invalid(
        f"Unable to complete operation. The number of routes exceeds the maximum {limit}.", code="RoutesExhausted"
    )


def _check_routes(work: Work, router: Router, routes: Sequence[Sequence[str]]) -> None:
    """Every next hop is on a subnet that the router touches, and is not the router itself."""
    legs = ports.ports_where(
        work.connection, _ports.c.device_id == router.id, _ports.c.device_owner.like("network:router%")
    )
    own = {held.address for leg in legs for held in leg.fixed_ips}
    ids = {held.subnet_id for leg in legs for held in leg.fixed_ips}
    cidrs = [
        addresses.network(c) for c in work.connection.scalars(sa.select(_subnets.c.cidr).where(_subnets.c.id.in_(ids)))
    ]
    for _, via in routes:
        hop = addresses.address(via)
        if not any(hop in cidr for cidr in cidrs):
            raise bad_routes(routes, "the nexthop is not connected with router")
        if str(hop) in own:
            raise bad_routes(routes, "the nexthop is used by router")


def bad_routes(routes: Sequence[Sequence[str]], why: str) -> Fault:
    """The routes make no sense here."""
    return invalid(f"Invalid format for routes: {[list(route) for route in routes]}, {why}", code="InvalidRoutes")


def _set_gateway(work: Work, router: Router, gateway: Gateway) -> None:
    external = work.connection.scalar(
        sa.select(schema.networks.c.external).where(schema.networks.c.id == gateway.network_id)
    )
    if external is None:
        raise absent("Network", gateway.network_id)
    if not external:
        raise invalid(f"Network {gateway.network_id} is not an external network", code="BadRequest")
    same = router.gateway_network_id == gateway.network_id
    if same and gateway.asked is None:
        rows_store.change(work, _routers, router, {"snat": gateway.snat})
        return
    if same:
        ports.update_port(work, router.gateway_port_id, {}, list(gateway.asked or ()), None)
        rows_store.change(work, _routers, router, {"snat": gateway.snat})
        return
    if router.gateway_port_id:
        _clear_gateway(work, router)
    _schedule(work, router)
    port = _leg_port(work, router, gateway.network_id, GATEWAY)
    port.project_id = ""  # the cloud's, not the tenant's: it holds an address of the outside
    ports.add_port(work, port, None if gateway.asked is None else list(gateway.asked), [])
    if not port.fixed_ips:
        raise invalid(f"No IP addresses available for network {gateway.network_id}", code="BadRequest")
    values = {"gateway_network_id": gateway.network_id, "gateway_port_id": port.id, "snat": gateway.snat}
    rows_store.change(work, _routers, router, values)
    told_store.tell_router(work, router.id)


def _clear_gateway(work: Work, router: Router) -> None:
    if not router.gateway_port_id:
        return
    using = sa.select(_floating.c.id).where(_floating.c.router_id == router.id)
    if work.connection.scalar(using.limit(1)) is not None:
        raise conflict(
            f"Gateway cannot be updated for router {router.id}, since a gateway to external network "
            f"{router.gateway_network_id} is required by one or more floating IPs.",
            code="RouterExternalGatewayInUseByFloatingIp",
        )
    ports.delete_port(work, router.gateway_port_id, even_protected=True)
    rows_store.change(work, _routers, router, {"gateway_network_id": "", "gateway_port_id": ""})


def _leg_port(work: Work, router: Router, network_id: str, owner: str) -> Port:
    now = work.draw.now()
    return Port(
        id=work.draw.id(), project_id=router.project_id, created_at=now, updated_at=now, network_id=network_id,
        device_id=router.id, device_owner=owner, host=router.host, port_security=False,
    )  # fmt: skip


def _schedule(work: Work, router: Router) -> bool:
    """Give a router without a host the living L3 agent with the fewest; whether one was found."""
    if router.host:
        return False
    router.host = agents.least_used(work, agents.L3)
    if not router.host:
        return False
    work.connection.execute(_routers.update().where(_routers.c.id == router.id).values(host=router.host))
    return True


def schedule_waiting(work: Work) -> int:
    """Routers with legs and no host get one, their legs with them; returns how many."""
    waiting = sa.select(_routers).where(_routers.c.host == "")
    used = _routers.c.id.in_(sa.select(_ports.c.device_id).where(_ports.c.device_owner.like("network:router%")))
    done = 0
    for router in rows_store.made(Router, work.connection.execute(waiting.where(used))):
        if not _schedule(work, router):
            break
        legs = sa.select(_ports.c.id).where(_ports.c.device_id == router.id)
        for port_id in work.connection.scalars(legs.where(_ports.c.device_owner.like("network:router%"))).all():
            ports.update_port(work, port_id, {"host": router.host}, None, None)
        told_store.tell_router(work, router.id)
        done += 1
    return done


def add_interface_by_subnet(work: Work, router_id: str, subnet_id: str) -> Leg:
    """The router gets the subnet's gateway address there, on a port of its own."""
    router = _lock(work, router_id)
    subnet = work.connection.execute(
        sa.select(_subnets.c.network_id, _subnets.c.gateway_ip, _subnets.c.cidr).where(_subnets.c.id == subnet_id)
    ).first()
    if subnet is None:
        raise absent("Subnet", subnet_id)
    if not subnet.gateway_ip:
        raise invalid("Subnet for router interface must have a gateway IP", code="BadRequest")
    _check_free_of(work, router, [(subnet_id, subnet.cidr)])
    quota.take(work, router.project_id, "port")
    _schedule(work, router)
    port = _leg_port(work, router, subnet.network_id, INTERFACE)
    holder = sa.select(schema.addresses.c.port_id).where(
        schema.addresses.c.subnet_id == subnet_id, schema.addresses.c.address == subnet.gateway_ip
    )
    if work.connection.scalar(holder) is not None:
        raise conflict(f"IP address {subnet.gateway_ip} already allocated in subnet {subnet_id}",
                       code="IpAddressAlreadyAllocated")  # fmt: skip
    ports.add_port(work, port, [Ask(subnet_id, subnet.gateway_ip)], [])
    told_store.tell_router(work, router_id)
    return Leg(router_id, router.project_id, port.id, subnet.network_id, (subnet_id,))


def add_interface_by_port(work: Work, router_id: str, port_id: str) -> Leg:
    """An existing port becomes the router's."""
    router = _lock(work, router_id)
    port = ports.find_port(work.connection, port_id)
    if port is None:
        raise ports.no_port(port_id)
    if port.device_id:
        raise conflict(
            f"Unable to complete operation on port {port_id} for network {port.network_id}. Port already has an "
            f"attached device {port.device_id}.",
            code="PortInUse",
        )
    if not port.fixed_ips:
        raise invalid("Router port must have at least one fixed IP", code="BadRequest")
    ids = [held.subnet_id for held in port.fixed_ips]
    found = sa.select(_subnets.c.id, _subnets.c.cidr).where(_subnets.c.id.in_(ids))
    _check_free_of(work, router, [(row.id, row.cidr) for row in work.connection.execute(found)])
    _schedule(work, router)
    values = {"device_id": router_id, "device_owner": INTERFACE, "host": router.host, "port_security": False}
    ports.update_port(work, port_id, values, None, [])
    told_store.tell_router(work, router_id)
    return Leg(router_id, router.project_id, port_id, port.network_id, tuple(ids))


def _check_free_of(work: Work, router: Router, wanted: Sequence[tuple[str, str]]) -> None:
    """The router has no leg in these subnets, nor in one whose addresses overlap."""
    legs = _legs(work.connection, router.id)
    ids = {held.subnet_id for leg in legs for held in leg.fixed_ips}
    here = list(work.connection.execute(sa.select(_subnets.c.id, _subnets.c.cidr).where(_subnets.c.id.in_(ids))))
    for subnet_id, cidr in wanted:
        for other_id, other in here:
            if subnet_id == other_id:
                raise invalid(f"Router already has a port on subnet {subnet_id}", code="BadRequest")
            if addresses.network(cidr).overlaps(addresses.network(other)):
                raise invalid(f"Cidr {cidr} of subnet {subnet_id} overlaps with cidr {other} of subnet {other_id}.",
                              code="BadRequest")  # fmt: skip


def _legs(connection: Connection, router_id: str) -> list[Port]:
    return ports.ports_where(connection, _ports.c.device_id == router_id, _ports.c.device_owner == INTERFACE)


def remove_interface(work: Work, router_id: str, *, port_id: str = "", subnet_id: str = "") -> Leg:
    """Take a leg away by its port or its subnet; floating IPs and routes that need it forbid (409)."""
    router = _lock(work, router_id)
    legs = _legs(work.connection, router_id)
    leg = next(
        (
            one
            for one in legs
            if (not port_id or one.id == port_id)
            and (not subnet_id or any(held.subnet_id == subnet_id for held in one.fixed_ips))
        ),
        None,
    )
    if leg is None:
        if port_id:
            raise not_found(
                f"Router {router_id} does not have an interface with id", port_id, code="RouterInterfaceNotFound"
            )
        raise not_found(
            f"Router {router_id} has no interface on subnet", subnet_id, code="RouterInterfaceNotFoundForSubnet"
        )
    subnet_ids = tuple(held.subnet_id for held in leg.fixed_ips)
    _check_removable(work, router, subnet_ids)
    ports.delete_port(work, leg.id, even_protected=True)
    told_store.tell_router(work, router_id)
    return Leg(router_id, router.project_id, leg.id, leg.network_id, subnet_ids)


def _check_removable(work: Work, router: Router, subnet_ids: Sequence[str]) -> None:
    taken = schema.addresses
    needing = (
        sa.select(_floating.c.id)
        .join(taken, sa.and_(taken.c.port_id == _floating.c.port_id, taken.c.address == _floating.c.fixed_ip))
        .where(_floating.c.router_id == router.id, taken.c.subnet_id.in_(subnet_ids))
    )
    if work.connection.scalar(needing.limit(1)) is not None:
        raise conflict(
            f"Router interface for subnet {subnet_ids[0]} on router {router.id} cannot be deleted, as it is "
            f"required by one or more floating IPs.",
            code="RouterInterfaceInUseByFloatingIP",
        )
    found = sa.select(_subnets.c.cidr).where(_subnets.c.id.in_(subnet_ids))
    for cidr in map(addresses.network, work.connection.scalars(found)):
        if any(addresses.address(via) in cidr for _, via in router.routes):
            raise conflict(
                f"Router interface for subnet {subnet_ids[0]} on router {router.id} cannot be deleted, as it is "
                f"required by one or more routes.",
                code="RouterInterfaceInUseByRoute",
            )


def delete_router(work: Work, id_: str) -> None:
    """Delete it with its gateway; legs keep it alive (409)."""
    router = _lock(work, id_)
    if _legs(work.connection, id_):
        raise conflict(f"Router {id_} still has ports", code="RouterInUse")
    told_store.tell_router(work, id_)
    _clear_gateway(work, router)
    rows_store.remove(work, _routers, id_)


def floating_of(connection: Connection, router_ids: Collection[str]) -> dict[str, list[contract.FloatingIp]]:
    """Router id → the floating IPs that it translates."""
    found = sa.select(_floating.c.router_id, _floating.c.id, _floating.c.address, _floating.c.fixed_ip).where(
        _floating.c.router_id.in_(router_ids), _floating.c.fixed_ip.is_not(None)
    )
    made: dict[str, list[contract.FloatingIp]] = {}
    for router_id, id_, address, fixed_ip in connection.execute(found.order_by(_floating.c.id)):
        made.setdefault(router_id, []).append(contract.FloatingIp(id_, address, fixed_ip))
    return made
