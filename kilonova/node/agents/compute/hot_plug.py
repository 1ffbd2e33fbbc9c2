"""Disks and NICs that come and go while the guest is there: running, paused or off."""

from __future__ import annotations

from kilonova.base.faults import Fault, Kind, not_found
from kilonova.block_storage.contract import Connection, Connector
from kilonova.compute.contract import BlockDevice, Nic, ServerForHost
from kilonova.network.contract import PortBinding, PortRequest, ServerNics
from kilonova.node.agents.compute.ports import PortVerbs
from kilonova.node.guest_spec import volume_disk
from kilonova.trace import spans

REFUSALS = (Kind.NOT_FOUND, Kind.CONFLICT, Kind.INVALID, Kind.FORBIDDEN, Kind.OVER_QUOTA, Kind.NO_CAPACITY)


class HotPlugVerbs(PortVerbs):
    """One volume or one port of a server that has started before."""

    async def connect_volume(self, server_id: str, device_id: str) -> Connection:
        device = _device(await self._record(server_id), device_id)
        connector = Connector(self.host, self.settings.host_ip)
        token = await self._token()
        attachment = await self.peers.volumes.connect(token, device.attachment_id, connector, device.device_name)
        if attachment.connection is None:
            raise not_found("Connection of volume", device.volume_id)
        return attachment.connection

    async def disk_grew(self, server_id: str, volume_id: str) -> None:
        """The guest sees the volume as large as it is now."""
        async with self._lock(server_id):
            with spans.span("libvirt", "tell the guest that its disk is larger", host=self.host):
                await self.machine.hypervisor.disk_grew(server_id, volume_id)

    async def plug_volume(self, server_id: str, device_id: str) -> None:
        token = await self._token()
        async with self._lock(server_id):  # the record is read inside: what happened before has been written
            device = _device(await self._record(server_id), device_id)
            if device.under_way == "detaching" and not await self._still_attached(token, device):
                return
            with spans.span("libvirt", f"plug {device.device_name} into the guest", host=self.host):
                await self.machine.hypervisor.attach_disk(server_id, volume_disk(device))

    async def _still_attached(self, token: str, device: BlockDevice) -> bool:
        """Whether block storage has not let go of the volume yet. A guest never gets back what may be another's now."""
        try:
            await self.peers.volumes.complete(token, device.attachment_id)
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return False
            raise
        return True

    async def unplug_volume(self, server_id: str, device_id: str) -> None:
        server = await self._record_or_none(server_id)
        found = [one for one in server.block_devices if one.id == device_id] if server else []
        async with self._lock(server_id):
            for device in found:
                with spans.span("libvirt", f"take {device.device_name} out of the guest", host=self.host):
                    await self.machine.hypervisor.detach_disk(server_id, device.volume_id)

    async def bind_port(self, server_id: str, key: str, wanted: PortRequest) -> PortBinding:
        server = await self._record(server_id)
        nics = ServerNics(
            server_id=server.id,
            hostname=server.hostname,
            project_id=server.project_id,
            availability_zone=server.availability_zone,
            host=self.host,
            requests=(wanted,),
        )
        return (await self.peers.networks.bind(await self._token(), key, nics))[0]

    async def unbind_port(self, server_id: str, key: str, wanted: PortRequest) -> None:
        """A step that was cut off may have made a port: the same key finds it, or makes one to throw away."""
        try:
            port = await self.bind_port(server_id, key, wanted)
        except Fault as fault:
            if fault.kind not in REFUSALS:
                raise
            return
        await self.peers.networks.release(await self._token(), server_id, port)

    async def plug_port(self, server_id: str, port: PortBinding) -> None:
        token = await self._token()
        if port.id not in await self.peers.networks.port_states(token, server_id):
            return  # network has it no more: there is no wire to plug into
        await self._wait_for_ports(token, server_id, [port])
        async with self._lock(server_id):
            nic = Nic(port.id, port.mac, self.machine.switch.tap_name(port.id), port.mtu)
            with spans.span("libvirt", f"plug a NIC with {port.mac} into the guest", host=self.host):
                await self.machine.hypervisor.attach_nic(server_id, nic)

    async def unplug_port(self, server_id: str, port: PortBinding) -> None:
        async with self._lock(server_id):
            with spans.span("libvirt", f"take the NIC with {port.mac} out of the guest", host=self.host):
                await self.machine.hypervisor.detach_nic(server_id, port.mac)

    async def release_port(self, server_id: str, port: PortBinding) -> None:
        await self.peers.networks.release(await self._token(), server_id, port)


def _device(server: ServerForHost, device_id: str) -> BlockDevice:
    for device in server.block_devices:
        if device.id == device_id:
            return device
    raise not_found("Block device", device_id)
