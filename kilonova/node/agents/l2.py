"""The L2 agent: ports, tunnels and security groups of one host."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler
from kilonova.network import contract
from kilonova.node.agents.frame import Agent, AgentSettings, Changed, Unbuilt


class L2Agent(Agent):
    """Builds the host's ports with a VirtualSwitch and tells network which are up."""

    agent_type = "L2 agent"
    binary = "kilonova-l2-agent"
    topic = contract.L2_TOPIC

    def __init__(
        self,
        world: World,
        bus: Bus,
        host: str,
        adapter: contract.VirtualSwitch,
        settings: AgentSettings | None = None,
    ) -> None:
        super().__init__(world, bus, host, settings)
        self.switch = adapter

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.L2Agent, self)

    async def l2_changed(self, port_ids: list[str], network_ids: list[str]) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        self.pending.add([("port", id_) for id_ in port_ids] + [("network", id_) for id_ in network_ids])

    async def build(self, changed: set[Changed] | None) -> None:
        ports = networks = None
        if changed is not None:
            ports = sorted(id_ for kind, id_ in changed if kind == "port")
            networks = sorted(id_ for kind, id_ in changed if kind == "network")
        wanted = await self.plugin.wanted_l2(self.host, ports, networks)
        up, gone = await self.switch.apply(wanted)
        # Of ports that are not here any more network knows, and of those that only speak for their network's tunnels.
        news = {port.id for port in wanted.ports if ports is None or port.id in ports}
        if told := news.intersection((*up, *gone)):
            await self.plugin.ports_up(self.host, sorted(told.intersection(up)), sorted(told.intersection(gone)))
        missing = {port.id for port in wanted.ports if port.admin_state_up} - set(up)
        if missing:
            raise Unbuilt({("port", port_id) for port_id in missing})
