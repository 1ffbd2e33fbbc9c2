"""What a security group rule may say. Source: the Networking API's rules of protocols, ports and remote ends."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kilonova.base.faults import invalid
from kilonova.network import addresses

Name = Annotated[str, Meta(max_length=255)]
PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "hopopt": 0, "icmp": 1, "igmp": 2, "ip": 0, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136,
    "vrrp": 112,
}  # fmt: skip
_ONLY_6 = ("ipv6-encap", "ipv6-frag", "ipv6-icmp", "icmpv6", "ipv6-nonxt", "ipv6-opts", "ipv6-route")
_WITH_PORTS = ("tcp", "udp", "sctp", "udplite", "dccp", "6", "17", "132", "136", "33")
_ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")


class RuleWanted(msgspec.Struct, forbid_unknown_fields=True):
    """POST: a new rule."""

    security_group_id: str
    direction: str
    ethertype: str | None = "IPv4"
    protocol: str | int | None = None
    port_range_min: int | str | None = None
    port_range_max: int | str | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    description: Name = ""
    project_id: Name = ""
    tenant_id: Name = ""


def checked(body: RuleWanted) -> dict[str, Any]:
    """Columns of the rule, or INVALID with the reason."""
    if body.direction not in ("ingress", "egress"):
        raise addresses.wrong(f"'{body.direction[:20]}' is not in ['ingress', 'egress'] for direction")
    ethertype = {"ipv4": "IPv4", "ipv6": "IPv6"}.get((body.ethertype or "IPv4").lower())
    if ethertype is None:
        raise invalid(f"Invalid ethertype '{str(body.ethertype)[:20]}'. Allowed values are IPv4 and IPv6.",
                      code="SecurityGroupRuleInvalidEtherType")  # fmt: skip
    protocol = _protocol(body.protocol, ethertype)
    low, high = _number(body.port_range_min), _number(body.port_range_max)
    _check_ports(protocol, low, high)
    if body.remote_ip_prefix and body.remote_group_id:
        raise invalid("Only remote_ip_prefix or remote_group_id may be provided.",
                      code="SecurityGroupMultipleRemoteEntites")  # fmt: skip
    return {
        "group_id": body.security_group_id,
        "direction": body.direction,
        "ethertype": ethertype,
        "protocol": protocol,
        "port_min": low,
        "port_max": high,
        "remote_cidr": _prefix(body.remote_ip_prefix, ethertype),
        "remote_group": body.remote_group_id or "",
        "description": body.description,
    }


def _protocol(asked: str | int | None, ethertype: str) -> str:
    text = "" if asked is None else str(asked).lower()
    if text in ("", "any"):
        return ""
    if text.isascii() and text.isdigit():
        if int(text) > 255:
            raise _unknown(text)
        return "" if int(text) == 0 else text
    if text not in PROTOCOLS:
        raise _unknown(text)
    if ethertype == "IPv4" and text in _ONLY_6:
        raise invalid(f"Invalid ethertype IPv4 for protocol {text}.", code="SecurityGroupEthertypeConflictWithProtocol")
    if text == "icmpv6" or (text == "icmp" and ethertype == "IPv6"):
        return "ipv6-icmp"
    return "" if text == "ip" else text


def _unknown(text: str) -> Exception:
    return invalid(
        f"Security group rule protocol {text[:20]} not supported. Only protocol values {sorted(PROTOCOLS)} and integer "
        f"representations [0 to 255] are supported.",
        code="SecurityGroupRuleInvalidProtocol",
    )


def _number(asked: int | str | None) -> int | None:
    if asked is None or asked == "":
        return None
    if isinstance(asked, str) and not (asked.isascii() and asked.removeprefix("-").isdigit() and len(asked) < 8):
        raise invalid(f"Invalid value for port {asked[:20]!r}", code="SecurityGroupInvalidPortValue")
    return int(asked)


def _check_ports(protocol: str, low: int | None, high: int | None) -> None:
    if low is None and high is None:
        return
    if protocol in _ICMP:
        for value, field in ((low, "type (port_range_min)"), (high, "code (port_range_max)")):
            if value is not None and not 0 <= value <= 255:
                raise invalid(f"Invalid value for ICMP {field} {value}. It must be 0 to 255.",
                              code="SecurityGroupInvalidIcmpValue")  # fmt: skip
        if low is None:
            raise invalid(f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
                          code="SecurityGroupMissingIcmpType")  # fmt: skip
        return
    if not protocol:
        raise invalid("Must also specify protocol if port range is given.",
                      code="SecurityGroupProtocolRequiredWithPorts")  # fmt: skip
    if protocol not in _WITH_PORTS:
        raise invalid(f"Invalid port range for protocol {protocol}: it has no ports.",
                      code="SecurityGroupInvalidProtocolForPortRange")  # fmt: skip
    if low is None or high is None or not 1 <= low <= high <= 65535:
        for value in (low, high):
            if value is not None and not 1 <= value <= 65535:
                raise invalid(f"Invalid value for port {value}", code="SecurityGroupInvalidPortValue")
        raise invalid("For TCP/UDP protocols, port_range_min must be <= port_range_max",
                      code="SecurityGroupInvalidPortRange")  # fmt: skip


def _prefix(asked: str | None, ethertype: str) -> str:
    if not asked:
        return ""
    cidr = addresses.network(asked)
    if cidr.version != (4 if ethertype == "IPv4" else 6):
        raise invalid(f"Conflicting value ethertype {ethertype} for CIDR {asked}",
                      code="SecurityGroupRuleParameterConflict")  # fmt: skip
    return str(cidr)
