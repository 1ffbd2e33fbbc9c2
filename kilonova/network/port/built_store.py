"""Ports as the hosts that they are bound to must build them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from kilonova.db.statements import read
from kilonova.network import contract, schema

if TYPE_CHECKING:
    from kilonova.network.port.store import Port

BOUND = "bridge"  # the vif_type of a port that its host builds

_networks = schema.networks
_subnets = schema.subnets
_SEGMENT = tuple(
    _networks.c[name] for name in ("id", "segment_type", "segment_id", "physical_network", "mtu", "admin_state_up")
)
_SUBNET = (_subnets.c.id, _subnets.c.cidr, _subnets.c.gateway_ip)


def _segments(connection: Connection, ids: Collection[str]) -> dict[str, tuple[contract.Segment, int, bool]]:
    """Network id → (segment, MTU, admin_state_up)."""
    return {
        id_: (contract.Segment(kind, number or 0, physical_network), mtu, up)
        for id_, kind, number, physical_network, mtu, up in read(connection, _SEGMENT, {"id": list(ids)})
    }


def wanted_ports(connection: Connection, rows: Sequence[Port]) -> list[contract.WantedPort]:
    """Ports, complete, as a host must build them."""
    if not rows:
        return []
    segments = _segments(connection, {row.network_id for row in rows})
    ids = {held.subnet_id for row in rows for held in row.fixed_ips}
    subnets = {id_: facts for id_, *facts in read(connection, _SUBNET, {"id": list(ids)})} if ids else {}
    made = []
    for row in rows:
        segment, mtu, network_up = segments[row.network_id]
        fixed_ips = tuple([contract.FixedIp(h.address, h.subnet_id, *subnets[h.subnet_id]) for h in row.fixed_ips])
        made.append(
            contract.WantedPort(
                id=row.id,
                network_id=row.network_id,
                mac=row.mac,
                segment=segment,
                mtu=mtu,
                fixed_ips=fixed_ips,
                device_id=row.device_id,
                device_owner=row.device_owner,
                admin_state_up=row.admin_state_up and network_up,
                port_security=row.port_security,
                security_groups=tuple(row.security_groups),
                address_pairs=tuple(contract.AddressPair(ip, mac or row.mac) for ip, mac in row.address_pairs),
                revision=row.revision,
            )
        )
    return made


def member(port: Port) -> contract.Member:
    """The port as those know it who filter by its groups. One that is on no host is nobody's member."""
    groups, held = (port.security_groups, port.fixed_ips) if port.host else ((), ())
    return contract.Member(port.id, tuple(groups), tuple([one.address for one in held]), port.revision)
