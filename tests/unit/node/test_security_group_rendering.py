"""Security rules as nftables says them, and which connections they still allow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kilonova.base.faults import Fault
from kilonova.network.contract import AddressPair, FixedIp, Rule, Segment, WantedGroup, WantedPort
from kilonova.node.vswitch.conntrack import Connection
from kilonova.node.vswitch.flows import still_allowed
from kilonova.node.vswitch.security_groups import link_local, match, sources


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("ingress", "IPv4"), "meta nfproto ipv4 accept"),
        (Rule("ingress", "IPv4", "tcp", 22, 22), "meta nfproto ipv4 meta l4proto 6 th dport 22 accept"),
        (Rule("egress", "IPv6", "udp", 1, 9), "meta nfproto ipv6 meta l4proto 17 th dport 1-9 accept"),
        (Rule("ingress", "IPv4", "", remote_cidr="10.1.2.3/8"), "meta nfproto ipv4 ip saddr 10.0.0.0/8 accept"),
        (Rule("egress", "IPv4", "", remote_cidr="10.0.0.0/8"), "meta nfproto ipv4 ip daddr 10.0.0.0/8 accept"),
        (Rule("ingress", "IPv4", "icmp", 8, 0), "meta nfproto ipv4 meta l4proto 1 icmp type 8 icmp code 0 accept"),
        (Rule("ingress", "IPv6", "icmp", 128), "meta nfproto ipv6 meta l4proto 58 icmpv6 type 128 accept"),
        (Rule("ingress", "IPv4", "112"), "meta nfproto ipv4 meta l4proto 112 accept"),
        (Rule("ingress", "IPv4", "", remote_cidr="0.0.0.0/0"), "meta nfproto ipv4 accept"),
    ],
)
def test_rules(rule: Rule, expected: str) -> None:
    assert match(rule) == expected


@pytest.mark.parametrize(
    "rule",
    [
        Rule("ingress", "IPv4", "tcp", 70000, 70001),
        Rule("ingress", "IPv4", "tcp", 9, 1),
        Rule("ingress", "IPv4", "nonsense; flush ruleset"),
        Rule("ingress", "IPv4", "", remote_cidr="10.0.0.0/8 accept; flush ruleset"),
        Rule("ingress", "IPv4", "", remote_cidr="fd00::/8"),
        Rule("ingress", "IPv4", "icmp", None, 1),
        Rule("ingress", "IPv4", "vrrp", 1, 2),
    ],
)
def test_a_rule_that_cannot_be_is_a_fault(rule: Rule) -> None:
    with pytest.raises(Fault):
        match(rule)


def port(*groups: str) -> WantedPort:
    ips = (FixedIp("10.0.0.5", "s", "10.0.0.0/24"),)
    segment = Segment("vxlan", 1)
    return WantedPort(
        "p", "n", "fa:16:3e:aa:00:01", segment, 1450, ips, "server", "compute:nova", security_groups=groups
    )


def test_sources_hold_addresses_pairs_and_link_local() -> None:
    paired = WantedPort(**{f: getattr(port(), f) for f in WantedPort.__struct_fields__} | {
        "address_pairs": (AddressPair("10.0.0.9/30", ""), AddressPair("fd00::1", "FA:16:3E:BB:00:02"))
    })  # fmt: skip
    found = sources(paired)
    assert ("fa:16:3e:aa:00:01", "10.0.0.5") in found
    assert ("fa:16:3e:aa:00:01", "10.0.0.8/30") in found
    assert ("fa:16:3e:bb:00:02", "fd00::1") in found
    assert ("fa:16:3e:aa:00:01", "fe80::f816:3eff:feaa:1") in found
    assert link_local("fa:16:3e:bb:00:02") == "fe80::f816:3eff:febb:2"


def flow(source: str, destination: str, dport: int, protocol: int = 6) -> Connection:
    ends = ip_address(source), ip_address(destination)
    return Connection(2, 1, protocol, *ends, 40000, dport, 0, 0, ends[1], ends[0], b"")


def test_connections_are_judged_as_the_kernel_judges_new_ones() -> None:
    web = Rule("ingress", "IPv4", "tcp", 80, 90, remote_group="lb")
    groups = {
        "a": WantedGroup("a", True, (web, Rule("egress", "IPv4", "udp", remote_cidr="10.9.0.0/16"))),
        "lb": WantedGroup("lb", True, (), ("10.0.0.7", "10.1.0.0/16")),
    }
    guest = port("a")
    assert still_allowed(guest, groups, flow("10.0.0.7", "10.0.0.5", 80))
    assert still_allowed(guest, groups, flow("10.1.2.3", "10.0.0.5", 90))
    assert not still_allowed(guest, groups, flow("10.0.0.7", "10.0.0.5", 22))
    assert not still_allowed(guest, groups, flow("10.0.0.8", "10.0.0.5", 80))
    assert still_allowed(guest, groups, flow("10.0.0.5", "10.9.1.1", 53, 17))
    assert not still_allowed(guest, groups, flow("10.0.0.5", "10.8.1.1", 53, 17))
    assert still_allowed(guest, groups, flow("10.0.0.8", "10.0.0.9", 22)), "not this port's"
    assert still_allowed(guest, groups, flow("0.0.0.0", "255.255.255.255", 67, 17))
