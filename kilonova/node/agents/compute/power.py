"""Start and stop a guest of this host."""

from __future__ import annotations

from kilonova.compute.contract import Power, ServerForHost
from kilonova.node.agents.compute.ports import PortVerbs
from kilonova.trace import spans


class PowerVerbs(PortVerbs):
    """Guests run, or are off; disks and ports stay."""

    async def start(self, server_id: str) -> Power:
        server = await self._record(server_id)
        await self._ports_up(await self._token(), server)
        return await self._start(server)

    async def start_again(self, server_id: str) -> Power:
        """Start a guest that ran before. Its ports are up: the L2 agent has built all by now."""
        return await self._start(await self._record(server_id))

    async def _start(self, server: ServerForHost) -> Power:
        async with self._lock(server.id):
            local = await self.machine.disks.ensure_disks(server, "")
            with spans.span("libvirt", "start the guest", host=self.host):
                return (await self.machine.hypervisor.ensure_started(self._spec(server, local))).power

    async def stop(self, server_id: str, grace_seconds: float) -> Power:
        async with self._lock(server_id):
            with spans.span("libvirt", "shut the guest down", host=self.host):
                return (await self.machine.hypervisor.ensure_stopped(server_id, grace_seconds)).power
