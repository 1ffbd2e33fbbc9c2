"""The metadata agent: says which server a guest's request came from, and reports that it lives."""

from __future__ import annotations

from typing import Protocol

from kilonova.base.world import World
from kilonova.bus.contract import Bus
from kilonova.node.agents.frame import Agent, AgentSettings
from kilonova.node.vswitch.metadata_proxy import Find


class AsksWhoCalled(Protocol):
    """A metadata proxy: it asks `find` for the server behind an address."""

    find: Find | None


class MetadataAgent(Agent):
    """Gives the host's metadata proxy its `find`. Answers are not kept: an address may change hands any time."""

    agent_type = "Metadata agent"
    binary = "kilonova-metadata-agent"
    topic = "metadata_agent"

    def __init__(
        self, world: World, bus: Bus, host: str, adapter: AsksWhoCalled, settings: AgentSettings | None = None
    ) -> None:
        super().__init__(world, bus, host, settings)
        adapter.find = self.find

    async def find(self, network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
        """(server id, project id) of the guest with `ip` in the network or behind the router, or None."""
        return await self.plugin.find_device(network_id, router_id, ip)
