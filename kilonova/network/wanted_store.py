"""What hosts must build, read for the plugin: ports, groups and tunnels of layer 2, DHCP servers, routers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_network

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.network import contract, rows_store, schema
from kilonova.network.agent.store import L2
from kilonova.network.port.binding_store import BOUND
from kilonova.network.port.store import Port, ports_where
from kilonova.network.router.store import Router, floating_of
from kilonova.network.subnet.store import Subnet

_ports = schema.ports
_agents = schema.agents
_members = schema.port_groups
_taken = schema.addresses


def _subnets(connection: Connection, network_ids: Collection[str]) -> dict[str, Subnet]:
    found = sa.select(schema.subnets).where(schema.subnets.c.network_id.in_(network_ids))
    rows = rows_store.made(Subnet, connection.execute(found.order_by(schema.subnets.c.created_at)))
    return {row.id: row for row in rows}


def _segments(connection: Connection, ids: Collection[str]) -> dict[str, tuple[contract.Segment, int, bool]]:
    """Network id → (segment, MTU, admin_state_up)."""
    networks = schema.networks
    found = sa.select(networks).where(networks.c.id.in_(ids))
    return {
        row.id: (
            contract.Segment(row.segment_type, row.segment_id or 0, row.physical_network),
            row.mtu,
            row.admin_state_up,
        )
        for row in connection.execute(found)
    }


def wanted_ports(connection: Connection, rows: Sequence[Port]) -> list[contract.WantedPort]:
    """Ports as a host must build them."""
    network_ids = {row.network_id for row in rows}
    segments, subnets = _segments(connection, network_ids), _subnets(connection, network_ids)
    made = []
    for row in rows:
        segment, mtu, network_up = segments[row.network_id]
        fixed_ips = tuple(
            contract.FixedIp(h.address, h.subnet_id, subnets[h.subnet_id].cidr, subnets[h.subnet_id].gateway_ip)
            for h in row.fixed_ips
        )
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


def l2(
    connection: Connection, host: str, port_ids: list[str] | None, network_ids: list[str] | None
) -> contract.WantedL2:
    """All of a host's layer 2 (both None), or these ports and the groups and tunnels of these networks."""
    here = (_ports.c.host == host) & (_ports.c.vif_type == BOUND)
    full = port_ids is None and network_ids is None
    if full:
        rows = ports_where(connection, here)
        touched = {row.network_id for row in rows}
        grouped = {group for row in rows for group in row.security_groups}
    else:
        asked = set(network_ids or ())
        rows = ports_where(connection, here, _ports.c.id.in_(port_ids or ())) if port_ids else []
        rows += _speakers(connection, here, asked - {row.network_id for row in rows})
        touched = {row.network_id for row in rows}
        grouped = {group for row in rows for group in row.security_groups} | _groups_on(connection, here, asked)
    gone = tuple(id_ for id_ in port_ids or () if id_ not in {row.id for row in rows})
    return contract.WantedL2(
        ports=tuple(wanted_ports(connection, rows)),
        gone_ports=gone,
        groups=tuple(_groups(connection, grouped)),
        vteps=tuple(_vteps(connection, host, touched)),
        full=full,
    )


def _speakers(connection: Connection, here: sa.ColumnElement[bool], asked: Collection[str]) -> list[Port]:
    """One port of each network asked for: what is said of its tunnels is then the whole truth, even when none is."""
    if not asked:
        return []
    first = sa.select(sa.func.min(_ports.c.id)).where(here, _ports.c.network_id.in_(asked))
    ids = list(connection.scalars(first.group_by(_ports.c.network_id)))
    return ports_where(connection, _ports.c.id.in_(ids)) if ids else []


def _groups_on(connection: Connection, here: sa.ColumnElement[bool], networks: Collection[str]) -> set[str]:
    found = (
        sa.select(_members.c.group_id)
        .join(_ports, _ports.c.id == _members.c.port_id)
        .where(here, _ports.c.network_id.in_(networks))
        .distinct()
    )
    return set(connection.scalars(found)) if networks else set()


def _groups(connection: Connection, ids: Collection[str]) -> list[contract.WantedGroup]:
    """The groups, and those that their rules name, which are there for their members' addresses."""
    if not ids:
        return []
    rules = schema.rules
    named = set(connection.scalars(sa.select(rules.c.remote_group).where(rules.c.group_id.in_(ids)).distinct())) - {""}
    everyone = sorted(set(ids) | named)
    of_rules: dict[str, list[contract.Rule]] = {}
    for row in connection.execute(sa.select(rules).where(rules.c.group_id.in_(everyone)).order_by(rules.c.id)):
        of_rules.setdefault(row.group_id, []).append(
            contract.Rule(
                row.direction,
                row.ethertype,
                row.protocol,
                row.port_min,
                row.port_max,
                row.remote_cidr,
                row.remote_group,
            )
        )
    members = _member_addresses(connection, named)
    groups = schema.security_groups
    found = sa.select(groups.c.id, groups.c.stateful).where(groups.c.id.in_(everyone)).order_by(groups.c.id)
    return [
        contract.WantedGroup(id_, stateful, tuple(of_rules.get(id_, ())), tuple(members.get(id_, ())))
        for id_, stateful in connection.execute(found)
    ]


def _member_addresses(connection: Connection, named: Collection[str]) -> dict[str, list[str]]:
    found = (
        sa.select(_members.c.group_id, _taken.c.address)
        .join(_ports, _ports.c.id == _members.c.port_id)
        .join(_taken, _taken.c.port_id == _ports.c.id)
        .where(_members.c.group_id.in_(named), _ports.c.host != "")
        .order_by(_taken.c.address)
    )
    members: dict[str, list[str]] = {}
    for group_id, address in connection.execute(found):
        members.setdefault(group_id, []).append(address)
    return members


def _vteps(connection: Connection, host: str, network_ids: Collection[str]) -> Iterable[contract.Vtep]:
    """Other hosts' tunnel ends for the VXLAN networks among these, with the MACs behind them."""
    segments = {id_: one for id_, (one, _, _) in _segments(connection, network_ids).items() if one.type == "vxlan"}
    if not segments:
        return []
    found = (
        sa.select(_ports.c.network_id, _agents.c.tunnel_ip, _ports.c.mac)
        .join(_agents, sa.and_(_agents.c.host == _ports.c.host, _agents.c.agent_type == L2))
        .where(
            _ports.c.network_id.in_(segments),
            _ports.c.host != host,
            _ports.c.vif_type == BOUND,
            _agents.c.tunnel_ip != "",
        )
        .order_by(_ports.c.network_id, _agents.c.tunnel_ip, _ports.c.mac)
    )
    behind: dict[tuple[str, str], list[str]] = {}
    for network_id, tunnel_ip, mac in connection.execute(found):
        behind.setdefault((network_id, tunnel_ip), []).append(mac)
    return [contract.Vtep(id_, segments[id_], tunnel_ip, tuple(macs)) for (id_, tunnel_ip), macs in behind.items()]


def dhcp(connection: Connection, host: str, network_ids: list[str] | None, domain: str) -> list[contract.WantedDhcp]:
    """DHCP servers of a host: all, or those of these networks."""
    mine = [_ports.c.host == host, _ports.c.device_owner == "network:dhcp"]
    if network_ids is not None:
        mine.append(_ports.c.network_id.in_(network_ids))
    servers = ports_where(connection, *mine)
    ids = {server.network_id for server in servers}
    wanted = {port.id: port for port in wanted_ports(connection, servers)}
    subnets = _subnets(connection, ids)
    guests: dict[str, list[Port]] = {}
    inside = _ports.c.device_owner.not_in(["network:floatingip", "network:dhcp"])
    for port in ports_where(connection, _ports.c.network_id.in_(ids), inside) if ids else []:
        guests.setdefault(port.network_id, []).append(port)
    made = []
    for server in servers:
        of_network = [subnet for subnet in subnets.values() if subnet.network_id == server.network_id]
        hosts = tuple(_lease(port) for port in guests.get(server.network_id, ()) if port.fixed_ips)
        made.append(
            contract.WantedDhcp(
                network_id=server.network_id,
                port=wanted[server.id],
                subnets=tuple(_wanted_subnet(subnet) for subnet in of_network),
                hosts=hosts,
                domain=domain,
                revision=server.revision,
            )
        )
    return made


def _lease(port: Port) -> contract.DhcpHost:
    first = port.fixed_ips[0].address
    hostname = port.dns_name or "host-" + first.replace(".", "-").replace(":", "-")
    options = tuple((str(name), str(value)) for name, value, _ in port.dhcp_options)
    return contract.DhcpHost(port.id, port.mac, tuple(held.address for held in port.fixed_ips), hostname, options)


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
