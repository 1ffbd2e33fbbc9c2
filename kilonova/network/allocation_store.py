"""Addresses given to ports. The subnet's row is locked while one is chosen; the primary key proves that none is double.

A free address is found by index: from where the last search ended, the first position without a follower.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, invalid
from kilonova.db.statements import delete, insert, read, update
from kilonova.network import addresses, schema
from kilonova.network.work import Work

_taken = schema.addresses
_subnets = schema.subnets


class Ask(msgspec.Struct, frozen=True):
    """An address that a port asks for: on a subnet, a certain one, or both."""

    subnet_id: str = ""
    address: str = ""


class Held(msgspec.Struct, frozen=True):
    """An address that a port has."""

    subnet_id: str
    address: str


class Range(msgspec.Struct):
    """What choosing an address needs to know of a subnet."""

    id: str
    network_id: str
    ip_version: int
    cidr: str
    gateway_ip: str
    pools: list[list[str]]
    next_position: int
    enable_dhcp: bool
    ipv6_address_mode: str

    @property
    def gives_itself(self) -> bool:
        """Whether guests make their own address from their MAC (SLAAC)."""
        return self.ipv6_address_mode in ("slaac", "dhcpv6-stateless")


_RANGE = tuple(_subnets.c[name] for name in Range.__struct_fields__)
_OLDEST = (_subnets.c.created_at, _subnets.c.id)


def ranges(connection: Connection, network_id: str, *, lock: bool = False) -> list[Range]:
    """The network's subnets, oldest first; locked in one order, so that two ports never wait for each other."""
    return [Range(*row) for row in read(connection, _RANGE, {"network_id": network_id}, order=_OLDEST, lock=lock)]


class Owner(msgspec.Struct, frozen=True):
    """The port that addresses are chosen for."""

    port_id: str
    network_id: str
    mac: str
    device_owner: str

    @property
    def is_router(self) -> bool:
        """A router's leg gets no address from its MAC."""
        return self.device_owner.startswith("network:router")


def give(work: Work, owner: Owner, asked: Sequence[Ask] | None) -> tuple[list[Held], list[Range]]:
    """Addresses for a port: those asked for, or (None) one per IP version; and what SLAAC subnets add by themselves.
    And all subnets of its network."""
    known = ranges(work.connection, owner.network_id, lock=True)
    held: list[Held] = []
    for place, (subnet, address) in enumerate(_plan(work, owner, known, asked)):
        chosen = address or _next_free(work, subnet)
        if not chosen:
            raise exhausted(owner.network_id, subnet.id if asked else "")
        if address and (asked is not None or subnet.gives_itself):
            _refuse_taken(work, subnet, chosen)  # what was found free just now is free: the subnet is locked
        _write(work, owner, subnet, chosen, place)
        held.append(Held(subnet.id, chosen))
    return held, known


def _plan(work: Work, owner: Owner, known: list[Range], asked: Sequence[Ask] | None) -> list[tuple[Range, str]]:
    """(subnet, address or "" for any) in order; raises when the port may not have what it asks."""
    if asked is None:
        plan = _one_per_version(work, owner, known)
    else:
        plan = [_meant(owner, known, ask) for ask in asked]
        if len(plan) > work.settings.subnet_addresses_per_port:
            raise invalid("Exceeded maximum amount of fixed ips per port.", code="InvalidInput")
    chosen = {subnet.id for subnet, _ in plan}
    if not owner.is_router:
        for subnet in known:
            if subnet.gives_itself and subnet.id not in chosen:
                plan.append((subnet, addresses.eui64(addresses.network(subnet.cidr), owner.mac)))
    return plan


def _one_per_version(work: Work, owner: Owner, known: list[Range]) -> list[tuple[Range, str]]:
    plan = []
    for version in (4, 6):
        mine = [subnet for subnet in known if subnet.ip_version == version and not subnet.gives_itself]
        if not mine:
            continue
        with_room = next(((subnet, free) for subnet in mine if (free := _next_free(work, subnet))), None)
        if with_room is None:
            raise exhausted(owner.network_id)
        plan.append(with_room)
    return plan


def _meant(owner: Owner, known: list[Range], ask: Ask) -> tuple[Range, str]:
    wanted = addresses.address(ask.address) if ask.address else None
    if ask.subnet_id:
        subnet = next((one for one in known if one.id == ask.subnet_id), None)
        if subnet is None:
            raise invalid(
                f"Failed to create port on network {owner.network_id}, because fixed_ips included invalid subnet "
                f"{ask.subnet_id}.",
                code="InvalidInput",
            )
        if wanted is not None and not addresses.is_usable(addresses.network(subnet.cidr), wanted):
            raise invalid(f"IP address {wanted} is not a valid IP for the specified subnet.", code="InvalidIpForSubnet")
    elif wanted is not None:
        subnet = next((one for one in known if addresses.is_usable(addresses.network(one.cidr), wanted)), None)
        if subnet is None:
            raise invalid(
                f"IP address {wanted} is not a valid IP for any of the subnets on the specified network.",
                code="InvalidIpForNetwork",
            )
    else:
        raise invalid("IP allocation requires subnet_id or ip_address.", code="InvalidInput")
    if subnet.gives_itself and not owner.is_router:
        own = addresses.eui64(addresses.network(subnet.cidr), owner.mac)
        if wanted is not None and str(wanted) != own and not owner.device_owner.startswith("network:"):
            raise invalid(
                f"IPv6 address {wanted} can not be directly assigned to a port on subnet {subnet.id} since the subnet "
                f"is configured for automatic addresses",
                code="AllocationOnAutoAddressSubnet",
            )
        return subnet, str(wanted) if wanted is not None else own
    return subnet, str(wanted) if wanted is not None else ""


_HOLDER = (_taken.c.port_id,)


def take(work: Work, owner: Owner, subnet: Range, address: str, place: int) -> None:
    """Write that the port has the address; somebody else having it is CONFLICT."""
    _refuse_taken(work, subnet, address)
    _write(work, owner, subnet, address, place)


def _refuse_taken(work: Work, subnet: Range, address: str) -> None:
    if read(work.connection, _HOLDER, {"subnet_id": subnet.id, "address": address}):
        raise conflict(
            f"IP address {address} already allocated in subnet {subnet.id}", code="IpAddressAlreadyAllocated"
        )


def _write(work: Work, owner: Owner, subnet: Range, address: str, place: int) -> None:
    position = addresses.position(addresses.network(subnet.cidr), addresses.address(address))
    values = {"subnet_id": subnet.id, "address": address, "position": position}
    values |= {"port_id": owner.port_id, "network_id": owner.network_id, "place": place}
    insert(work.connection, _taken, values)


def _next_free(work: Work, subnet: Range) -> str:
    """A free address of the subnet's pools, or "". The next search begins behind it, so that what was just given
    back rests a while."""
    cidr = addresses.network(subnet.cidr)
    spans = addresses.pool_positions(cidr, subnet.pools)
    for low, high in addresses.search_order(spans, subnet.next_position):
        free = _gap(work.connection, subnet.id, low, high)
        if free is not None:
            subnet.next_position = free + 1
            update(work.connection, _subnets, {"id": subnet.id}, {"next_position": free + 1})
            return addresses.at(cidr, free)
    return ""


def _gap(connection: Connection, subnet_id: str, low: int, high: int) -> int | None:
    """The first position in [low, high] that nobody has."""
    if not read(connection, _HOLDER, {"subnet_id": subnet_id, "position": low}):
        return low
    follower = _taken.alias("follower")
    followed = sa.exists().where(follower.c.subnet_id == subnet_id, follower.c.position == _taken.c.position + 1)
    last_of_run = (
        sa.select(_taken.c.position)
        .where(_taken.c.subnet_id == subnet_id, _taken.c.position.between(low, high - 1), ~followed)
        .order_by(_taken.c.position)
        .limit(1)
    )
    found: int | None = connection.scalar(last_of_run)
    return None if found is None else found + 1


def give_back(work: Work, port_id: str, only: Sequence[Held] | None = None) -> None:
    """The port has these addresses (or any) no more."""
    if only is None:
        delete(work.connection, _taken, port_id=port_id)
        return
    for held in only:
        delete(work.connection, _taken, port_id=port_id, subnet_id=held.subnet_id, address=held.address)


_HELD = (_taken.c.port_id, _taken.c.subnet_id, _taken.c.address)
_IN_PLACE = (_taken.c.place, _taken.c.address)


def held_by(connection: Connection, port_ids: Sequence[str]) -> dict[str, list[Held]]:
    """Port id → its addresses, in order."""
    held: dict[str, list[Held]] = {}
    for port_id, subnet_id, address in read(connection, _HELD, {"port_id": list(port_ids)}, order=_IN_PLACE):
        held.setdefault(port_id, []).append(Held(subnet_id, address))
    return held


def exhausted(network_id: str, subnet_id: str = "") -> Fault:
    """No address is left."""
    where = f"subnet {subnet_id}" if subnet_id else f"network {network_id}"
    return conflict(f"No more IP addresses available on {where}.", code="IpAddressGenerationFailure")
