"""Subnets in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, invalid
from kilonova.db.statements import read
from kilonova.network import addresses, rows_store, schema, told_store
from kilonova.network.door import absent
from kilonova.network.port import store as port_store
from kilonova.network.quota import store as quota
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.work import Work

if TYPE_CHECKING:
    from kilonova.network.network.store import Network

_subnets = schema.subnets
_taken = schema.addresses
_networks = schema.networks


class Subnet(Standard, kw_only=True):
    """A subnet as it is stored; `shared` and `network_project_id` are its network's."""

    network_id: str
    ip_version: int
    cidr: str
    gateway_ip: str = ""
    enable_dhcp: bool = True
    ipv6_ra_mode: str = ""
    ipv6_address_mode: str = ""
    pools: list[list[str]] = msgspec.field(default_factory=list)
    dns_nameservers: list[str] = msgspec.field(default_factory=list)
    host_routes: list[list[str]] = msgspec.field(default_factory=list)
    next_position: int = 0
    shared: bool = False
    network_project_id: str = ""

    @property
    def gives_itself(self) -> bool:
        """Whether guests make their own address from their MAC (SLAAC)."""
        return self.ipv6_address_mode in ("slaac", "dhcpv6-stateless")


def no_subnet(id_: str) -> Fault:
    """There is no such subnet for this caller."""
    return absent("Subnet", id_)


def _on(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return _subnets.c.network_id.in_(sa.select(_networks.c.id).where(condition))


def _visible(project_id: str) -> sa.ColumnElement[bool]:
    return sa.or_(_subnets.c.project_id == project_id, _on(_networks.c.shared.is_(True)))


def _shared(values: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.or_(*(_on(_networks.c.shared.is_(rows_store.truth("shared", value))) for value in values))


def _external(values: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.or_(*(_on(_networks.c.external.is_(rows_store.truth("router:external", value))) for value in values))


_PLAIN = ("id", "name", "project_id", "description", "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp",
          "ipv6_ra_mode", "ipv6_address_mode", "created_at", "updated_at")  # fmt: skip
LISTING = Listing(
    _subnets,
    Subnet,
    {**{name: _subnets.c[name] for name in _PLAIN}, "revision_number": _subnets.c.revision},
    _visible,
    {"shared": _shared, "router:external": _external},
)


def list_subnets(connection: Connection, wanted: Wanted) -> list[Subnet]:
    """Subnets, each with what it takes from its network."""
    return _of_networks(connection, rows_store.listed(connection, LISTING, wanted))


def find_subnet(connection: Connection, id_: str) -> Subnet | None:
    """One subnet with its tags."""
    row = rows_store.find(connection, _subnets, Subnet, id_)
    return None if row is None else rows_store.tagged(connection, _of_networks(connection, [row]))[0]


_NETWORKS = (_networks.c.id, _networks.c.shared, _networks.c.project_id)


def _of_networks(connection: Connection, rows: list[Subnet]) -> list[Subnet]:
    ids = {row.network_id for row in rows}
    if ids:
        known = {id_: (shared, project) for id_, shared, project in read(connection, _NETWORKS, {"id": list(ids)})}
        for row in rows:
            row.shared, row.network_project_id = known[row.network_id]
    return rows


def of_networks(connection: Connection, networks: Mapping[str, Network]) -> list[Subnet]:
    """The networks' subnets, oldest first and without tags; each network, by id, gets the ids of its own."""
    where = {"network_id": list(networks)}
    found = rows_store.read_rows(connection, _subnets, Subnet, where, order=(_subnets.c.created_at, _subnets.c.id))
    for network in networks.values():
        network.subnets = [one.id for one in found if one.network_id == network.id]
    for one in found:
        one.shared, one.network_project_id = networks[one.network_id].shared, networks[one.network_id].project_id
    return found


def create_subnets(work: Work, wanted: list[Subnet]) -> list[Subnet]:
    """Insert them all or none; none may overlap another of its network. DHCP starts when it is the first to ask."""
    for project_id in sorted({subnet.project_id for subnet in wanted}):
        quota.take(work, project_id, "subnet", sum(1 for subnet in wanted if subnet.project_id == project_id))
    for subnet in wanted:
        _lock_network(work, subnet.network_id)
        _check_overlap(work, subnet)
        rows_store.insert(work, _subnets, subnet)
        port_store.serve_dhcp(work, subnet.network_id)
        if subnet.gives_itself:
            port_store.add_own_addresses(work, subnet.id)
    return _of_networks(work.connection, wanted)


def _lock_network(work: Work, network_id: str) -> None:
    """Two that add a subnet to one network come one after the other."""
    found = sa.select(_networks.c.id).where(_networks.c.id == network_id).with_for_update()
    if work.connection.execute(found).first() is None:
        raise absent("Network", network_id)


def _check_overlap(work: Work, subnet: Subnet) -> None:
    cidr = addresses.network(subnet.cidr)
    others = sa.select(_subnets.c.id, _subnets.c.cidr).where(
        _subnets.c.network_id == subnet.network_id, _subnets.c.ip_version == subnet.ip_version
    )
    for other_id, other in work.connection.execute(others):
        if cidr.overlaps(addresses.network(other)):
            raise invalid(
                f"Invalid input for operation: Requested subnet with cidr: {cidr} for network: {subnet.network_id} "
                f"overlaps with another subnet.",
                inside=f"subnet {other_id} has {other}",
                code="InvalidInput",
            )


def update_subnet(work: Work, id_: str, values: dict[str, Any]) -> Subnet:
    """Write the values; DHCP and routers of its network hear of it."""
    row = rows_store.need(work.connection, _subnets, Subnet, id_, no_subnet, lock=True)
    if "gateway_ip" in values and values["gateway_ip"] != row.gateway_ip:
        _check_gateway_free(work, row)
    if "gateway_ip" in values or "pools" in values:
        cidr, gateway = addresses.network(row.cidr), values.get("gateway_ip", row.gateway_ip)
        values["pools"] = addresses.pools(cidr, [(a, b) for a, b in values.get("pools", row.pools)], gateway)
    if values:
        rows_store.change(work, _subnets, row, values)
    port_store.serve_dhcp(work, row.network_id)
    told_store.tell_dhcp(work, row.network_id)
    told_store.tell_routers(work, row.network_id)
    return rows_store.tagged(work.connection, _of_networks(work.connection, [row]))[0]


def _check_gateway_free(work: Work, row: Subnet) -> None:
    ports = schema.ports
    using = (
        sa.select(ports.c.id)
        .join(_taken, _taken.c.port_id == ports.c.id)
        .where(
            _taken.c.subnet_id == row.id,
            _taken.c.address == row.gateway_ip,
            ports.c.device_owner == "network:router_interface",
        )
    )
    if row.gateway_ip and (port_id := work.connection.scalar(using)) is not None:
        raise conflict(
            f"Current gateway ip {row.gateway_ip} already in use by port {port_id}. Unable to update.",
            code="GatewayIpInUse",
        )


def delete_subnet(work: Work, id_: str) -> None:
    """Delete it; addresses that ports still have keep it alive (409). DHCP's and self-made ones do not count."""
    row = rows_store.need(work.connection, _subnets, Subnet, id_, no_subnet, lock=True)
    ports = schema.ports
    used = (
        sa.select(ports.c.id)
        .join(_taken, _taken.c.port_id == ports.c.id)
        .where(_taken.c.subnet_id == id_, ports.c.device_owner != "network:dhcp")
    )
    if row.gives_itself:
        used = used.where(ports.c.device_owner.like("network:router%"))
    if work.connection.scalar(used.limit(1)) is not None:
        raise conflict(
            f"Unable to complete operation on subnet {id_}: One or more ports have an IP allocation from this subnet.",
            code="SubnetInUse",
        )
    told_store.tell_dhcp(work, row.network_id)
    if row.gives_itself:
        told_store.tell_network(work, row.network_id)
    work.connection.execute(_taken.delete().where(_taken.c.subnet_id == id_))
    rows_store.remove(work, _subnets, id_)
    port_store.serve_dhcp(work, row.network_id)


def networks_owner(connection: Connection, network_id: str) -> tuple[str, bool, bool] | None:
    """(project id, shared, external) of a network."""
    found = sa.select(_networks.c.project_id, _networks.c.shared, _networks.c.external).where(
        _networks.c.id == network_id
    )
    row = connection.execute(found).first()
    return None if row is None else (row[0], row[1], row[2])
