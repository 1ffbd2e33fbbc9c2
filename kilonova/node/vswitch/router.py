"""Routers as namespaces: legs in tenant networks, a gateway leg, source NAT, floating IPs, the way to metadata."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from ipaddress import ip_address

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.network.contract import WantedRouter
from kilonova.node.vswitch import conntrack, namespace, nft
from kilonova.node.vswitch.advertise import AdvertisedLeg, RouterAdvertiser
from kilonova.node.vswitch.announce import announce
from kilonova.node.vswitch.links import Links
from kilonova.node.vswitch.linux import LinuxVirtualSwitch
from kilonova.node.vswitch.metadata_proxy import MetadataProxy
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads
from kilonova.node.vswitch.netlink import NetlinkError
from kilonova.node.vswitch.router_rules import METADATA_PORT, routes, rules, table_name

log = logging.getLogger(__name__)


class LinuxRouters:
    """The routers of one host. A change touches only what differs; what flows goes on."""

    def __init__(
        self,
        world: World,
        threads: NamespaceThreads,
        names: Names,
        switch: LinuxVirtualSwitch,
        proxy: MetadataProxy | None = None,
    ) -> None:
        self._world, self._threads, self._names, self._switch = world, threads, names, switch
        self._proxy = proxy
        self.advertiser = RouterAdvertiser(world, threads)
        self._lock = asyncio.Lock()

    async def apply(self, wanted: list[WantedRouter], gone: list[str], *, full: bool) -> None:
        async with self._lock:
            failed = []
            for router in wanted:
                try:
                    if router.admin_state_up:
                        await self._build(router)
                    else:
                        await self._remove(self._names.router_namespace(router.id))
                except (NetlinkError, OSError, Fault, ValueError) as error:
                    log.warning("router %s was not built: %r", router.id, error)
                    failed.append(router.id)
            for router_id in gone:
                await self._remove(self._names.router_namespace(router_id))
            if full:
                keep = {self._names.router_namespace(router.id) for router in wanted}
                for name in await self._ours():
                    if name not in keep:
                        await self._remove(name)
            if failed:
                raise unavailable(f"{len(failed)} router(s) were not built.", inside=", ".join(failed))

    async def purge(self) -> None:
        async with self._lock:
            for name in await self._ours():
                await self._remove(name)

    async def _ours(self) -> list[str]:
        """Namespaces of routers that this host made: each is marked with the host's own name."""
        found = []
        for name in await self._world.blocking(namespace.names, f"{self._names.prefix}r"):
            if await self._threads.run_in(name, _owner) == self._mark:
                found.append(name)
        return found

    @property
    def _mark(self) -> str:
        return f"host {self._names.host}"

    async def _build(self, router: WantedRouter) -> None:
        name = self._names.router_namespace(router.id)
        if await self._world.blocking(namespace.create, name):
            await self._threads.run_in(name, _prepare, self._mark)
        legs = []
        for leg in router.interfaces:
            legs.append(await self._switch.plug_leg(leg.port, name, leg.addresses))
        gateway_leg = ""
        if router.gateway:
            floating = [f"{ip.floating_ip}/32" for ip in router.floating_ips]
            addresses = list(dict.fromkeys([*router.gateway.addresses, *floating]))
            gateway_leg = await self._switch.plug_leg(router.gateway.port, name, addresses)
        await self._unplug_others(name, {*legs, gateway_leg})
        advertised = [
            AdvertisedLeg(inner, leg.port.mac, leg.port.mtu)
            for inner, leg in zip(legs, router.interfaces, strict=True)
            if leg.advertise
        ]
        await self.advertiser.serve(name, advertised)
        await self._threads.run_in(name, _translate, table_name(self._names.prefix), router, gateway_leg)
        if self._proxy and not self._proxy.listens(name):
            listener = await self._threads.listen("0.0.0.0", METADATA_PORT, namespace=name)
            await self._proxy.listen(name, listener, router_id=router.id)

    async def _unplug_others(self, name: str, wanted: Iterable[str]) -> None:
        for leg in await self._threads.run_in(name, _legs, f"{self._names.prefix}i"):
            if leg not in wanted:
                await self._switch.unplug_inner(leg)

    async def _remove(self, name: str) -> None:
        if self._proxy:
            await self._proxy.forget(name)
        await self.advertiser.forget(name)
        if await self._world.blocking(namespace.exists, name):
            await self._unplug_others(name, ())
            await self._world.blocking(namespace.delete, name)


def _prepare(mark: str) -> None:
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        namespace.set_sysctl(key, 1)
    for key in ("net/ipv6/conf/default/accept_dad", "net/ipv6/conf/all/accept_dad"):
        namespace.set_sysctl(key, 0)
    with Links() as links:
        links.remark("lo", mark)


def _owner() -> str:
    with Links() as links:
        return links.need("lo").alias


def _legs(prefix: str) -> list[str]:
    with Links() as links:
        return sorted(links.all(prefix))


def _translate(table: str, router: WantedRouter, gateway_leg: str) -> None:
    before: dict[str, str] = dict(nft.elements("ip", table, "map", "to_fixed"))
    now = {ip.floating_ip: ip.fixed_ip for ip in router.floating_ips}
    nft.run(rules(table, router, gateway_leg))
    with Links() as links:
        links.routes(routes(router))
        if gateway_leg and router.gateway:
            new = [address for address in now if address not in before]
            own = [address.partition("/")[0] for address in router.gateway.addresses]
            announce(gateway_leg, router.gateway.port.mac, [ip for ip in [*new, *own] if ":" not in ip])
    lost = {ip_address(floating) for floating, fixed in before.items() if now.get(floating) != fixed}
    moved = {ip_address(fixed) for floating, fixed in now.items() if before.get(floating) != fixed}
    if lost or (moved and before):
        for connection in conntrack.connections():
            if connection.destination in lost or connection.translated_to in lost or connection.source in moved:
                conntrack.cut(connection)
