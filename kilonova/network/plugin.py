"""What agents ask of network, answered for their own host only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.base.faults import forbidden
from kilonova.bus import rpc
from kilonova.bus.signing import is_agent
from kilonova.network import wanted_store
from kilonova.network.agent import store as agents
from kilonova.network.contract import L2_TOPIC, AgentReport, WantedDhcp, WantedL2, WantedRouter
from kilonova.network.port import binding_store

if TYPE_CHECKING:
    from kilonova.network.worker import NetworkWorker


class PluginService:
    """Serves contract.Plugin on topic `q-plugin`."""

    def __init__(self, worker: NetworkWorker) -> None:
        self._worker = worker
        self._network = worker.network

    async def wanted_l2(self, host: str, port_ids: list[str] | None, network_ids: list[str] | None) -> WantedL2:
        _only_own(host)
        return await self._network.db.read(wanted_store.l2, host, port_ids, network_ids)

    async def wanted_dhcp(self, host: str, network_ids: list[str] | None) -> list[WantedDhcp]:
        _only_own(host)
        return await self._network.db.read(wanted_store.dhcp, host, network_ids, self._network.settings.dns_domain)

    async def wanted_routers(self, host: str, router_ids: list[str] | None) -> list[WantedRouter]:
        _only_own(host)
        return await self._network.db.read(wanted_store.routers, host, router_ids)

    async def ports_up(self, host: str, up: list[str], down: list[str]) -> None:
        _only_own(host)
        await self._network.change(binding_store.reported, host, up, down)

    async def find_device(self, network_id: str, router_id: str, ip: str) -> tuple[str, str] | None:
        if rpc.sender().partition(".")[0] == L2_TOPIC:  # every host has one; addresses are not its to ask
            raise forbidden("Only a network node's agents may ask who has an address.", code="NotYourHost")
        return await self._network.db.read(wanted_store.device, network_id, router_id, ip)

    async def report_state(self, report: AgentReport) -> None:
        _only_own(report.host)
        if await self._network.change(agents.report, report):
            self._worker.loops.wake("bindings")


def _only_own(host: str) -> None:
    """An agent speaks for its own host; the control plane may ask for any."""
    if is_agent(rpc.sender()) and rpc.sender().partition(".")[2] != host:
        raise forbidden("A host may only ask about itself.", code="NotYourHost")
