"""The DHCP agent: the DHCP servers of one host."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler
from kilonova.network import contract
from kilonova.node.agents.frame import Agent, AgentSettings, Changed


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

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.DhcpAgent, self)

    async def dhcp_changed(self, network_ids: list[str], ports: dict[str, list[str]] | None = None) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        leases = ports or {}
        self.pending.add(("network", id_) for id_ in network_ids if id_ not in leases)
        self.pending.add(("lease", f"{id_}/{port_id}") for id_, several in leases.items() for port_id in several)

    async def build(self, changed: set[Changed] | None) -> None:
        if changed is None:
            wanted = await self.plugin.wanted_dhcp(self.host, None)
            self._known, self._leases = {}, {}
            self._learn(wanted)
            await self.servers.apply(wanted, [], full=True)
            return
        ports = [id_.partition("/")[::2] for kind, id_ in changed if kind == "lease"]
        asked = {id_ for kind, id_ in changed if kind == "network"} | {
            id_ for id_, _ in ports if id_ not in self._known
        }
        fetched = await self.plugin.wanted_dhcp(self.host, sorted(asked)) if asked else []
        gone = sorted(asked - {server.network_id for server in fetched})
        for network_id in gone:
            self._known.pop(network_id, None)
        self._learn(fetched)
        mended = await self._mend([(id_, port_id) for id_, port_id in ports if id_ not in asked])
        await self.servers.apply([*fetched, *mended], gone, full=False)

    def _learn(self, fetched: list[contract.WantedDhcp]) -> None:
        for server in fetched:
            self._known[server.network_id] = server
            self._leases[server.network_id] = {host.port_id: host for host in server.hosts}

    async def _mend(self, ports: list[tuple[str, str]]) -> list[contract.WantedDhcp]:
        """The servers of known networks, with what they now say to these (network, port)s."""
        if not ports:
            return []
        leases = await self.plugin.wanted_leases(self.host, sorted(port_id for _, port_id in ports))
        told = {(lease.network_id, lease.host.port_id): lease.host for lease in leases}
        for network_id, port_id in ports:
            if (host := told.get((network_id, port_id))) is None:
                self._leases[network_id].pop(port_id, None)
            else:
                self._leases[network_id][port_id] = host
        for network_id in {network_id for network_id, _ in ports}:
            hosts = tuple(self._leases[network_id].values())
            self._known[network_id] = msgspec.structs.replace(self._known[network_id], hosts=hosts)
        return [self._known[network_id] for network_id in sorted({network_id for network_id, _ in ports})]
