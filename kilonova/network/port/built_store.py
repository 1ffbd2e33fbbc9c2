"""Ports as the hosts that they are bound to must build them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection

from kilonova.db.statements import read
from kilonova.network import contract, schema

if TYPE_CHECKING:
    from kilonova.network.port.store import Port

BOUND = "bridge"  # the vif_type of a port that its host builds

_networks = schema.networks
_subnets = schema.subnets
SEGMENT = tuple(
    _networks.c[name] for name in ("id", "segment_type", "segment_id", "physical_network", "mtu", "admin_state_up")
)
_SUBNET = (_subnets.c.id, _subnets.c.cidr, _subnets.c.gateway_ip)


Subnets = Mapping[str, tuple[str, str]]  # id → (CIDR, gateway)


class Carried(NamedTuple):
    """How a network's frames travel."""

    segment: contract.Segment
    mtu: int
    admin_state_up: bool

    @classmethod
    def of(cls, kind: Any, number: int | None, physical_network: str, mtu: int, up: bool) -> Carried:
        """As the columns after the id in SEGMENT say."""
        return cls(contract.Segment(kind, number or 0, physical_network), mtu, up)


def wanted_ports(connection: Connection, rows: Sequence[Port]) -> list[contract.WantedPort]:
    """Ports, complete, as a host must build them."""
    if not rows:
        return []
    ids = {row.network_id for row in rows}
    networks = {id_: Carried.of(*facts) for id_, *facts in read(connection, SEGMENT, {"id": list(ids)})}
    ids = {held.subnet_id for row in rows for held in row.fixed_ips}
    found = read(connection, _SUBNET, {"id": list(ids)}) if ids else ()
    subnets = {id_: (cidr, gateway) for id_, cidr, gateway in found}
    return [wanted_port(row, networks[row.network_id], subnets) for row in rows]


def wanted_port(row: Port, network: Carried, subnets: Subnets) -> contract.WantedPort:
    """One port, complete, as its host must build it."""
    return contract.WantedPort(
        id=row.id,
        network_id=row.network_id,
        mac=row.mac,
        segment=network.segment,
        mtu=network.mtu,
        fixed_ips=tuple([contract.FixedIp(h.address, h.subnet_id, *subnets[h.subnet_id]) for h in row.fixed_ips]),
        device_id=row.device_id,
        device_owner=row.device_owner,
        admin_state_up=row.admin_state_up and network.admin_state_up,
        port_security=row.port_security,
        security_groups=tuple(row.security_groups),
        address_pairs=tuple([contract.AddressPair(ip, mac or row.mac) for ip, mac in row.address_pairs]),
        revision=row.revision,
    )


def member(port: Port) -> contract.Member:
    """The port as those know it who filter by its groups. One that is on no host is nobody's member."""
    groups, held = (port.security_groups, port.fixed_ips) if port.host else ((), ())
    return contract.Member(port.id, tuple(groups), tuple([one.address for one in held]), port.revision)
