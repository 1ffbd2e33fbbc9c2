"""Change the disks that a guest of this host stands on: larger ones, or fresh ones; the old are kept until told."""

from __future__ import annotations

from kilonova.base.faults import Fault, Kind
from kilonova.node.agents.compute.ports import PortVerbs
from kilonova.trace import spans


class ResizeVerbs(PortVerbs):
    """The disks' part of resize, its confirmation and reversal, and of rebuild."""

    async def resize_disks(self, server_id: str) -> None:
        server = await self._record(server_id)
        async with self._builds, self._lock(server_id):
            spans.note(f"disks copied, the root grown to {server.flavor.root_gb} GiB", host=self.host)
            await self.machine.disks.resize_disks(server)
            await self.books.keep(server_id)

    async def rebuild_disks(self, server_id: str, keep_ephemeral: bool) -> None:
        server = await self._record(server_id)
        secrets = await self._secrets()
        async with self._builds, self._lock(server_id):
            await self._off(server_id)
            await self.machine.disks.replace_disks(server, keep_ephemeral)
            await self.machine.disks.ensure_disks(server, secrets.admin_password)
            spans.note("a fresh root disk over the cached image; the old one is kept", host=self.host)

    async def restore_disks(self, server_id: str) -> None:
        async with self._lock(server_id):
            await self._off(server_id)
            await self.machine.disks.restore_disks(server_id)
            await self.books.restore(server_id)

    async def forget_disks(self, server_id: str) -> None:
        async with self._lock(server_id):
            await self.machine.disks.forget_disks(server_id)
            await self.books.forget(server_id)

    async def _off(self, server_id: str) -> None:
        """The guest does not run; one that was never defined does not either."""
        try:
            with spans.span("libvirt", "cut the guest's power", host=self.host):
                await self.machine.hypervisor.ensure_stopped(server_id, 0.0)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise
