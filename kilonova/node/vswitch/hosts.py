"""The namespaces of a cloud's hosts on one machine, and the wire between them. Blocking; may be repeated."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.node.vswitch import namespace
from kilonova.node.vswitch.links import Links

UNDERLAY_MTU = 1600  # room for a tunnel's 50 bytes (70 over IPv6) around a guest's 1500


def host_namespace(prefix: str, number: int) -> str:
    """The namespace of a cloud's host, counted from 1."""
    return f"{prefix}h{number}"


def connect(prefix: str, addresses: Mapping[str, str]) -> None:
    """Make the hosts' namespaces and join them: namespace name → tunnel address/length, all in one subnet.

    The wire is a bridge in the namespace `PREFIXu`; nothing of it is in the machine's root namespace.
    """
    middle, bridge, inner = f"{prefix}u", f"{prefix}ub", f"{prefix}un"
    namespace.create(middle)
    for name, address in addresses.items():
        namespace.create(name)
        outer = f"{prefix}u{name[len(prefix) :]}"[:15]
        with namespace.visiting(middle), Links() as links:
            links.bridge(bridge, UNDERLAY_MTU)
            links.veth(outer, inner)
            if not links.need(outer).peer_is_elsewhere:
                links.move(inner, name)
            links.shape(outer, mtu=UNDERLAY_MTU, master=bridge)
        with namespace.visiting(name), Links() as links:
            links.shape(inner, mtu=UNDERLAY_MTU)
            links.addresses(inner, [address])


def purge(prefix: str) -> None:
    """Remove every namespace of the cloud, and what the machine's root namespace has of it."""
    for name in namespace.names(prefix):
        namespace.delete(name)
    with Links() as links:
        for name in links.all(prefix):
            links.delete(name)
