"""The DHCP agent: the DHCP servers of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler
from kilonova.network import contract
from kilonova.node.agents.frame import Agent, AgentSettings, Changed

GONE_KEPT = 1000  # ports of a network that are remembered as gone


class DhcpAgent(Agent):
    """Builds a DHCP server per network with a DhcpServers adapter."""

    agent_type = "DHCP agent"
    binary = "kilonova-dhcp-agent"
    topic = contract.DHCP_TOPIC

    def __init__(
        self, world: World, bus: Bus, host: str, adapter: contract.DhcpServers, settings: AgentSettings | None = None
    ) -> None:
        super().__init__(world, bus, host, settings)
        self.servers = adapter
        self._known: dict[str, contract.WantedDhcp] = {}  # by network, as last fetched
        self._leases: dict[str, dict[str, contract.DhcpHost]] = {}  # network → port → what it is told
        self._news: dict[tuple[str, str], contract.DhcpHost] = {}  # (network, port) → what was cast since

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.DhcpAgent, self)

    async def dhcp_changed(self, network_ids: list[str], leases: list[contract.Lease]) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        for lease in leases:
            key = (lease.network_id, lease.host.port_id)
            if _is_later(lease.host, self._news.get(key)):
                self._news[key] = lease.host
        self.pending.add([("network", id_) for id_ in network_ids] + [("lease", lease.network_id) for lease in leases])

    async def build(self, changed: set[Changed] | None) -> None:
        if changed is None:
            wanted = await self.plugin.wanted_dhcp(self.host, None)
            self._forget(self._known.keys() - {server.network_id for server in wanted})
            self._learn(wanted)
            self._hear()
            await self.servers.apply(list(self._known.values()), [], full=True)
            return
        leased = {id_ for kind, id_ in changed if kind == "lease"}
        asked = {id_ for kind, id_ in changed if kind == "network"} | (leased - self._known.keys())
        fetched = await self.plugin.wanted_dhcp(self.host, sorted(asked)) if asked else []
        gone = asked - {server.network_id for server in fetched}
        self._forget(gone)
        self._learn(fetched)
        self._hear()
        built = sorted((asked | leased) - gone)
        await self.servers.apply([self._known[id_] for id_ in built], sorted(gone), full=False)

    def _forget(self, network_ids: Iterable[str]) -> None:
        for network_id in network_ids:
            self._known.pop(network_id, None)
            self._leases.pop(network_id, None)

    def _learn(self, fetched: list[contract.WantedDhcp]) -> None:
        """What network answered is so; ports that are gone stay known as gone, as old messages may still come."""
        for server in fetched:
            self._known[server.network_id] = server
            gone = [host for host in self._leases.get(server.network_id, {}).values() if not host.ips]
            hosts = (*gone[-GONE_KEPT:], *server.hosts)
            self._leases[server.network_id] = {host.port_id: host for host in hosts}

    def _hear(self) -> None:
        """What was cast is so too, where nothing later is known; messages may be late, and come twice."""
        news, self._news = self._news, {}
        touched = set()
        for (network_id, port_id), host in news.items():
            leases = self._leases.get(network_id, {})
            if network_id in self._known and _is_later(host, leases.get(port_id)):
                leases.pop(port_id, None)  # the latest stand last
                leases[port_id] = host
                touched.add(network_id)
        for network_id in touched:
            hosts = tuple([host for host in self._leases[network_id].values() if host.ips])
            self._known[network_id] = msgspec.structs.replace(self._known[network_id], hosts=hosts)


def _is_later(host: contract.DhcpHost, known: contract.DhcpHost | None) -> bool:
    """A port without addresses says the last word of its revision: it may be gone for good."""
    return known is None or (host.revision, not host.ips) >= (known.revision, not known.ips)
