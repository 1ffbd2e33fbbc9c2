"""Security groups as nftables text. Pure: wanted ports and groups in, commands out.

How a frame is filtered. The kernel's bridge hands IPv4 and IPv6 frames to the inet hooks (br_netfilter), where only
the bridge is known, not its port; so the bridge family, before and after, writes the port's number into the mark:

    bridge prerouting   mark = number of the port it came from; spoofed frames are dropped
    inet prerouting     connection zone = that of the network (addresses of networks may overlap)
    inet forward        mark → the sender's chain: its egress rules
    bridge postrouting  mark = number of the port it goes to
    inet postrouting    mark → the receiver's chain: its ingress rules

A full 32-bit number each way, and both ends of a frame between two ports of one bridge are filtered. A group's rules
are two chains, shared by all its ports; its members are two sets. A connection that was cut must not be taken up
again in the middle, so a first TCP packet must be a SYN, except to ports that just arrived (live migration).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from kilonova.base.faults import Fault, invalid
from kilonova.network.contract import Rule, WantedGroup, WantedPort
from kilonova.node.vswitch.names import short

ARRIVAL_SECONDS: Final = 60
PROTOCOLS: Final = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41, "ipv6-route": 43,
    "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ipv6-nonxt": 59,
    "ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip
_WITH_PORTS: Final = (6, 17, 33, 132, 136)
_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


def table_name(prefix: str) -> str:
    """The name of the cloud's table in the bridge and inet families."""
    return f"{prefix}sg"


def protocol_number(rule: Rule) -> int | None:
    """The IP protocol that a rule names, None for any. An unknown one is a Fault."""
    name = rule.protocol.lower()
    if name in ("", "any"):
        return None
    number = PROTOCOLS.get(name, int(name) if name.isdigit() else 256)
    if number > 255:
        raise invalid(f"Protocol {rule.protocol!r} is not known.")
    return 58 if number == 1 and rule.ethertype == "IPv6" else number


def _number(side: str) -> list[str]:
    return ["meta mark set 0", f"meta mark set {side} map @numbers"]


def base(table: str) -> str:
    """The table's frame: idempotent, and harmless while traffic flows."""
    hooks = {
        ("bridge", "prerouting"): ("-310", [*_number("iifname"), "iifname vmap @spoof"]),
        ("bridge", "postrouting"): ("-10", _number("oifname")),
        ("inet", "prerouting"): ("-300", ["ct zone set iifname map @zones"]),
        ("inet", "forward"): ("0", ["meta mark vmap @from_guest"]),
        ("inet", "postrouting"): ("0", ["meta mark vmap @to_guest"]),
    }  # fmt: skip
    lines = [
        f"add table bridge {table}",
        f"add table inet {table}",
        f"add map bridge {table} numbers {{ type ifname : mark ; }}",
        f"add map bridge {table} spoof {{ type ifname : verdict ; }}",
        f"add map inet {table} zones {{ typeof iifname : ct zone ; }}",
        f"add map inet {table} from_guest {{ type mark : verdict ; }}",
        f"add map inet {table} to_guest {{ type mark : verdict ; }}",
        f"add set inet {table} arrived {{ type mark ; flags timeout ; }}",
        *chain("inet", table, "always_out", _ALWAYS_OUT),
        *chain("inet", table, "always_in", _ALWAYS_IN),
    ]
    for (family, hook), (priority, rules) in hooks.items():
        kind = f"{{ type filter hook {hook} priority {priority} ; policy accept ; }}"
        lines += [f"add chain {family} {table} {hook} {kind}", f"flush chain {family} {table} {hook}"]
        lines += [f"add rule {family} {table} {hook} {rule}" for rule in rules]
    return "\n".join(lines)


_ALWAYS_OUT: Final = [
    "meta nfproto ipv4 udp sport 68 udp dport 67 accept",
    "meta nfproto ipv6 udp sport 546 udp dport 547 accept",
    "icmpv6 type { 131, 132, 133, 135, 136, 143 } accept",  # multicast reports, router and neighbour discovery
]
_ALWAYS_IN: Final = [
    "meta nfproto ipv4 udp sport 67 udp dport 68 accept",  # guests cannot send these: see `spoof`
    "meta nfproto ipv6 udp sport 547 udp dport 546 accept",
    "icmpv6 type { 130, 134, 135, 136 } accept",
]


def chain(family: str, table: str, name: str, rules: Sequence[str]) -> list[str]:
    """Commands that make a chain hold exactly `rules`, whether it was there or not."""
    head = [f"add chain {family} {table} {name}", f"flush chain {family} {table} {name}"]
    return head + [f"add rule {family} {table} {name} {rule}" for rule in rules]


def match(rule: Rule) -> str:
    """The nft expression of a rule, with verdict. Raises a Fault (invalid) for one that cannot be."""
    family = {"IPv4": "ip", "IPv6": "ip6"}[rule.ethertype]
    parts = [f"meta nfproto {'ipv4' if family == 'ip' else 'ipv6'}"]
    side = "saddr" if rule.direction == "ingress" else "daddr"
    if rule.remote_cidr:
        net = _network(rule.remote_cidr)
        if (net.version == 6) != (family == "ip6"):
            raise invalid(f"Remote address {rule.remote_cidr} is not {rule.ethertype}.")
        if net.prefixlen:
            parts.append(f"{family} {side} {net}")
    elif rule.remote_group:
        parts.append(f"{family} {side} @{members_set(rule.remote_group, net_version(family))}")
    number = protocol_number(rule)
    if number is not None:
        parts.append(f"meta l4proto {number}")
        parts += _ports(rule, number)
    return " ".join([*parts, "accept"])


def net_version(family: str) -> int:
    """4 for ip, 6 for ip6."""
    return 6 if family == "ip6" else 4


def _ports(rule: Rule, number: int) -> list[str]:
    low, high = rule.port_min, rule.port_max
    if low is None and high is None:
        return []
    if number in (1, 58):
        word = "icmp" if number == 1 else "icmpv6"
        if low is None or not 0 <= low <= 255 or not 0 <= (high or 0) <= 255:
            raise invalid("ICMP type and code are 0 to 255, and a code needs a type.")
        return [f"{word} type {low}"] + ([f"{word} code {high}"] if high is not None else [])
    if number not in _WITH_PORTS:
        raise invalid(f"Protocol {rule.protocol} has no ports.")
    low, high = low if low is not None else 0, high if high is not None else 65535
    if not 0 <= low <= high <= 65535:
        raise invalid(f"Ports {low} to {high} are no range.")
    return [f"th dport {low}-{high}" if low != high else f"th dport {low}"]


def _network(text: str):  # type: ignore[no-untyped-def]
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise invalid(f"{text!r} is no address.") from error


def members_set(group_id: str, version: int) -> str:
    """The name of the set of a group's addresses."""
    return f"m{short(group_id)}v{version}"


def group_chain(group_id: str, direction: str) -> str:
    """The name of the chain of a group's rules for a direction."""
    return f"g{short(group_id)}{direction[0]}"


def members(table: str, group_id: str, ips: Iterable[str]) -> list[str]:
    """Commands that make a group's two sets hold exactly its members."""
    lines, by_version = [], {4: [], 6: []}  # type: ignore[var-annotated]
    for text in ips:
        net = _network(text)
        by_version[net.version].append(str(net) if net.num_addresses > 1 else str(net.network_address))
    for version, values in by_version.items():
        name = members_set(group_id, version)
        lines.append(f"add set inet {table} {name} {{ type ipv{version}_addr ; flags interval ; auto-merge ; }}")
        lines.append(f"flush set inet {table} {name}")
        if values:
            lines.append(f"add element inet {table} {name} {{ {', '.join(sorted(set(values)))} }}")
    return lines


def group_rules(group: WantedGroup, direction: str) -> tuple[list[str], list[str]]:
    """(rules of the chain, sentences about rules left out because they cannot be). What is left out is not allowed."""
    rules, refused = [], []
    for rule in group.rules:
        if rule.direction == direction:
            try:
                rules.append(match(rule))
            except (Fault, KeyError) as error:
                refused.append(f"group {group.id}: {error}")
    return list(dict.fromkeys(rules)), refused


def port_chains(table: str, port: WantedPort, number: int, *, stateful: bool) -> list[str]:
    """Commands for a guarded port's two chains; which groups it has is all that is its own."""
    lines: list[str] = []
    for direction, name, always in (("egress", f"e{number}", "always_out"), ("ingress", f"i{number}", "always_in")):
        rules = [f"jump {always}"]
        if stateful:
            rules += [
                "ct state established,related accept",
                "ct state invalid drop",
                "meta l4proto tcp ct state new tcp flags & (fin|syn|rst|ack) != syn meta mark != @arrived drop",
            ]
        rules += [f"jump {group_chain(group, direction)}" for group in sorted(set(port.security_groups))]
        lines += chain("inet", table, name, [*rules, "drop"])
    return lines


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC gives (RFC 4291, modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ip_address(bytes.fromhex("fe80000000000000") + host))


def sources(port: WantedPort) -> list[tuple[str, str]]:
    """(MAC, address or CIDR) pairs that a port may send from, IPv6 link-local ones included."""
    pairs = [(port.mac.lower(), fixed.address) for fixed in port.fixed_ips]
    pairs += [((pair.mac or port.mac).lower(), pair.ip) for pair in port.address_pairs]
    checked = []
    for mac, text in [*pairs, *((mac, link_local(mac)) for mac in sorted({port.mac.lower(), *(p[0] for p in pairs)}))]:
        if not _MAC.match(mac):
            raise invalid(f"{mac!r} is no MAC address.")
        net = _network(text)
        checked.append((mac, str(net) if net.num_addresses > 1 else str(net.network_address)))
    return list(dict.fromkeys(checked))


def spoof_chain(table: str, port: WantedPort, number: int) -> list[str]:
    """Commands for the chain that drops what a port may not claim to be: MAC, ARP, IP, DHCP server, router."""
    pairs = sources(port)
    macs = ", ".join(sorted({mac for mac, _ in pairs}))
    rules = [f"ether saddr != {{ {macs} }} drop"]
    for mac, text in pairs:
        if ":" not in text:
            rules.append(f"ether type arp arp saddr ether {mac} arp saddr ip {text} accept")
    rules += [
        f"ether type arp arp saddr ether {{ {macs} }} arp saddr ip 0.0.0.0 accept",  # a probe, RFC 5227
        "ether type arp drop",
        "ether type ip udp sport 67 udp dport 68 drop",
        "ether type ip6 udp sport 547 udp dport 546 drop",
        "ether type ip6 icmpv6 type { 134, 137 } drop",  # router advertisement, redirect
        "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        "ether type ip6 ip6 saddr :: icmpv6 type { 131, 135, 143 } accept",
    ]
    for mac, text in pairs:
        family = "ip6" if ":" in text else "ip"
        if family == "ip6":
            neighbour = f"ether type ip6 ether saddr {mac} ip6 saddr {text} icmpv6 type 136"
            claims = [f"{neighbour} @th,64,128 {_hex(own)} accept" for _, own in pairs if ":" in own and "/" not in own]
            rules += claims
            if "/" in text:
                rules.append(f"{neighbour} accept")
    rules.append("ether type ip6 icmpv6 type 136 drop")  # speaking for an address that is not its own
    for mac, text in pairs:
        family = "ip6" if ":" in text else "ip"
        rules.append(f"ether type {family} ether saddr {mac} {family} saddr {text} accept")
    return chain("bridge", table, f"s{number}", [*rules, "drop"])


def _hex(address: str) -> str:
    return f"0x{int(ip_address(address)):032x}"
