"""VirtualSwitch on Linux bridges and VXLAN: a bridge per network, a tap per guest's port, a veth leg per service's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from kilonova.base.faults import Fault, invalid
from kilonova.network.contract import Vtep, WantedL2, WantedPort
from kilonova.node.vswitch import namespace as netns
from kilonova.node.vswitch.filters import PortAt, PortFilters
from kilonova.node.vswitch.links import FLOOD, LEG, Links
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads
from kilonova.node.vswitch.netlink import NetlinkError

log = logging.getLogger(__name__)


class LinuxVirtualSwitch:
    """Layer 2 of one host, in the host's namespace.

    `physical` maps physical networks to a bridge that is there (an external network's), or to an interface, which
    is put into a bridge of its own. `tap_owner` is the user id that QEMU runs as.
    """

    def __init__(
        self,
        namespace: NamespaceThreads,
        names: Names,
        *,
        tunnel_ip: str = "",
        physical: Mapping[str, str] | None = None,
        tap_owner: int = 0,
    ) -> None:
        self._namespace, self._names = namespace, names
        self._tunnel_ip, self._physical, self._tap_owner = tunnel_ip, dict(physical or {}), tap_owner
        self._filters = PortFilters(names.prefix)
        self._ports: dict[str, WantedPort] = {}
        self._legs: dict[str, WantedPort] = {}  # of routers and DHCP servers, known before or after their ports
        self._prepared = False
        self._lock = asyncio.Lock()

    def tap_name(self, port_id: str) -> str:
        return self._names.tap(port_id)

    async def apply(self, wanted: WantedL2) -> tuple[list[str], list[str]]:
        async with self._lock:
            return await self._namespace.run(self._apply, wanted)

    async def purge(self) -> None:
        async with self._lock:
            await self._namespace.run(self._purge)

    async def plug_leg(self, port: WantedPort, into: str, addresses: Iterable[str]) -> str:
        """Give the namespace `into` (a DHCP server's, a router's) its leg on a port; answers the leg's name in it."""
        async with self._lock:
            await self._namespace.run(self._make_leg, port, into)
            self._legs[port.id] = port
        await self._namespace.run_in(into, self._shape_leg, port, list(addresses))
        return self._names.inner(port.id)

    async def unplug_leg(self, port_id: str) -> None:
        """Remove a leg, and its network's bridge when nothing else is plugged into it."""
        async with self._lock:
            await self._namespace.run(self._remove_leg, port_id)

    async def unplug_inner(self, inner: str) -> None:
        """Remove the leg whose inner end has this name: for one that an earlier life of ours plugged."""
        outer = self._names.prefix + "t" + inner[len(self._names.prefix) + 1 :]
        for port_id in list(self._legs):
            if self._names.tap(port_id) == outer:
                return await self.unplug_leg(port_id)
        async with self._lock:
            await self._namespace.run(_delete_link, outer)
        return None

    def _make_leg(self, port: WantedPort, into: str) -> None:
        name, bridge = self._names.tap(port.id), self.bridge_of(port)
        with Links() as links:
            self._build_network(links, port, bridge)
            links.veth(name, self._names.inner(port.id), alias=LEG)
            links.move(self._names.inner(port.id), into)
            links.shape(name, mtu=port.mtu, master=bridge)
            links.port(name, learning=False)
            links.pin(name, [port.mac])

    def _shape_leg(self, port: WantedPort, addresses: list[str]) -> None:
        name = self._names.inner(port.id)
        for key, value in (("accept_ra", 0), ("accept_dad", 0), ("disable_ipv6", 0)):
            netns.set_sysctl(f"net/ipv6/conf/{name}/{key}", value)
        with Links() as links:
            links.shape(name, mtu=port.mtu, mac=port.mac)
            links.addresses(name, addresses)

    def _remove_leg(self, port_id: str) -> None:
        with Links() as links:
            links.delete(self._names.tap(port_id))
            if (port := self._legs.pop(port_id, None)) and port_id not in self._ports:
                self._remove_unused(links, [port.network_id], full=False)

    def bridge_of(self, port: WantedPort) -> str:
        """The bridge that a port's network has on this host."""
        if port.segment.type == "flat":
            target = self._physical.get(port.segment.physical_network, "")
            if target.startswith(self._names.prefix):
                return target
        return self._names.bridge(port.network_id)

    def _apply(self, wanted: WantedL2) -> tuple[list[str], list[str]]:
        with Links() as links:
            self._prepare()
            gone = set(wanted.gone_ports)
            if wanted.full:
                gone |= set(self._ports) - {port.id for port in wanted.ports}
            for port_id in gone:
                links.delete(self._names.tap(port_id))
            plugged = [PortAt(port, self._names.tap(port.id), self.bridge_of(port)) for port in wanted.ports]
            refused = self._filters.apply(plugged, gone, wanted.groups, full=wanted.full)
            networks_left = {port.network_id for id_, port in self._ports.items() if id_ in gone}
            self._ports = {} if wanted.full else {id_: p for id_, p in self._ports.items() if id_ not in gone}
            self._ports.update((port.id, port) for port in wanted.ports)
            up = [at.port.id for at in plugged if at.port.id not in refused and self._plug(links, at)]
            self._connect_peers(links, wanted)
            self._remove_unused(links, networks_left, full=wanted.full)
        down = [port.id for port in wanted.ports if not port.admin_state_up]
        return up, sorted(gone) + down

    def _prepare(self) -> None:
        """Hand bridged IP frames to the inet hooks: sysctls of this host's namespace only."""
        if not self._prepared:
            for name, value in (("iptables", 1), ("ip6tables", 1), ("arptables", 0)):
                netns.set_sysctl(f"net/bridge/bridge-nf-call-{name}", value)
            self._prepared = True

    def _plug(self, links: Links, at: PortAt) -> bool:
        """Build one port; a port that cannot be built is logged, and the others go on."""
        port, name = at.port, at.interface
        try:
            self._build_network(links, port, at.bridge)
            if port.device_owner.startswith("network:"):
                links.veth(name, self._names.inner(port.id), alias=LEG)
            else:
                links.tap(name, self._tap_owner)
            links.shape(name, mtu=port.mtu, master=at.bridge, up=port.admin_state_up)
            if port.admin_state_up:
                macs = {port.mac.lower()} | {pair.mac.lower() for pair in port.address_pairs if pair.mac}
                links.port(name, learning=not port.port_security or len(macs) > 1)
                links.pin(name, [port.mac])
        except (NetlinkError, OSError, Fault) as error:
            log.warning("port %s was not built: %r", port.id, error)
            return False
        return port.admin_state_up

    def _build_network(self, links: Links, port: WantedPort, bridge: str) -> None:
        segment = port.segment
        if segment.type == "flat" and bridge == self._physical.get(segment.physical_network):
            links.need(bridge)
            return
        links.bridge(bridge, port.mtu)
        if segment.type == "vxlan":
            if not self._tunnel_ip:
                raise invalid("This host has no tunnel address.", hint="Set its tunnel_ip.")
            tunnel = self._names.vxlan(port.network_id)
            links.vxlan(tunnel, segment.id, self._tunnel_ip, port.mtu)
            links.shape(tunnel, master=bridge)
            links.port(tunnel, learning=False)
        elif segment.type in ("flat", "vlan"):
            parent = self._physical.get(segment.physical_network)
            if not parent:
                raise invalid(f"Physical network {segment.physical_network!r} is not mapped on this host.")
            leg = parent
            if segment.type == "vlan":
                leg = self._names.vxlan(port.network_id)
                links.vlan(leg, parent, segment.id, port.mtu)
            links.shape(leg, master=bridge)

    def _connect_peers(self, links: Links, wanted: WantedL2) -> None:
        """Write the tunnels' tables: unicast to the host that has the MAC, everything else to every peer."""
        told: dict[str, list[Vtep]] = {port.network_id: [] for port in wanted.ports if port.segment.type == "vxlan"}
        for vtep in wanted.vteps:
            told.setdefault(vtep.network_id, []).append(vtep)
        here = {port.mac.lower() for port in self._ports.values()}
        for network_id, vteps in told.items():
            tunnel = self._names.vxlan(network_id)
            if not links.get(tunnel):
                continue
            peers = [vtep for vtep in vteps if vtep.tunnel_ip != self._tunnel_ip]
            macs = [(mac.lower(), vtep.tunnel_ip) for vtep in peers for mac in vtep.macs if mac.lower() not in here]
            links.forward(tunnel, macs + [(FLOOD, vtep.tunnel_ip) for vtep in peers])
            links.pin(tunnel, [mac for mac, _ in macs])

    def _remove_unused(self, links: Links, network_ids: Iterable[str], *, full: bool) -> None:
        used = {port.network_id for port in [*self._ports.values(), *self._legs.values()]}
        for network_id in set(network_ids) - used:
            links.delete(self._names.vxlan(network_id))
            links.delete(self._names.bridge(network_id))
        if not full:
            return
        plugged = [*self._ports, *self._legs]
        keep = {self._names.tap(id_) for id_ in plugged} | {self._names.inner(id_) for id_ in plugged}
        for network_id in used:
            keep |= {self._names.vxlan(network_id), self._names.bridge(network_id)}
        keep |= set(self._physical.values())
        for name, link in links.all(self._names.prefix).items():
            kind = name[len(self._names.prefix) :][:1]
            if name not in keep and kind in "tbxi" and not (link.alias == LEG and link.peer_is_elsewhere):
                links.delete(name)

    def _purge(self) -> None:
        with Links() as links:
            for name in links.all(self._names.prefix):
                if name[len(self._names.prefix) :][:1] in "tbxi" and name not in self._physical.values():
                    links.delete(name)
        self._filters.purge()
        self._ports, self._legs = {}, {}


def _delete_link(name: str) -> None:
    with Links() as links:
        links.delete(name)
