"""Start and stop a guest of this host, let it stand still, and save its memory."""

from __future__ import annotations

from kilonova.base.faults import Fault, Kind
from kilonova.compute.contract import Power, ServerForHost
from kilonova.node.agents.compute.ports import PortVerbs
from kilonova.trace import spans


class PowerVerbs(PortVerbs):
    """Guests run, stand still, or are off; disks and ports stay."""

    async def get_power(self, server_id: str) -> Power:
        seen = await self.machine.hypervisor.guests()
        return next((guest.power for guest in seen if guest.id == server_id), Power.NOSTATE)

    async def start(self, server_id: str) -> Power:
        server = await self._record(server_id)
        await self._ports_up(await self._token(), server)
        return await self._start(server)

    async def start_again(self, server_id: str) -> Power:
        """Start a guest that ran before. Its ports are up: the L2 agent has built all by now."""
        return await self._start(await self._record(server_id))

    async def _start(self, server: ServerForHost) -> Power:
        async with self._lock(server.id):
            server = await self._record(server.id)  # what was plugged or unplugged since counts
            local = await self.machine.disks.ensure_disks(server, "")
            rescue = []
            if server.rescue is not None:
                rescue = await self.machine.disks.rescue_disks(server, (await self._secrets()).admin_password)
            with spans.span("libvirt", "start the guest", host=self.host):
                spec = await self._spec(server, local, rescue)
                return (await self.machine.hypervisor.ensure_started(spec)).power

    async def stop(self, server_id: str, grace_seconds: float) -> Power:
        async with self._lock(server_id):
            with spans.span("libvirt", "shut the guest down", host=self.host):
                try:
                    return (await self.machine.hypervisor.ensure_stopped(server_id, grace_seconds)).power
                except Fault as fault:
                    if fault.kind is not Kind.NOT_FOUND:
                        raise
                    return Power.SHUTDOWN

    async def interrupted(self, server_id: str) -> None:
        """The ledger has ended the wait before this verb began: nothing is left to do."""

    async def pause(self, server_id: str) -> Power:
        async with self._lock(server_id):
            with spans.span("libvirt", "pause the guest", host=self.host):
                return (await self.machine.hypervisor.pause(server_id)).power

    async def unpause(self, server_id: str) -> Power:
        async with self._lock(server_id):
            with spans.span("libvirt", "let the guest run on", host=self.host):
                return (await self.machine.hypervisor.resume(server_id)).power

    async def suspend(self, server_id: str) -> Power:
        async with self._lock(server_id):
            with spans.span("libvirt", "save the guest's memory to disk", host=self.host):
                return (await self.machine.hypervisor.save(server_id)).power

    async def resume(self, server_id: str) -> Power:
        server = await self._record(server_id)
        await self._ports_up(await self._token(), server)
        async with self._lock(server_id):
            local = await self.machine.disks.ensure_disks(server, "")
            with spans.span("libvirt", "restore the guest from its saved memory", host=self.host):
                return (await self.machine.hypervisor.restore(await self._spec(server, local))).power
