"""Floating IPs in the database."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict, invalid, not_found
from kilonova.network import rows_store, schema, told_store
from kilonova.network.allocation_store import Ask, Held
from kilonova.network.door import absent
from kilonova.network.port import binding_store
from kilonova.network.port import store as ports
from kilonova.network.port.store import Port
from kilonova.network.quota import store as quota
from kilonova.network.router.store import INTERFACE
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.work import Work

_floating = schema.floating_ips
_ports = schema.ports
_routers = schema.routers
_taken = schema.addresses


class FloatingIp(Standard, kw_only=True):
    """A floating IP as it is stored; `port` are facts of the port that it stands for."""

    network_id: str
    own_port_id: str = ""
    address: str = ""
    port_id: str | None = None
    fixed_ip: str | None = None
    router_id: str = ""
    status: str = "DOWN"
    port: Port | None = None


class Association(msgspec.Struct, frozen=True):
    """What a floating IP shall stand for; no port: nothing. `project_id`: whose ports may be chosen (None: any)."""

    port_id: str = ""
    fixed_ip: str = ""
    project_id: str | None = None


def no_floating_ip(id_: str) -> Fault:
    """There is no such floating IP for this caller."""
    return absent("Floating IP", id_)


_PLAIN = ("id", "project_id", "description", "status", "port_id", "router_id", "created_at", "updated_at")
LISTING = Listing(
    _floating,
    FloatingIp,
    {
        **{name: _floating.c[name] for name in _PLAIN},
        "floating_network_id": _floating.c.network_id,
        "floating_ip_address": _floating.c.address,
        "fixed_ip_address": _floating.c.fixed_ip,
        "revision_number": _floating.c.revision,
    },
    lambda project_id: _floating.c.project_id == project_id,
)


def list_floating_ips(connection: Connection, wanted: Wanted) -> list[FloatingIp]:
    """Floating IPs with facts of their ports, in one more query for all."""
    return _with_ports(connection, rows_store.listed(connection, LISTING, wanted))


def find_floating_ip(connection: Connection, id_: str) -> FloatingIp | None:
    """One floating IP."""
    row = rows_store.find(connection, _floating, FloatingIp, id_)
    return None if row is None else rows_store.tagged(connection, _with_ports(connection, [row]))[0]


def _with_ports(connection: Connection, rows: list[FloatingIp]) -> list[FloatingIp]:
    ids = {row.port_id for row in rows if row.port_id}
    known = {port.id: port for port in ports.ports_where(connection, _ports.c.id.in_(ids))} if ids else {}
    for row in rows:
        row.port = known.get(row.port_id or "")
    return rows


def create_floating_ip(work: Work, row: FloatingIp, asked: Ask, association: Association) -> FloatingIp:
    """Take an address of the external network, and stand for a port when asked to."""
    quota.take(work, row.project_id, "floatingip")
    external = work.connection.scalar(
        sa.select(schema.networks.c.external).where(schema.networks.c.id == row.network_id)
    )
    if external is None:
        raise absent("Network", row.network_id)
    if not external:
        raise invalid(f"Network {row.network_id} is not a valid external network", code="BadRequest")
    port = Port(
        id=work.draw.id(), project_id="", created_at=row.created_at, updated_at=row.updated_at,
        network_id=row.network_id, device_id=row.id, device_owner="network:floatingip", port_security=False,
        status="N/A",
    )  # fmt: skip
    ports.add_port(work, port, [asked] if asked != Ask() else None, [])
    held = next((one for one in port.fixed_ips if ":" not in one.address), None)
    if held is None:
        raise invalid(f"Network {row.network_id} does not contain any IPv4 subnet", code="BadRequest")
    row.own_port_id, row.address = port.id, held.address
    rows_store.insert(work, _floating, row)
    if association.port_id:
        associate(work, row, association)
    return _with_ports(work.connection, [row])[0]


def update_floating_ip(work: Work, id_: str, values: dict[str, str], association: Association | None) -> FloatingIp:
    """Write the values; stand for another port, or for none."""
    row = rows_store.need(work.connection, _floating, FloatingIp, id_, no_floating_ip, lock=True)
    if values:
        rows_store.change(work, _floating, row, values)
    if association is not None:
        _leave(work, row)
        if association.port_id:
            associate(work, row, association)
    return rows_store.tagged(work.connection, _with_ports(work.connection, [row]))[0]


def _leave(work: Work, row: FloatingIp) -> None:
    if row.router_id:
        told_store.tell_router(work, row.router_id)
    if row.port_id:
        port_id = row.port_id
        rows_store.change(work, _floating, row, {"port_id": None, "fixed_ip": None, "router_id": "", "status": "DOWN"})
        binding_store.floating_changed(work, port_id)


def associate(work: Work, row: FloatingIp, wanted: Association) -> None:
    """The floating IP stands for an address of the port, by a router that joins both networks."""
    port = ports.find_port(work.connection, wanted.port_id)
    if port is None or wanted.project_id not in (None, port.project_id):
        raise ports.no_port(wanted.port_id)
    held = _inside(port, wanted.fixed_ip)
    other = sa.select(_floating.c.id).where(
        _floating.c.port_id == port.id, _floating.c.fixed_ip == held.address, _floating.c.id != row.id
    )
    if (taken := work.connection.scalar(other)) is not None:
        raise conflict(
            f"Cannot associate floating IP {row.address} ({row.id}) with port {port.id} using fixed IP {held.address}, "
            f"as that fixed IP already has a floating IP on external network {row.network_id}.",
            inside=f"floating IP {taken}",
            code="FloatingIPPortAlreadyAssociated",
        )
    router_id, host = _router_between(work, port, held, row.network_id)
    values = {"port_id": port.id, "fixed_ip": held.address, "router_id": router_id}
    rows_store.change(work, _floating, row, {**values, "status": "ACTIVE" if host else "DOWN"})
    told_store.tell_router(work, router_id)
    binding_store.floating_changed(work, port.id)


def _inside(port: Port, fixed_ip: str) -> Held:
    version_4 = [held for held in port.fixed_ips if ":" not in held.address]
    if fixed_ip:
        held = next((one for one in version_4 if one.address == fixed_ip), None)
        if held is None:
            raise invalid(f"Port {port.id} does not have fixed ip {fixed_ip}", code="BadRequest")
        return held
    if not version_4:
        raise invalid(f"Cannot add floating IP to port {port.id} that has no fixed IPv4 addresses", code="BadRequest")
    if len(version_4) > 1:
        raise invalid(
            f"Port {port.id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a "
            f"floating IP",
            code="BadRequest",
        )
    return version_4[0]


def _router_between(work: Work, port: Port, held: Held, external_id: str) -> tuple[str, str]:
    """(router id, host) of the router with a leg in the address's subnet and its gateway in the external network; the
    one that is the subnet's gateway before others."""
    subnets = schema.subnets
    found = (
        sa.select(_routers.c.id, _routers.c.host)
        .join(_ports, sa.and_(_ports.c.device_id == _routers.c.id, _ports.c.device_owner == INTERFACE))
        .join(_taken, _taken.c.port_id == _ports.c.id)
        .join(subnets, subnets.c.id == _taken.c.subnet_id)
        .where(_taken.c.subnet_id == held.subnet_id, _routers.c.gateway_network_id == external_id)
        .order_by(sa.case((_taken.c.address == subnets.c.gateway_ip, 0), else_=1), _routers.c.id)
    )
    row = work.connection.execute(found.limit(1)).first()
    if row is None:
        raise not_found(
            f"External network {external_id} is not reachable from subnet {held.subnet_id}. Therefore, cannot "
            f"associate Port {port.id} with a Floating IP: a router between them",
            "",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    return row[0], row[1]


def delete_floating_ip(work: Work, id_: str) -> None:
    """Give the address back."""
    row = rows_store.need(work.connection, _floating, FloatingIp, id_, no_floating_ip, lock=True)
    _leave(work, row)
    rows_store.remove(work, _floating, id_)
    ports.delete_port(work, row.own_port_id, even_protected=True)
