"""The L3 agent: the routers of one host."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler
from kilonova.network import contract
from kilonova.node.agents.frame import Agent, AgentSettings, Changed


class L3Agent(Agent):
    """Builds routers and floating IPs with a Routers adapter."""

    agent_type = "L3 agent"
    binary = "kilonova-l3-agent"
    topic = contract.L3_TOPIC

    def __init__(
        self, world: World, bus: Bus, host: str, adapter: contract.Routers, settings: AgentSettings | None = None
    ) -> None:
        super().__init__(world, bus, host, settings)
        self.routers = adapter

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.L3Agent, self)

    async def routers_changed(self, router_ids: list[str]) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        self.pending.add(("router", id_) for id_ in router_ids)

    async def build(self, changed: set[Changed] | None) -> None:
        asked = None if changed is None else sorted(id_ for _, id_ in changed)
        wanted = await self.plugin.wanted_routers(self.host, asked)
        gone = sorted(set(asked or ()) - {router.id for router in wanted})
        await self.routers.apply(wanted, gone, full=asked is None)
