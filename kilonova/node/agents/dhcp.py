"""The DHCP agent: the DHCP servers of one host."""

from __future__ import annotations

from collections.abc import Mapping

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

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.DhcpAgent, self)

    async def dhcp_changed(self, network_ids: list[str]) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        self.pending.add(("network", id_) for id_ in network_ids)

    async def build(self, changed: set[Changed] | None) -> None:
        asked = None if changed is None else sorted(id_ for _, id_ in changed)
        wanted = await self.plugin.wanted_dhcp(self.host, asked)
        gone = sorted(set(asked or ()) - {server.network_id for server in wanted})
        await self.servers.apply(wanted, gone, full=asked is None)
