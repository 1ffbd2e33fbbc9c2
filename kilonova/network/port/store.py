"""Ports in the database: made, changed and deleted with their addresses, groups and binding in one unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, conflict
from kilonova.db.database import lone
from kilonova.db.statements import Statement, delete, read
from kilonova.network import addresses, allocation_store, rows_store, schema
from kilonova.network.agent import store as agents
from kilonova.network.allocation_store import Ask, Held, Owner
from kilonova.network.door import absent
from kilonova.network.outbox import store as outbox
from kilonova.network.port import binding_store
from kilonova.network.quota import store as quota
from kilonova.network.rows_store import Listing, Standard, Wanted
from kilonova.network.security_group import store as security_groups
from kilonova.network.work import Work

_ports = schema.ports
_taken = schema.addresses
_networks = schema.networks
_COMPUTES = {"host", "device_id", "device_owner", "profile"}  # compute writes these itself: no news to it


class Port(Standard, kw_only=True):
    """A port as it is stored, with its addresses and groups."""

    network_id: str
    mac: str = ""
    admin_state_up: bool = True
    status: str = "DOWN"
    device_id: str = ""
    device_owner: str = ""
    host: str = ""
    vnic_type: str = "normal"
    vif_type: str = "unbound"
    profile: dict[str, Any] = msgspec.field(default_factory=dict)
    bound_at: datetime | None = None
    port_security: bool = True
    address_pairs: list[list[str]] = msgspec.field(default_factory=list)
    dhcp_options: list[list[Any]] = msgspec.field(default_factory=list)
    dns_name: str = ""
    fixed_ips: list[Held] = msgspec.field(default_factory=list)
    security_groups: list[str] = msgspec.field(default_factory=list)
    network_project_id: str = ""

    @property
    def owner(self) -> Owner:
        """What address allocation needs to know of the port."""
        return Owner(self.id, self.network_id, self.mac, self.device_owner)


def no_port(id_: str) -> Fault:
    """There is no such port for this caller."""
    return absent("Port", id_)


def _visible(project_id: str) -> sa.ColumnElement[bool]:
    mine = sa.select(_networks.c.id).where(_networks.c.project_id == project_id)
    return sa.or_(_ports.c.project_id == project_id, _ports.c.network_id.in_(mine))


def _by_address(values: Sequence[str]) -> sa.ColumnElement[bool]:
    """`fixed_ips=ip_address=10.0.0.3`, `fixed_ips=subnet_id=…`: values of one key are alternatives, keys add up."""
    asked: dict[str, list[str]] = {}
    for value in values:
        key, _, wanted = value.partition("=")
        asked.setdefault(key, []).append(wanted)
    conditions: list[sa.ColumnElement[bool]] = []
    for key, several in asked.items():
        if key == "ip_address":
            conditions.append(_taken.c.address.in_([str(addresses.address(one)) for one in several]))
        elif key == "subnet_id":
            conditions.append(_taken.c.subnet_id.in_(several))
        elif key == "ip_address_substr":
            conditions.append(sa.or_(*(_taken.c.address.contains(one, autoescape=True) for one in several)))
        else:
            raise addresses.wrong(f"'{key[:40]}' is not a valid key of fixed_ips")
    return _ports.c.id.in_(sa.select(_taken.c.port_id).where(*conditions))


def _by_group(values: Sequence[str]) -> sa.ColumnElement[bool]:
    members = schema.port_groups
    return _ports.c.id.in_(sa.select(members.c.port_id).where(members.c.group_id.in_(values)))


_PLAIN = ("id", "name", "project_id", "description", "network_id", "admin_state_up", "status", "device_id",
          "device_owner", "dns_name", "created_at", "updated_at")  # fmt: skip
LISTING = Listing(
    _ports,
    Port,
    {
        **{name: _ports.c[name] for name in _PLAIN},
        "mac_address": _ports.c.mac,
        "binding:host_id": _ports.c.host,
        "binding:vnic_type": _ports.c.vnic_type,
        "binding:vif_type": _ports.c.vif_type,
        "port_security_enabled": _ports.c.port_security,
        "revision_number": _ports.c.revision,
    },
    _visible,
    {"fixed_ips": _by_address, "security_groups": _by_group, "security_group_ids": _by_group},
)


def list_ports(connection: Connection, wanted: Wanted) -> list[Port]:
    """Ports with addresses and groups: one query each for the whole page."""
    return _owned(connection, _complete(connection, rows_store.listed(connection, LISTING, wanted)))


def _complete(connection: Connection, rows: list[Port]) -> list[Port]:
    if rows:
        ids = [row.id for row in rows]
        held = allocation_store.held_by(connection, ids)
        groups = security_groups.groups_of(connection, ids)
        for row in rows:
            row.fixed_ips = held.get(row.id, [])
            row.security_groups = groups.get(row.id, [])
    return rows


_OWNERS = (_networks.c.id, _networks.c.project_id)


def _owned(connection: Connection, rows: list[Port]) -> list[Port]:
    """The same ports with their networks' projects, by which policy rules ask."""
    if rows:
        owners = dict(read(connection, _OWNERS, {"id": list({row.network_id for row in rows})}))
        for row in rows:
            row.network_project_id = owners[row.network_id]
    return rows


def find_port(connection: Connection, id_: str) -> Port | None:
    """One port, complete."""
    row = find_owned(connection, id_)
    return None if row is None else rows_store.tagged(connection, _complete(connection, [row]))[0]


_OWNED = Statement(
    sa.select(*_ports.c, _networks.c.project_id)
    .join(_networks, _networks.c.id == _ports.c.network_id)
    .where(_ports.c.id == sa.bindparam("id"))
)


@lone
def find_owned(connection: Connection, id_: str) -> Port | None:
    """What policy rules ask of one port: its row and its network's project, no addresses, groups or tags."""
    found = _OWNED.first(connection, id=id_)
    if found is None:
        return None
    [port] = rows_store.of_rows(_ports, Port, [found[:-1]])
    port.network_project_id = found[-1]
    return port


def ports_where(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Port]:
    """Complete ports by any condition on their table."""
    return _complete(connection, rows_store.made(Port, connection.execute(sa.select(_ports).where(*conditions))))


def ports_by(connection: Connection, where: dict[str, Any]) -> list[Port]:
    """Complete ports whose columns equal these values, or are among them."""
    return _complete(connection, rows_store.read_rows(connection, _ports, Port, where))


def create_ports(work: Work, wanted: list[tuple[Port, list[Ask] | None, list[str] | None]]) -> list[Port]:
    """Insert them all or none. Each with (addresses it asks for, groups it asks for); None is the default of both."""
    wanted = [(msgspec.structs.replace(port), asked, groups) for port, asked, groups in wanted]
    rows = [port for port, _, _ in wanted]
    for project_id in sorted({port.project_id for port in rows}):
        quota.take(work, project_id, "port", sum(1 for port in rows if port.project_id == project_id))
    for port, asked, groups in wanted:
        if len(wanted) > 1 and not port.mac:
            _draw_free_mac(work, port)
        add_port(work, port, asked, groups)
    return rows


def add_port(work: Work, port: Port, asked: list[Ask] | None, groups: list[str] | None) -> None:
    """Insert one port without asking the quota: for the cloud's own ports, and after it was asked."""
    _choose_mac(work, port)
    network = binding_store.bind(work, port)
    rows_store.insert(work, _ports, port)
    if groups is None:
        groups = [security_groups.default_group(work, port.project_id)] if port.port_security else []
    port.fixed_ips, known = allocation_store.give(work, port.owner, asked)
    if groups:
        security_groups.join(work, port.id, port.host, groups)
    port.security_groups = sorted(groups)
    subnets = {one.id: (one.cidr, one.gateway_ip) for one in known}
    made_on = None if network is None else (network, subnets)
    binding_store.tell(work, port, port.host, port.security_groups, made_on=made_on)


def _choose_mac(work: Work, port: Port) -> None:
    if port.mac:
        _check_mac(work, port.network_id, port.mac)
        return
    port.mac = work.draw.mac()  # one of 16 million; when the network has it the unit is done again, with another


_ID = (_ports.c.id,)


def _has_mac(work: Work, network_id: str, mac: str) -> bool:
    return bool(read(work.connection, _ID, {"network_id": network_id, "mac": mac}))


def _draw_free_mac(work: Work, port: Port) -> None:
    """For one of many ports: some of them would meet another too often to do them all again."""
    while not port.mac or _has_mac(work, port.network_id, port.mac):
        port.mac = work.draw.mac()


def _check_mac(work: Work, network_id: str, mac: str) -> None:
    if _has_mac(work, network_id, mac):
        raise conflict(
            f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.",
            code="MacAddressInUse",
        )


def update_port(
    work: Work, id_: str, values: dict[str, Any], asked: list[Ask] | None, groups: list[str] | None
) -> Port:
    """Write the values; `asked` and `groups` replace what it has unless None. Old and new host hear of it."""
    row = rows_store.need(work.connection, _ports, Port, id_, no_port, lock=True)
    [row] = _complete(work.connection, [row])
    host, before, device = row.host, list(row.security_groups), (row.device_id, row.device_owner)
    shown = bool(set(values) - _COMPUTES) or asked is not None or groups is not None
    if "mac" in values and values["mac"] != row.mac:
        if row.host:
            raise conflict(
                f"Unable to complete operation on port {id_}, port is already bound, port type: {row.vif_type}, "
                f"old_mac {row.mac}, new_mac {values['mac']}.",
                code="PortBound",
            )
        _check_mac(work, row.network_id, values["mac"])
    values = binding_store.rebound(work, row, values)
    if values or asked is not None or groups is not None:
        rows_store.change(work, _ports, row, values)
    if asked is not None:
        _readdress(work, row, asked)
    if groups is not None:
        security_groups.put_in(work, id_, row.host, groups)
        row.security_groups = sorted(groups)
    elif row.host != host:
        security_groups.moved(work, id_, row.host)
    binding_store.tell(work, row, host, {*before, *row.security_groups})
    if shown or row.device_id != device[0]:
        binding_store.tell_compute(work, outbox.CHANGED, device, id_)
    return rows_store.tagged(work.connection, [row])[0]


def _readdress(work: Work, port: Port, asked: list[Ask]) -> None:
    """The port has what it asks for; addresses that stay are not given back in between."""
    wanted = {(ask.subnet_id, ask.address) for ask in asked}
    by_subnet = {ask.subnet_id for ask in asked if not ask.address}
    kept, subnets_kept = [], set()
    for held in port.fixed_ips:
        exact = (held.subnet_id, held.address) in wanted or ("", held.address) in wanted
        loose = held.subnet_id in by_subnet and held.subnet_id not in subnets_kept
        if exact or loose:
            kept.append(held)
            if not exact:
                subnets_kept.add(held.subnet_id)
    gone = [held for held in port.fixed_ips if held not in kept]
    _check_addresses_free(work, port, gone)
    allocation_store.give_back(work, port.id)
    exact_asks = [
        Ask(next((h.subnet_id for h in kept if h.address == ask.address), ask.subnet_id), ask.address)
        if ask.address
        else Ask(ask.subnet_id, next((h.address for h in kept if h.subnet_id == ask.subnet_id), ""))
        for ask in asked
    ]
    port.fixed_ips, _ = allocation_store.give(work, port.owner, exact_asks)


def _check_addresses_free(work: Work, port: Port, gone: Sequence[Held]) -> None:
    """An address that a floating IP stands for does not leave its port."""
    floating = schema.floating_ips
    found = sa.select(floating.c.id).where(
        floating.c.port_id == port.id, floating.c.fixed_ip.in_([held.address for held in gone])
    )
    if (id_ := work.connection.scalar(found.limit(1))) is not None:
        raise conflict(
            f"Port {port.id} cannot lose an address that floating IP {id_} is associated with.",
            hint="Disassociate it first.",
            code="FixedIpInUse",
        )


PROTECTED = ("network:router_interface", "network:router_gateway", "network:floatingip")


def delete_port(work: Work, id_: str, *, even_protected: bool = False, news: bool = True) -> None:
    """Delete a port and give back its addresses; a router's or floating IP's port goes only with its owner (409).

    Without `news` compute is not told that a server's port is gone.
    """
    row = rows_store.need(work.connection, _ports, Port, id_, no_port, lock=True)
    if not even_protected and row.device_owner in PROTECTED:
        raise conflict(
            f"Port {id_} cannot be deleted directly via the port API: has device owner {row.device_owner}.",
            code="ServicePortInUse",
        )
    groups = security_groups.groups_of(work.connection, [id_]).get(id_, [])
    binding_store.release_floating(work, id_)
    allocation_store.give_back(work, id_)
    members = schema.port_groups
    delete(work.connection, members, port_id=id_)
    rows_store.remove(work, _ports, id_)
    host, row.host = row.host, ""
    row.revision += 1  # what is said of it now is later than all that was said
    binding_store.tell(work, row, host, groups)
    if news:
        binding_store.tell_compute(work, outbox.DELETED, (row.device_id, row.device_owner), id_)
    else:
        outbox.forget(work, row.device_id, id_)


_OF_DEVICE = Statement(sa.select(_ports.c.id).where(_ports.c.device_id == sa.bindparam("device")).limit(1))


def has_ports(connection: Connection, device_id: str) -> bool:
    """Whether any port is this device's."""
    return _OF_DEVICE.first(connection, device=device_id) is not None


def delete_dhcp_ports(work: Work, network_id: str) -> None:
    """The network has no DHCP server any more."""
    found = sa.select(_ports.c.id, _ports.c.host).where(
        _ports.c.network_id == network_id, _ports.c.device_owner == "network:dhcp"
    )
    for id_, host in work.connection.execute(found).all():
        if host:
            work.changes.dhcp[host].add(network_id)
        delete_port(work, id_)


def serve_dhcp(work: Work, network_id: str) -> bool:
    """The network has a DHCP port with an address on each subnet that asks for DHCP, or none when none does.

    Returns whether something changed. Without a living DHCP agent nothing is made: a loop does it when one reports.
    """
    subnets = [one for one in allocation_store.ranges(work.connection, network_id) if one.enable_dhcp]
    subnets = [one for one in subnets if one.ip_version == 4 or one.ipv6_address_mode]
    found = ports_by(work.connection, {"network_id": network_id, "device_owner": "network:dhcp"})
    if not subnets:
        delete_dhcp_ports(work, network_id)
        return bool(found)
    wanted = {one.id for one in subnets}
    if found:
        port = found[0]
        held = {one.subnet_id for one in port.fixed_ips}
        if held == wanted and port.host:
            return False
        host = port.host or agents.least_used(work, agents.DHCP)
        asked = [Ask(h.subnet_id, h.address) for h in port.fixed_ips if h.subnet_id in wanted]
        asked += [Ask(id_) for id_ in sorted(wanted - held)]
        update_port(work, port.id, {"host": host} if host != port.host else {}, asked, None)
        return True
    if not (host := agents.least_used(work, agents.DHCP)):
        return False
    project_id = work.connection.scalar(sa.select(_networks.c.project_id).where(_networks.c.id == network_id))
    now = work.draw.now()
    port = Port(
        id=work.draw.id(), project_id=project_id or "", created_at=now, updated_at=now, network_id=network_id,
        device_id=network_id, device_owner="network:dhcp", host=host, port_security=False,
    )  # fmt: skip
    add_port(work, port, [Ask(one.id) for one in subnets], [])
    work.changes.dhcp[host].add(network_id)
    return True


def add_own_addresses(work: Work, subnet_id: str) -> None:
    """A SLAAC subnet is new: the network's ports have an address there already, made from their MACs."""
    subnet = next(iter(_range(work, subnet_id)))
    cidr = addresses.network(subnet.cidr)
    inner = ~_ports.c.device_owner.like("network:router%")
    for port in ports_where(work.connection, _ports.c.network_id == subnet.network_id, inner):
        if all(held.subnet_id != subnet_id for held in port.fixed_ips):
            own = addresses.eui64(cidr, port.mac)
            allocation_store.take(work, port.owner, subnet, own, len(port.fixed_ips))
            port.fixed_ips.append(Held(subnet_id, own))
            rows_store.change(work, _ports, port, {})
            binding_store.tell(work, port, port.host, port.security_groups)


def _range(work: Work, subnet_id: str) -> list[allocation_store.Range]:
    network_id = work.connection.scalar(sa.select(schema.subnets.c.network_id).where(schema.subnets.c.id == subnet_id))
    return [one for one in allocation_store.ranges(work.connection, str(network_id)) if one.id == subnet_id]
