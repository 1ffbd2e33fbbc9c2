"""What hosts must build, read for the plugin: ports, groups and tunnels of layer 2, DHCP servers, routers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_network
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement, read
from kilonova.network import contract, rows_store, schema
from kilonova.network.agent.store import L2
from kilonova.network.lease import host_of
from kilonova.network.port.built_store import BOUND, wanted_ports
from kilonova.network.port.store import Port, ports_by, ports_where
from kilonova.network.router.store import Router, floating_of
from kilonova.network.subnet.store import Subnet

_ports = schema.ports
_agents = schema.agents
_members = schema.port_groups
_taken = schema.addresses
_OLDEST = (schema.subnets.c.created_at,)


def _subnets(connection: Connection, network_ids: Collection[str]) -> dict[str, Subnet]:
    where = {"network_id": list(network_ids)}
    rows = rows_store.read_rows(connection, schema.subnets, Subnet, where, order=_OLDEST)
    return {row.id: row for row in rows}


def l2(
    connection: Connection, host: str, port_ids: list[str] | None, network_ids: list[str] | None
) -> contract.WantedL2:
    """All of a host's layer 2 (both None), or these ports and the groups and tunnels of these networks."""
    here: dict[str, Any] = {"host": host, "vif_type": BOUND}
    full = port_ids is None and network_ids is None
    if full:
        rows = ports_by(connection, here)
        grouped = {group for row in rows for group in row.security_groups}
    else:
        asked = set(network_ids or ())
        rows = ports_by(connection, {**here, "id": list(port_ids)}) if port_ids else []
        rows += _speakers(connection, host, asked - {row.network_id for row in rows})
        grouped = {group for row in rows for group in row.security_groups} | _groups_on(connection, host, asked)
    gone = tuple(id_ for id_ in port_ids or () if id_ not in {row.id for row in rows})
    ports = tuple(wanted_ports(connection, rows))
    groups, members = _groups(connection, grouped)
    return contract.WantedL2(
        ports=ports,
        gone_ports=gone,
        groups=groups,
        members=members,
        vteps=tuple(_vteps(connection, host, {port.network_id: port.segment for port in ports})),
        full=full,
    )


_HERE = sa.and_(
    _ports.c.host == sa.bindparam("host"),
    _ports.c.vif_type == BOUND,
    _ports.c.network_id.in_(sa.bindparam("networks", expanding=True)),
)
_SPEAKERS = Statement(sa.select(sa.func.min(_ports.c.id)).where(_HERE).group_by(_ports.c.network_id))
_GROUPS_HERE = Statement(
    sa.select(_members.c.group_id).join(_ports, _ports.c.id == _members.c.port_id).where(_HERE).distinct()
)


def _speakers(connection: Connection, host: str, asked: Collection[str]) -> list[Port]:
    """One port of each network asked for: what is said of its tunnels is then the whole truth, even when none is."""
    ids = _SPEAKERS.scalars(connection, host=host, networks=list(asked)) if asked else []
    return ports_by(connection, {"id": ids}) if ids else []


def _groups_on(connection: Connection, host: str, networks: Collection[str]) -> set[str]:
    return set(_GROUPS_HERE.scalars(connection, host=host, networks=list(networks))) if networks else set()


def _groups(
    connection: Connection, ids: Collection[str]
) -> tuple[tuple[contract.WantedGroup, ...], tuple[contract.Member, ...]]:
    """The groups, and those that their rules name, which are there for their members' addresses; and the members."""
    if not ids:
        return (), ()
    of_rules = _rules(connection, ids)
    named = {rule.remote_group for rules in of_rules.values() for rule in rules} - {""}
    if others := named.difference(ids):
        of_rules |= _rules(connection, others)
    found = read(connection, _GROUP, {"id": sorted(named.union(ids))}, order=_GROUP[:1])
    groups = [contract.WantedGroup(id_, stateful, tuple(of_rules.get(id_, ()))) for id_, stateful in found]
    return tuple(groups), tuple(_members_of(connection, named))


_GROUP = (schema.security_groups.c.id, schema.security_groups.c.stateful)
_BY_ID = (schema.rules.c.id,)
_RULE = (schema.rules.c.group_id, *(schema.rules.c[name] for name in contract.Rule.__struct_fields__))


def _rules(connection: Connection, group_ids: Collection[str]) -> dict[str, list[contract.Rule]]:
    """Group id → its rules, of those that have any."""
    found: dict[str, list[contract.Rule]] = {}
    for group_id, *rule in read(connection, _RULE, {"group_id": sorted(group_ids)}, order=_BY_ID):
        found.setdefault(group_id, []).append(contract.Rule(*rule))
    return found


_MEMBERS = Statement(
    sa.select(_members.c.group_id, _ports.c.id, _ports.c.revision, _taken.c.address)
    .join(_ports, _ports.c.id == _members.c.port_id)
    .join(_taken, _taken.c.port_id == _ports.c.id)
    .where(_members.c.group_id.in_(sa.bindparam("groups", expanding=True)), _ports.c.host != "")
    .order_by(_ports.c.id, _taken.c.address)
)


def _members_of(connection: Connection, named: Collection[str]) -> list[contract.Member]:
    """The ports that are in these groups, of all their groups only these."""
    found: dict[tuple[str, int], tuple[dict[str, None], dict[str, None]]] = {}
    for group_id, port_id, revision, address in _MEMBERS.all(connection, groups=list(named)) if named else ():
        groups, ips = found.setdefault((port_id, revision), ({}, {}))
        groups[group_id], ips[address] = None, None
    return [contract.Member(id_, tuple(groups), tuple(ips), rev) for (id_, rev), (groups, ips) in found.items()]


_ELSEWHERE = Statement(
    sa.select(_ports.c.network_id, _agents.c.tunnel_ip, _ports.c.mac)
    .join(_agents, sa.and_(_agents.c.host == _ports.c.host, _agents.c.agent_type == L2))
    .where(
        _ports.c.network_id.in_(sa.bindparam("networks", expanding=True)),
        _ports.c.host != sa.bindparam("host"),
        _ports.c.vif_type == BOUND,
        _agents.c.tunnel_ip != "",
    )
    .order_by(_ports.c.network_id, _agents.c.tunnel_ip, _ports.c.mac)
)


def _vteps(connection: Connection, host: str, all_segments: dict[str, contract.Segment]) -> Iterable[contract.Vtep]:
    """Other hosts' tunnel ends for the VXLAN networks among these, with the MACs behind them."""
    segments = {id_: one for id_, one in all_segments.items() if one.type == "vxlan"}
    if not segments:
        return []
    behind: dict[tuple[str, str], list[str]] = {}
    for network_id, tunnel_ip, mac in _ELSEWHERE.all(connection, networks=list(segments), host=host):
        behind.setdefault((network_id, tunnel_ip), []).append(mac)
    return [contract.Vtep(id_, segments[id_], tunnel_ip, tuple(macs)) for (id_, tunnel_ip), macs in behind.items()]


def dhcp(connection: Connection, host: str, network_ids: list[str] | None, domain: str) -> list[contract.WantedDhcp]:
    """DHCP servers of a host: all, or those of these networks."""
    mine: dict[str, Any] = {"host": host, "device_owner": "network:dhcp"}
    servers = ports_by(connection, mine if network_ids is None else {**mine, "network_id": list(network_ids)})
    ids = {server.network_id for server in servers}
    wanted = {port.id: port for port in wanted_ports(connection, servers)}
    subnets = _subnets(connection, ids)
    rows = read(connection, _TOLD, {"network_id": list(ids)}) if ids else ()
    hosts = _leases(rows, _BY_NETWORK.all(connection, ids=list(ids)) if ids else ())
    made = []
    for server in servers:
        of_network = [subnet for subnet in subnets.values() if subnet.network_id == server.network_id]
        made.append(
            contract.WantedDhcp(
                network_id=server.network_id,
                port=wanted[server.id],
                subnets=tuple(_wanted_subnet(subnet) for subnet in of_network),
                hosts=tuple(hosts.get(server.network_id, ())),
                domain=domain,
                revision=server.revision,
            )
        )
    return made


_ADDRESSES = sa.select(_taken.c.port_id, _taken.c.address).order_by(_taken.c.place, _taken.c.address)
_BY_NETWORK = Statement(_ADDRESSES.where(_taken.c.network_id.in_(sa.bindparam("ids", expanding=True))))
_TOLD = tuple(
    _ports.c[name] for name in ("id", "network_id", "device_owner", "mac", "revision", "dns_name", "dhcp_options")
)


def _leases(rows: Iterable[Any], addresses: Iterable[Any]) -> dict[str, list[contract.DhcpHost]]:
    """Network id → what its DHCP server says to whom. A network may have thousands: whole ports would be dear."""
    held: dict[str, list[str]] = {}
    for port_id, address in addresses:
        held.setdefault(port_id, []).append(address)
    made: dict[str, list[contract.DhcpHost]] = {}
    for id_, network_id, owner, mac, revision, *named in rows:
        if owner in ("network:floatingip", "network:dhcp") or not (mine := held.get(id_)):
            continue
        made.setdefault(network_id, []).append(host_of(id_, mac, revision, mine, (named[0], named[1])))
    return made


def _wanted_subnet(subnet: Subnet) -> contract.WantedSubnet:
    return contract.WantedSubnet(
        id=subnet.id,
        cidr=subnet.cidr,
        gateway=subnet.gateway_ip,
        dhcp=subnet.enable_dhcp,
        dns=tuple(subnet.dns_nameservers),
        host_routes=tuple((to, via) for to, via in subnet.host_routes),
        ra_mode=subnet.ipv6_ra_mode,
        address_mode=subnet.ipv6_address_mode,
    )


def routers(connection: Connection, host: str, router_ids: list[str] | None) -> list[contract.WantedRouter]:
    """Routers of a host: all, or these."""
    table = schema.routers
    statement = sa.select(table).where(table.c.host == host)
    if router_ids is not None:
        statement = statement.where(table.c.id.in_(router_ids))
    rows = rows_store.made(Router, connection.execute(statement.order_by(table.c.id)))
    legs: dict[str, list[Port]] = {}
    ids = [row.id for row in rows]
    router_owned = _ports.c.device_owner.like("network:router%")
    ports = ports_where(connection, _ports.c.device_id.in_(ids), router_owned) if ids else []
    for port in ports:
        legs.setdefault(port.device_id, []).append(port)
    wanted = {port.id: port for port in wanted_ports(connection, ports)}
    floating = floating_of(connection, ids)
    return [_wanted_router(row, [wanted[p.id] for p in legs.get(row.id, ())], floating.get(row.id, ())) for row in rows]


def _wanted_router(
    row: Router, legs: Sequence[contract.WantedPort], floating: Iterable[contract.FloatingIp]
) -> contract.WantedRouter:
    inner, gateway = [], None
    for leg in sorted(legs, key=lambda leg: leg.id):
        if leg.device_owner == "network:router_gateway":
            hops = tuple(dict.fromkeys(ip.gateway for ip in leg.fixed_ips if ip.gateway))
            gateway = contract.RouterGateway(leg, _with_lengths(leg), hops, row.snat)
        else:
            inner.append(contract.RouterInterface(leg, _with_lengths(leg)))
    return contract.WantedRouter(
        id=row.id,
        admin_state_up=row.admin_state_up,
        interfaces=tuple(inner),
        gateway=gateway,
        floating_ips=tuple(floating),
        routes=tuple((to, via) for to, via in row.routes),
        revision=row.revision,
    )


def _with_lengths(leg: contract.WantedPort) -> tuple[str, ...]:
    return tuple(f"{ip.address}/{ip_network(ip.cidr).prefixlen}" for ip in leg.fixed_ips)


def device(connection: Connection, network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
    """(server id, project id) of the port with that address in the network, or in a network the router joins."""
    found = (
        sa.select(_ports.c.device_id, _ports.c.project_id)
        .join(_taken, _taken.c.port_id == _ports.c.id)
        .where(_taken.c.address == ip, _ports.c.device_owner.like("compute:%"))
    )
    if router_id:
        leg = _ports.alias("leg")
        joined = sa.select(leg.c.network_id).where(
            leg.c.device_id == router_id, leg.c.device_owner == "network:router_interface"
        )
        found = found.where(_ports.c.network_id.in_(joined))
    else:
        found = found.where(_ports.c.network_id == network_id)
    row = connection.execute(found.limit(1)).first()
    return None if row is None else (row[0], row[1])
