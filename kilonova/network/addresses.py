"""Addresses as pure functions: CIDRs, pools, positions within a subnet, EUI-64. No database, no clock."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise

from kilonova.base.faults import Fault, conflict, invalid

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Pool = tuple[int, int]  # first and last position, both included
FARTHEST = 1 << 62  # positions beyond this are not counted (only IPv6 has them)
_PARSED = 1024  # texts whose meaning is remembered: parsing one takes sixty calls


def wrong(message: str) -> Fault:
    """Bad input, as network says it."""
    return invalid(f"Invalid input for operation: {message}.", code="InvalidInput")


@lru_cache(_PARSED)
def network(text: str, version: int | None = None) -> Network:
    """The CIDR; host bits are dropped, as network always did."""
    try:
        parsed = ipaddress.ip_network(text, strict=False)
    except (ValueError, TypeError):
        raise wrong(f"{text[:80]!r} is not a valid CIDR") from None
    if version is not None and parsed.version != version:
        raise wrong(f"cidr {text} does not match the ip_version {version}")
    return parsed


@lru_cache(_PARSED)
def address(text: str) -> Address:
    """The address, canonical when written again."""
    try:
        return ipaddress.ip_address(text)
    except (ValueError, TypeError):
        raise wrong(f"{text[:80]!r} is not a valid IP address") from None


def position(subnet: Network, one: Address) -> int | None:
    """How far `one` is from the subnet's first address; None when it is too far to be counted."""
    far = int(one) - int(subnet.network_address)
    return far if 0 <= far < FARTHEST else None


def at(subnet: Network, place: int) -> str:
    """The address at a position."""
    return str(subnet.network_address + place)


def usable(subnet: Network) -> Pool:
    """First and last position that hosts may have. IPv4 up to /30 loses network and broadcast address, IPv6 the
    router anycast one."""
    last = min(subnet.num_addresses - 1, FARTHEST - 1)
    if subnet.version == 4 and subnet.prefixlen < 31:
        return 1, last - 1
    if subnet.version == 6 and subnet.prefixlen < 127:
        return 1, last
    return 0, last


def is_usable(subnet: Network, one: Address) -> bool:
    """Whether a host may have `one` in the subnet."""
    if one not in subnet:
        return False
    place = position(subnet, one)
    first, last = usable(subnet)
    return place is None or first <= place <= last


def default_gateway(subnet: Network) -> str:
    """The first usable address."""
    return at(subnet, usable(subnet)[0])


def default_pools(subnet: Network, gateway: str) -> list[list[str]]:
    """All usable addresses but the gateway, as [first, last] pairs."""
    first, last = usable(subnet)
    spans = [(first, last)]
    if gateway and (one := address(gateway)) in subnet and (hole := position(subnet, one)) is not None:
        spans = [(first, hole - 1), (hole + 1, last)] if first <= hole <= last else spans
    return [[at(subnet, low), at(subnet, high)] for low, high in spans if low <= high]


def pools(subnet: Network, asked: Iterable[tuple[str, str]], gateway: str) -> list[list[str]]:
    """Allocation pools as asked, sorted and checked: inside the subnet, not overlapping, without the gateway."""
    spans = []
    for first, last in asked:
        low, high = address(first), address(last)
        if low.version != subnet.version or high.version != subnet.version or int(low) > int(high):
            raise invalid(f"The allocation pool {first}-{last} is not valid.", code="InvalidAllocationPool")
        if not (is_usable(subnet, low) and is_usable(subnet, high)):
            raise invalid(
                f"The allocation pool {first}-{last} spans beyond the subnet cidr {subnet}.",
                code="OutOfBoundsAllocationPool",
            )
        spans.append((low, high))
    spans.sort(key=lambda span: int(span[0]))
    for (_, high), (low, _) in pairwise(spans):
        if int(low) <= int(high):
            raise conflict(
                f"Found overlapping allocation pools: {high} {low} for subnet {subnet}.",
                code="OverlappingAllocationPools",
            )
    if gateway and any(int(low) <= int(address(gateway)) <= int(high) for low, high in spans):
        raise conflict(
            f"Gateway ip {gateway} conflicts with an allocation pool.", code="GatewayConflictWithAllocationPools"
        )
    return [[str(low), str(high)] for low, high in spans]


def pool_positions(subnet: Network, written: Sequence[Sequence[str]]) -> list[Pool]:
    """Pools as positions; what is too far to be counted is cut off."""
    made = []
    for first, last in written:
        low = position(subnet, address(first))
        if low is not None:
            high = position(subnet, address(last))
            made.append((low, FARTHEST - 1 if high is None else high))
    return made


def search_order(spans: Sequence[Pool], begin: int) -> list[Pool]:
    """The pools to search, from `begin` on and then around to it."""
    after = [(max(low, begin), high) for low, high in spans if high >= begin]
    before = [(low, min(high, begin - 1)) for low, high in spans if low < begin]
    return after + before


def eui64(subnet: Network, mac: str) -> str:
    """The address that a guest gives itself by SLAAC (RFC 4291, appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    identifier = int.from_bytes(bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]]), "big")
    return str(subnet.network_address + identifier)
