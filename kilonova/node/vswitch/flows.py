"""Which connections a port's rules still allow. Pure; used to cut those that a changed rule no longer does."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from kilonova.base.faults import Fault
from kilonova.network.contract import Rule, WantedGroup, WantedPort
from kilonova.node.vswitch.conntrack import Address, Connection
from kilonova.node.vswitch.security_groups import protocol_number

Groups = Mapping[str, WantedGroup]


def still_allowed(port: WantedPort, groups: Groups, connection: Connection) -> bool:
    """Whether a new connection like this one would pass the port's rules; one that is not the port's is allowed."""
    own = {ip_address(fixed.address) for fixed in port.fixed_ips}
    if connection.source in own and not _passes(port, groups, connection, "egress", connection.destination):
        return False
    arrives = connection.destination in own or connection.answered_by in own
    return not arrives or _passes(port, groups, connection, "ingress", connection.source)


def _passes(port: WantedPort, groups: Groups, connection: Connection, direction: str, remote: Address) -> bool:
    if (connection.protocol, connection.destination_port) in ((17, 67), (17, 68), (17, 546), (17, 547)):
        return True
    if connection.protocol == 58 and connection.icmp_type >= 130:
        return True
    rules = (rule for id_ in port.security_groups if id_ in groups for rule in groups[id_].rules)
    return any(rule.direction == direction and _matches(rule, groups, connection, remote) for rule in rules)


def _matches(rule: Rule, groups: Groups, connection: Connection, remote: Address) -> bool:
    if remote.version != (6 if rule.ethertype == "IPv6" else 4):
        return False
    try:
        number = protocol_number(rule)
        if rule.remote_cidr and remote not in ip_network(rule.remote_cidr, strict=False):
            return False
    except (Fault, ValueError):
        return False  # a rule that cannot be allows nothing
    if rule.remote_group and not _is_member(groups.get(rule.remote_group), remote):
        return False
    if number is None:
        return True
    return number == connection.protocol and _port_matches(rule, number, connection)


def _is_member(group: WantedGroup | None, remote: Address) -> bool:
    return group is not None and any(remote in ip_network(text, strict=False) for text in group.member_ips)


def _port_matches(rule: Rule, number: int, connection: Connection) -> bool:
    low, high = rule.port_min, rule.port_max
    if number in (1, 58):
        return low in (None, connection.icmp_type) and high in (None, connection.icmp_code)
    return (low if low is not None else 0) <= connection.destination_port <= (high if high is not None else 65535)
