"""Networks without a network: the three ports with everything up at once. For simulation and for machines without root.

They keep what is wanted, so that a checker can compare it with the books, and cost O(1) per port.
"""

from __future__ import annotations

from kilonova.network.contract import Vtep, WantedDhcp, WantedGroup, WantedL2, WantedPort, WantedRouter
from kilonova.node.vswitch.metadata_proxy import Find
from kilonova.node.vswitch.names import Names


class FakeVirtualSwitch:
    """A VirtualSwitch whose ports are up as soon as they are wanted."""

    def __init__(self, prefix: str = "fake", host: str = "host") -> None:
        self.names = Names(prefix, host)
        self.ports: dict[str, WantedPort] = {}
        self.groups: dict[str, WantedGroup] = {}
        self.vteps: dict[str, dict[str, Vtep]] = {}  # network id → tunnel address → VTEP

    def tap_name(self, port_id: str) -> str:
        return self.names.tap(port_id)

    async def apply(self, wanted: WantedL2) -> tuple[list[str], list[str]]:
        gone = list(wanted.gone_ports)
        if wanted.full:
            listed = {port.id for port in wanted.ports}
            gone += [id_ for id_ in self.ports if id_ not in listed and id_ not in wanted.gone_ports]
            self.groups, self.vteps = {}, {}
        for id_ in gone:
            self.ports.pop(id_, None)
        self.ports.update((port.id, port) for port in wanted.ports)
        self.groups.update((group.id, group) for group in wanted.groups)
        for network_id in {port.network_id for port in wanted.ports} | {vtep.network_id for vtep in wanted.vteps}:
            self.vteps[network_id] = {}
        for vtep in wanted.vteps:
            self.vteps[vtep.network_id][vtep.tunnel_ip] = vtep
        up = [port.id for port in wanted.ports if port.admin_state_up]
        return up, gone + [port.id for port in wanted.ports if not port.admin_state_up]

    async def purge(self) -> None:
        self.ports, self.groups, self.vteps = {}, {}, {}


class FakeDhcpServers:
    """DhcpServers that keep what is wanted."""

    def __init__(self) -> None:
        self.servers: dict[str, WantedDhcp] = {}

    async def apply(self, wanted: list[WantedDhcp], gone: list[str], *, full: bool) -> None:
        if full:
            self.servers = {}
        for network_id in gone:
            self.servers.pop(network_id, None)
        self.servers.update((server.network_id, server) for server in wanted)

    async def purge(self) -> None:
        self.servers = {}


class FakeRouters:
    """Routers that keep what is wanted."""

    def __init__(self) -> None:
        self.routers: dict[str, WantedRouter] = {}

    async def apply(self, wanted: list[WantedRouter], gone: list[str], *, full: bool) -> None:
        if full:
            self.routers = {}
        for router_id in gone:
            self.routers.pop(router_id, None)
        self.routers.update((router.id, router) for router in wanted)

    async def purge(self) -> None:
        self.routers = {}


class FakeMetadataProxy:
    """A metadata proxy that nobody calls; `find` is the agent's."""

    def __init__(self) -> None:
        self.find: Find | None = None
