"""The external network of a cloud on one machine, and the one wire from it to the machine's root namespace.

    root namespace          edge namespace PREFIXe                 network host's namespace
    PREFIXrt ────────────── PREFIXer   PREFIXei ────────────────── PREFIXeo ─ bridge PREFIXex ─ routers' gateways
    route: range → edge     gateway address on PREFIXei

The machine reaches floating addresses; guests do not reach the machine: the edge lets only answers back. Root gets one
interface and one route, no sysctl and no rule. Before its wire is there the route says unreachable, so that no packet
for a floating address leaves by the machine's default route. Blocking: for a thread that is in the root namespace.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Final

from kilonova.base.faults import conflict, invalid
from kilonova.node.vswitch import namespace, nft, way_out
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.names import link_addresses

RUN: Final = Path("/run/kilonova")


@dataclass(frozen=True)
class Uplink:
    """A way out for guests: a MAC of our own on the wire of `interface`, with an address that its network gave us; with
    no interface through the machine's own connections (way_out.py)."""

    interface: str
    address: str  # address/length
    gateway: str


def through_machine() -> Uplink:
    """The way out that needs nothing of the machine."""
    return Uplink("", way_out.ADDRESS, way_out.GATEWAY)


def external_bridge(prefix: str) -> str:
    """The bridge of the external network in the network host's namespace."""
    return f"{prefix}ex"


def edge_namespace(prefix: str) -> str:
    """The namespace between the machine and the external network."""
    return f"{prefix}e"


def connect_root(prefix: str, host_namespace: str, cidr: str, gateway_ip: str, uplink: str | Uplink = "none") -> None:
    """Make the external network and join the machine to it. May be repeated; traffic flows on."""
    way = _uplink(uplink)
    if way is None or way.interface:
        way_out.stop(nat_home(prefix))
    net = ip_network(cidr)
    edge, bridge = edge_namespace(prefix), external_bridge(prefix)
    root_ip, edge_ip = link_addresses(prefix)
    with Links() as links:
        if other := _others_way(links, prefix, cidr):
            raise conflict(
                f"This machine reaches {cidr} through {other}: two clouds must not share a floating range.",
                hint="Take that cloud down, or start this one in a new state directory: it takes a range that is free.",
            )
        if not links.get(f"{prefix}rt"):
            links.refuse(cidr)
    namespace.create(edge)
    with namespace.visiting(host_namespace), Links() as links:
        links.bridge(bridge, 1500)
        links.veth(f"{prefix}eo", f"{prefix}ei")
        links.move(f"{prefix}ei", edge)
        links.shape(f"{prefix}eo", master=bridge)
    with Links() as links:
        links.veth(f"{prefix}rt", f"{prefix}er")
        links.move(f"{prefix}er", edge)
        links.shape(f"{prefix}rt")
        links.addresses(f"{prefix}rt", [f"{root_ip}/31"])
        if way and way.interface and not _inside(edge, f"{prefix}up"):
            links.macvlan(f"{prefix}up", way.interface)
            links.move(f"{prefix}up", edge)
    if way and not way.interface:
        way_out.ensure(edge, f"{prefix}up", nat_home(prefix))
    closed = way_out.closed_now() if way and not way.interface else []
    with namespace.visiting(edge):
        _build_edge(prefix, f"{gateway_ip}/{net.prefixlen}", f"{edge_ip}/31", way)
        nft.run(closed_rules(prefix, closed))
    with Links() as links:
        links.reach(cidr, via=edge_ip, device=f"{prefix}rt", source=root_ip)


def nat_home(prefix: str) -> Path:
    """Where the files of the program are by which guests go out through the machine."""
    return RUN / prefix / "way-out"


def keep_way_out(prefix: str) -> None:
    """The program runs, and guests do not reach by it what the machine calls itself now. For `through_machine` only."""
    edge = edge_namespace(prefix)
    way_out.ensure(edge, f"{prefix}up", nat_home(prefix))
    closed = way_out.closed_now()
    with namespace.visiting(edge):
        with Links() as links:
            _set_up(links, prefix, through_machine())
        nft.run(closed_rules(prefix, closed))


def attach(prefix: str, interface: str) -> None:
    """The external network's bridge in this namespace, with the network's own wire `interface` plugged into it.

    Routers' gateways are plugged beside it. The interface keeps no address of the machine's: its network is the users'.
    """
    with Links() as links:
        links.bridge(external_bridge(prefix), 1500)
        if links.get(interface) is None:
            raise invalid(
                f"There is no interface {interface!r} on this host.", hint="Mend [cluster] external_interface."
            )
        links.shape(interface, master=external_bridge(prefix))


def _others_way(links: Links, prefix: str, cidr: str) -> str:
    """The interface that is not this cloud's and by which the machine reaches its range; "" when there is none."""
    device = links.leads(cidr) or ""
    return "" if device == f"{prefix}rt" else device


def _uplink(uplink: str | Uplink) -> Uplink | None:
    if uplink == "none":
        return None
    if isinstance(uplink, str):
        raise invalid(
            f"Uplink {uplink!r} needs an address of its own on that network.",
            hint="Give its address/length and gateway: we take no address by DHCP and change no rule of the machine.",
        )
    ip_interface(uplink.address)
    return uplink


def _inside(edge: str, name: str) -> bool:
    with namespace.visiting(edge), Links() as links:
        return links.get(name) is not None


def _build_edge(prefix: str, gateway: str, edge_address: str, way: Uplink | None) -> None:
    namespace.set_sysctl("net/ipv4/ip_forward", 1)
    nft.run(edge_rules(prefix))
    with Links() as links:
        links.shape(f"{prefix}ei")
        links.addresses(f"{prefix}ei", [gateway])
        links.shape(f"{prefix}er")
        links.addresses(f"{prefix}er", [edge_address])
        if way:
            _set_up(links, prefix, way)


def _set_up(links: Links, prefix: str, way: Uplink) -> None:
    links.shape(f"{prefix}up")
    links.addresses(f"{prefix}up", [way.address])
    links.routes([("0.0.0.0/0", way.gateway)])


def edge_rules(prefix: str) -> str:
    """The edge's rules: the machine may begin, guests may go out by the uplink only."""
    table, external, root, up = f"{prefix}ed", f'"{prefix}ei"', f'"{prefix}er"', f'"{prefix}up"'
    return "\n".join(
        [
            f"add table ip {table}",
            f"add chain ip {table} forward {{ type filter hook forward priority 0 ; policy drop ; }}",
            f"add chain ip {table} input {{ type filter hook input priority 0 ; policy drop ; }}",
            f"add chain ip {table} postrouting {{ type nat hook postrouting priority srcnat ; }}",
            f"add set ip {table} closed {{ type ipv4_addr ; flags interval ; auto-merge ; }}",
            f"flush table ip {table}",
            f"add rule ip {table} forward ct state established,related accept",
            f"add rule ip {table} forward iifname {root} oifname {external} accept",
            f"add rule ip {table} forward oifname {up} ip daddr @closed drop",
            f"add rule ip {table} forward iifname {external} oifname {up} accept",
            f"add rule ip {table} input ct state established,related accept",
            f"add rule ip {table} input ip protocol icmp accept",
            f"add rule ip {table} postrouting oifname {external} iifname {root} masquerade",
            f"add rule ip {table} postrouting oifname {up} masquerade",
        ]
    )


def closed_rules(prefix: str, closed: list[str]) -> str:
    """Guests reach none of these by the uplink."""
    table = f"{prefix}ed"
    lines = [f"flush set ip {table} closed"]
    if closed:
        lines.append(f"add element ip {table} closed {{ {', '.join(closed)} }}")
    return "\n".join(lines)


def disconnect_root(prefix: str, cidr: str) -> None:
    """Take the wire, the route and the edge away. What is gone is fine; what is another cloud's stays."""
    way_out.stop(nat_home(prefix))
    shutil.rmtree(nat_home(prefix), ignore_errors=True)
    with contextlib.suppress(OSError):  # the cloud has other files there, or none at all
        nat_home(prefix).parent.rmdir()
    with Links() as links:
        ours = not _others_way(links, prefix, cidr)
        if ours:
            links.refuse(cidr)
        links.delete(f"{prefix}rt")
        if ours:
            links.forget(cidr)
    namespace.delete(edge_namespace(prefix))
