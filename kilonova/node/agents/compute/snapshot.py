"""A server's root disk as an image: copied while the guest runs, made one file, sent to the image service."""

from __future__ import annotations

from kilonova.base.faults import Fault, Kind, conflict
from kilonova.compute.contract import ServerForHost
from kilonova.node.agents.compute.core import HostCore
from kilonova.trace import spans


class SnapshotVerbs(HostCore):
    """The host's part of createImage."""

    async def snapshot(self, server_id: str, image_id: str) -> None:
        server = await self._record(server_id)
        disks = self.machine.disks
        async with self._builds, self._lock(server_id):
            source, target = await disks.start_snapshot(server, image_id)
            try:
                copied = await self._copy(server, source, target)
                await disks.finish_snapshot(server_id, image_id, copied=copied)
            except Fault:
                await disks.drop_snapshot(server_id, image_id)
                raise

    async def hold_still(self, server_id: str) -> None:
        server = await self._record(server_id)
        async with self._lock(server_id):
            with spans.span("libvirt", "hold the guest still", host=self.host):
                await self.machine.hypervisor.hold_still(server_id, _freeze(server))

    async def let_go_on(self, server_id: str) -> None:
        server = await self._record(server_id)
        async with self._lock(server_id):
            with spans.span("libvirt", "let the guest go on", host=self.host):
                await self.machine.hypervisor.let_go_on(server_id, _freeze(server))

    async def _copy(self, server: ServerForHost, source: str, target: str) -> bool:
        """False when nothing was copied, as the disks can do that themselves, or the guest is off."""
        if not target and _freeze(server) == "must":
            raise conflict(
                "The image asks for frozen file systems, which disks of this kind are not copied with.",
                hint="Stop the server, then make the image.",
            )
        if not target:
            return False
        with spans.span("libvirt", "copy the root disk as it is now", host=self.host):
            return await self.machine.hypervisor.copy_disk(server.id, source, target, _freeze(server))

    async def upload_snapshot(self, server_id: str, image_id: str) -> None:
        token = await self._token()
        if (await self.peers.images.show(token, image_id)).status != "active":
            try:
                await self.peers.images.upload(token, image_id, self.machine.disks.snapshot_path(server_id, image_id))
            except Fault as fault:
                if fault.kind is not Kind.CONFLICT:  # else an answer was lost: the image has its bytes
                    raise
        await self.machine.disks.drop_snapshot(server_id, image_id)

    async def drop_snapshot(self, server_id: str, image_id: str) -> None:
        await self.machine.disks.drop_snapshot(server_id, image_id)


def _freeze(server: ServerForHost) -> str:
    """Whether the guest's file systems are frozen for the copy, by the words that images carry for it."""
    words = server.image_properties
    if words.get("os_require_quiesce", "").lower() in ("yes", "true", "1"):
        return "must"
    return "try" if words.get("hw_qemu_guest_agent", "").lower() in ("yes", "true", "1") else ""
