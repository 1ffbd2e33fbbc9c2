"""The L2 agent: ports, tunnels and security groups of one host."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Handler
from kilonova.network import contract
from kilonova.node.agents.frame import Agent, AgentSettings, Changed, Unbuilt
from kilonova.node.agents.l2_book import L2Book


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
        self._book = L2Book(host)
        self._news: dict[str, contract.PortNews] = {}  # by port, what was cast since the last build began

    def handlers(self) -> Mapping[str, Handler]:
        return rpc.handlers(contract.L2Agent, self)

    async def l2_changed(self, port_ids: list[str], network_ids: list[str], news: list[contract.PortNews]) -> None:
        """Cast by network: noted here, fetched and built by the loop."""
        for one in news:
            known = self._news.get(one.member.port_id)
            if known is None or one.member.revision >= known.member.revision:
                self._news[one.member.port_id] = one
        changed = [("port", id_) for id_ in port_ids] + [("network", id_) for id_ in network_ids]
        self.pending.add(changed + [("news", one.member.port_id) for one in news])

    async def build(self, changed: set[Changed] | None) -> None:
        news, self._news = list(self._news.values()), {}
        try:
            await self._build(changed, news)
        except Unbuilt:
            raise
        except Exception:
            if news:  # known by now, and perhaps not built: network knows it too
                self.pending.add_everything()
            raise

    async def _build(self, changed: set[Changed] | None, news: list[contract.PortNews]) -> None:
        heard = self._book.hear(news)
        answer = contract.WantedL2()
        asked = heard.unknown | {id_ for kind, id_ in changed or () if kind == "port"}
        networks = sorted(id_ for kind, id_ in changed or () if kind == "network")
        if changed is None:
            answer = await self.plugin.wanted_l2(self.host, None, None)
        elif asked or networks:
            answer = await self.plugin.wanted_l2(self.host, sorted(asked), networks)
        self._book.learn(answer)
        wanted = self._book.to_build(heard, answer)
        up, gone = await self.switch.apply(wanted)
        # Of ports that are not here any more network knows, and of those that only speak for their network's tunnels.
        asked.update(port.id for port in heard.ports)
        about = {port.id for port in wanted.ports if answer.full or port.id in asked}
        if told := about.intersection((*up, *gone)):
            await self.plugin.ports_up(self.host, sorted(told.intersection(up)), sorted(told.intersection(gone)))
        missing = {port.id for port in wanted.ports if port.admin_state_up} - set(up)
        if missing:
            raise Unbuilt({("port", port_id) for port_id in missing})
