"""Volumes of a server: made when asked for, reserved, connected to this host, let go."""

from __future__ import annotations

import logging

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.block_storage.contract import Connector, NewVolume
from kilonova.compute.contract import BlockDevice, ServerForHost
from kilonova.node.agents.compute.core import HostCore

log = logging.getLogger(__name__)

VOLUME_POLL_SECONDS = 0.5
REFUSALS = (Kind.OVER_QUOTA, Kind.INVALID, Kind.FORBIDDEN, Kind.NO_CAPACITY, Kind.TOO_LARGE)


class VolumeVerbs(HostCore):
    """Attach and detach all volumes of a server's block device mapping."""

    async def attach_volumes(self, server_id: str) -> list[BlockDevice]:
        server = await self._record(server_id)
        await self._attach_volumes(server)
        return server.block_devices

    async def _attach_volumes(self, server: ServerForHost) -> None:
        token = await self._token()
        for number, device in enumerate(server.block_devices):
            if device.destination_type == "volume":
                await self._attach(token, server, device, number)

    async def _attach(self, token: str, server: ServerForHost, device: BlockDevice, number: int) -> None:
        if not device.volume_id:
            device.volume_id = await self._create_volume(token, device, f"{server.id}/{self.host}/volume/{number}")
            await self._available(token, device.volume_id)
        if not device.attachment_id:
            key = f"{server.id}/{self.host}/reserve/{number}"
            device.attachment_id = await self.peers.volumes.reserve(token, key, device.volume_id, server.id)
        connector = Connector(self.host, self.settings.host_ip)
        attachment = await self.peers.volumes.connect(token, device.attachment_id, connector, device.device_name)
        device.connection = attachment.connection

    async def reconnect_volumes(self, server_id: str) -> list[BlockDevice]:
        server = await self._record(server_id)
        attached = [device for device in server.block_devices if device.attachment_id]
        token = await self._token() if attached else ""
        connector = Connector(self.host, self.settings.host_ip)
        for device in attached:
            found = await self.peers.volumes.connect(token, device.attachment_id, connector, device.device_name)
            device.connection = found.connection
            await self.peers.volumes.complete(token, device.attachment_id)
        return server.block_devices

    async def _create_volume(self, token: str, device: BlockDevice, key: str) -> str:
        wanted = NewVolume(
            size_gib=device.volume_size_gib,
            image_id=device.image_id,
            snapshot_id=device.snapshot_id,
            volume_type=device.volume_type,
        )
        return (await self.peers.volumes.create(token, key, wanted)).id

    async def _available(self, token: str, volume_id: str) -> None:
        if await self._made(token, volume_id) == "error":
            raise unavailable(f"Volume {volume_id} could not be created.", hint="See the volume's messages.")

    async def _made(self, token: str, volume_id: str) -> str:
        """The volume's status, once it is not being made any more."""
        deadline = self.world.clock.monotonic() + self.settings.volume_timeout_seconds
        while (volume := await self.peers.volumes.show(token, volume_id)).status in ("creating", "downloading"):
            if self.world.clock.monotonic() > deadline:
                raise unavailable(f"Volume {volume_id} was not ready in time.", hint="See the volume's status.")
            await self.world.clock.sleep(VOLUME_POLL_SECONDS)
        return volume.status

    async def _detach_volumes(self, server: ServerForHost) -> None:
        token = await self._token()
        for number, device in enumerate(server.block_devices):
            if device.destination_type == "volume":
                await self._detach(token, server.id, device, number)

    async def _detach(self, token: str, server_id: str, device: BlockDevice, number: int) -> None:
        made_here = not device.volume_id
        try:
            if made_here:
                await self._find_made(token, server_id, device, number)
            if device.attachment_id:
                await self.peers.volumes.detach(token, device.attachment_id)
            goes = device.volume_id and (made_here or device.delete_on_termination)
            if goes and not await self.peers.volumes.delete_unless_needed(token, device.volume_id):
                log.warning("volume %s outlives server %s: it is still needed", device.volume_id, server_id)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise

    async def _find_made(self, token: str, server_id: str, device: BlockDevice, number: int) -> None:
        """A step that was cut off may have made a volume: the same key finds it, or makes one to throw away."""
        try:
            device.volume_id = await self._create_volume(token, device, f"{server_id}/{self.host}/volume/{number}")
        except Fault as fault:
            if fault.kind not in REFUSALS:
                raise
            return  # what is refused now was not made before: a key's volume is found without asking again
        if await self._made(token, device.volume_id) != "error":
            key = f"{server_id}/{self.host}/reserve/{number}"
            device.attachment_id = await self.peers.volumes.reserve(token, key, device.volume_id, server_id)
