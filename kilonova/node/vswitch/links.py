"""Interfaces of one namespace, by netlink: every verb compares first, so that repeating it disturbs no traffic."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from socket import AF_INET
from typing import Any, Final

from kilonova.node.vswitch import namespace
from kilonova.node.vswitch.netlink import IPRoute, NetlinkError

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_FLAG_SELF, _FLAG_MASTER = 0x2, 0x4
_STATIC: Final = 0x40 | 0x02  # noarp, reachable: what `bridge fdb … static` says
FLOOD: Final = "00:00:00:00:00:00"
VXLAN_PORT: Final = 4789
LEG: Final = "leg"  # the alias of the outer end of a DHCP server's or router's leg


@dataclass(frozen=True)
class Link:
    """An interface as the kernel shows it."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    master: int
    kind: str
    peer_is_elsewhere: bool  # a veth end whose other end lives in another namespace
    alias: str = ""


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & 1),
        master=message.get_attr("IFLA_MASTER") or 0,
        kind=(info.get_attr("IFLA_INFO_KIND") if info else "") or "",
        peer_is_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
        alias=message.get_attr("IFLA_IFALIAS") or "",
    )


class Links:
    """The interfaces of the namespace in which this was made. Not for more than one thread."""

    def __init__(self) -> None:
        self._route = IPRoute()
        self._pinned: dict[int, set[str]] | None = None  # one dump serves all ports: the kernel sends everything anyway

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the netlink socket."""
        self._route.close()

    def all(self, prefix: str = "") -> dict[str, Link]:
        """Interfaces by name."""
        found = (_link(message) for message in self._route.get_links())
        return {link.name: link for link in found if link.name.startswith(prefix)}

    def get(self, name: str) -> Link | None:
        """The interface of that name, or None."""
        try:
            answer = list(self._route.link("get", ifname=name))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return _link(answer[0]) if answer else None

    def need(self, name: str) -> Link:
        """The interface of that name, which must be there."""
        if link := self.get(name):
            return link
        raise OSError(errno.ENODEV, f"no interface {name}")

    def delete(self, name: str) -> None:
        """Remove an interface; a veth end takes its other end along. One that is gone is fine."""
        if link := self.get(name):
            try:
                self._route.link("del", index=link.index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise

    def shape(self, name: str, *, mtu: int = 0, mac: str = "", master: str = "", up: bool = True) -> Link:
        """Give the interface its size, address, bridge and state, where they differ."""
        link = self.need(name)
        if mac and link.mac != mac.lower():
            self._route.link("set", index=link.index, address=mac)
        if mtu and link.mtu != mtu:
            self._route.link("set", index=link.index, mtu=mtu)
        if master and link.master != (bridge := self.need(master).index):
            self._route.link("set", index=link.index, master=bridge)
        if link.up != up:
            self._route.link("set", index=link.index, state="up" if up else "down")
        return link

    def bridge(self, name: str, mtu: int) -> Link:
        """A bridge that forwards at once, learns, snoops nothing, and has no address."""
        if not self.get(name):
            self._route.link(
                "add", ifname=name, kind="bridge", br_forward_delay=0, br_ageing_time=30000, br_mcast_snooping=0
            )
            _quiet(name)
        return self.shape(name, mtu=mtu)

    def vxlan(self, name: str, vni: int, local: str, mtu: int) -> Link:
        """A tunnel that learns nothing: its table is what `forward` says."""
        if not self.get(name):
            family = "vxlan_local6" if ":" in local else "vxlan_local"
            self._route.link(
                "add",
                ifname=name,
                kind="vxlan",
                vxlan_id=vni,
                vxlan_port=VXLAN_PORT,
                vxlan_learning=0,
                vxlan_ttl=64,
                **{family: local},
            )
            _quiet(name)
        return self.shape(name, mtu=mtu)

    def vlan(self, name: str, parent: str, tag: int, mtu: int) -> Link:
        """A tagged leg of `parent`."""
        if not self.get(name):
            self._route.link("add", ifname=name, kind="vlan", link=self.need(parent).index, vlan_id=tag)
            _quiet(name)
        return self.shape(name, mtu=mtu)

    def tap(self, name: str, owner: int) -> None:
        """A tap that stays without a process, openable by user id `owner`; an interface that is there is kept."""
        if self.get(name):
            return
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            fcntl.ioctl(descriptor, _TUNSETOWNER, owner)
            fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
        finally:
            os.close(descriptor)
        _quiet(name)

    def veth(self, name: str, peer: str, *, alias: str = "") -> None:
        """A pair of interfaces; one that is there is kept. `alias` is a remark on the first end."""
        if not self.get(name):
            self._route.link("add", ifname=name, kind="veth", peer={"ifname": peer})
            _quiet(name)
            if alias:
                self.remark(name, alias)

    def macvlan(self, name: str, parent: str) -> None:
        """Another interface on the same wire as `parent`, with its own MAC."""
        if not self.get(name):
            mode = "bridge"
            index = self.need(parent).index
            self._route.link("add", ifname=name, kind="macvlan", link=index, macvlan_mode=mode)

    def remark(self, name: str, alias: str) -> None:
        """Leave a remark on an interface (its alias)."""
        self._route.link("set", index=self.need(name).index, ifalias=alias)

    def move(self, name: str, to_namespace: str) -> None:
        """Move an interface to another namespace; one that is not here has moved before."""
        if link := self.get(name):
            with open(namespace.DIRECTORY / to_namespace, "rb") as target:
                self._route.link("set", index=link.index, net_ns_fd=target.fileno())

    def port(self, name: str, *, learning: bool) -> None:
        """Whether the bridge learns addresses from this port of it."""
        self._route.brport("set", index=self.need(name).index, learning=int(learning))

    def forward(self, name: str, wanted: Iterable[tuple[str, str]]) -> None:
        """Make a tunnel's table exactly these (MAC, peer) pairs; FLOOD is for all that is not listed."""
        index, there = self.need(name).index, set()
        for entry in self._route.fdb("dump", ifindex=index):
            if destination := entry.get_attr("NDA_DST"):
                there.add((entry.get_attr("NDA_LLADDR"), destination))
        should = {(mac.lower(), peer) for mac, peer in wanted}
        for mac, peer in sorted(there - should):
            self._route.fdb("del", ifindex=index, lladdr=mac, dst=peer)
        for mac, peer in sorted(should - there):
            self._route.fdb("append", ifindex=index, lladdr=mac, dst=peer)

    def pin(self, name: str, macs: Iterable[str]) -> None:
        """Make the bridge's static entries behind its port `name` exactly these."""
        index = self.need(name).index
        there = self._pins().setdefault(index, set())
        should = {mac.lower() for mac in macs}
        for mac in sorted(there - should):
            self._route.fdb("del", ifindex=index, lladdr=mac, flags=_FLAG_MASTER, state=_STATIC)
        for mac in sorted(should - there):
            self._route.fdb("replace", ifindex=index, lladdr=mac, flags=_FLAG_MASTER, state=_STATIC)
            for others in self._pins().values():
                others.discard(mac)
        self._pins()[index] = should

    def _pins(self) -> dict[int, set[str]]:
        if self._pinned is None:
            self._pinned = {}
            for entry in self._route.fdb("dump"):
                if entry["state"] == _STATIC and entry.get_attr("NDA_MASTER"):
                    self._pinned.setdefault(entry["ifindex"], set()).add(entry.get_attr("NDA_LLADDR"))
        return self._pinned

    def addresses(self, name: str, wanted: Iterable[str]) -> list[str]:
        """Make the interface's global addresses exactly these (address/length). Returns those that are new."""
        index, there = self.need(name).index, set()
        for message in self._route.get_addr(index=index):
            if message["scope"] == 253:  # link-local: the kernel's own
                continue
            there.add(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")
        should = {str(ip_interface(text)) for text in wanted}
        for text in sorted(there - should):
            address, _, length = text.partition("/")
            self._route.addr("del", index=index, address=address, prefixlen=int(length))
        new = sorted(should - there)
        for text in new:
            address, _, length = text.partition("/")
            flags = {"flags": 0x2} if ":" in address else {}  # nodad: the control plane gave it to nobody else
            self._route.addr("add", index=index, address=address, prefixlen=int(length), **flags)
        return new

    def own_addresses(self) -> list[str]:
        """Every IPv4 address of this namespace's interfaces, without its length."""
        return sorted({str(message.get_attr("IFA_LOCAL")) for message in self._route.get_addr(family=AF_INET)})

    def routes(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Make the static routes (destination, next hop) of the namespace exactly these."""
        there = set()
        for message in self._route.get_routes(table=254):
            hop = message.get_attr("RTA_GATEWAY")
            if hop and message["proto"] == 4:  # static
                zero = "::" if message["family"] == 10 else "0.0.0.0"
                there.add((f"{message.get_attr('RTA_DST') or zero}/{message['dst_len']}", hop))
        should = set(wanted)
        for destination, hop in sorted(there - should):
            self._route.route("del", dst=destination, gateway=hop)
        for destination, hop in sorted(should - there):
            self._route.route("replace", dst=destination, gateway=hop, proto=4)

    def reach(self, destination: str, *, via: str, device: str, source: str) -> None:
        """Send what is for `destination` to `via`, which answers on `device`, replacing any route of that name."""
        index = self.need(device).index
        on_link = 4
        self._route.route("replace", dst=destination, gateway=via, oif=index, prefsrc=source, flags=on_link, proto=4)

    def refuse(self, destination: str) -> None:
        """Answer "unreachable" for `destination` instead of sending it by the default route."""
        self._route.route("replace", dst=destination, type="unreachable", proto=4)

    def leads(self, destination: str) -> str | None:
        """The interface by which exactly `destination` is reached, "" when it is refused, None without a route."""
        net = ip_network(destination)
        for message in self._route.get_routes(family=10 if net.version == 6 else 2, table=254):
            if (message.get_attr("RTA_DST"), message["dst_len"]) == (str(net.network_address), net.prefixlen):
                index = message.get_attr("RTA_OIF")
                names = {link.index: link.name for link in self.all().values()} if index else {}
                return names.get(index, "")
        return None

    def forget(self, destination: str) -> None:
        """Remove the route for exactly `destination`, if there is one."""
        try:
            self._route.route("del", dst=destination)
        except NetlinkError as error:
            if error.code != errno.ESRCH:
                raise


def _quiet(name: str) -> None:
    """The host itself says nothing on this interface."""
    namespace.set_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
