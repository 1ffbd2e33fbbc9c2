"""Build a guest on this host, and take it down."""

from __future__ import annotations

import logging

from kilonova.base.faults import Fault
from kilonova.compute.contract import Built, Power, ServerForHost
from kilonova.image.contract import NOT_ASKED, Trust
from kilonova.network.contract import PortBinding
from kilonova.node.agents.compute.ports import PortVerbs
from kilonova.node.agents.compute.volumes import VolumeVerbs
from kilonova.node.images.asked import AskedImage
from kilonova.node.ledger import enter_phase
from kilonova.trace import spans

log = logging.getLogger(__name__)


class BuildVerbs(PortVerbs, VolumeVerbs):
    """The image into the cache, disks and guest made, all of it gone again."""

    async def build_and_run_instance(self, server_id: str, volumes: bool) -> Built:
        server = await self._record(server_id)
        if server.image_id:
            await self._bring_image(await self._token(), server.image_id, self._trust(server))
        server.ports = await self._bind_ports(server)
        if volumes:
            enter_phase("block_device_mapping")
            await self._attach_volumes(server)
        enter_phase("spawning")
        power = await self._spawn(server)
        return Built(server.ports, server.block_devices if volumes else [], power)

    async def _spawn(self, server: ServerForHost) -> Power:
        """Disks, config drive, and the guest on them, started; its ports are up."""
        secrets = await self._secrets()
        token = secrets.token or await self.peers.own_token()
        async with self._builds, self._lock(server.id):
            local = await self.machine.disks.ensure_disks(server, secrets.admin_password)
            spans.note("root disk over the cached image, config drive, volumes", host=self.host)
            await self._ports_up(token, server)
            spec = await self._spec(server, local)
            with spans.span("libvirt", "define and start the guest", host=self.host):
                self.failed_builds += 1
                guest = await self.machine.hypervisor.ensure_started(spec)
                self.failed_builds = 0
                self._takes_to(server.id, guest.power)
        for device in server.block_devices:
            if device.attachment_id:
                await self.peers.volumes.complete(token, device.attachment_id)
        return guest.power

    async def terminate_instance(self, server_id: str, volumes: bool, ports: list[PortBinding]) -> None:
        await self.destroy(server_id)
        server = await self._record_or_none(server_id) if volumes else None
        if server is not None:
            await self._detach_volumes(server)
        await self.peers.networks.unbind(await self.peers.own_token(), server_id, ports)

    async def remove(self, server_id: str, volumes: bool) -> None:
        server = await self._record_or_none(server_id)
        await self.terminate_instance(server_id, volumes, server.ports if server else [])

    def _trust(self, server: ServerForHost) -> Trust:
        """What an image must prove before the server runs from it."""
        if server.trusted_certificates:
            return Trust(True, tuple(server.trusted_certificates))
        return self.settings.trust

    async def _bring_image(self, token: str, image_id: str, trust: Trust) -> None:
        """The image is in this host's cache, the caller may have it, and it has proven what it must."""
        async with self._builds:
            image = AskedImage(self.peers.images, token, image_id, trust)
            await self.machine.disks.ensure_image(image)
            await image.settle()

    async def cache_images(self, image_ids: list[str], token: str) -> None:
        for image_id in image_ids:
            try:
                await self._bring_image(token, image_id, NOT_ASKED)
            except Fault as fault:
                log.warning("image %s is not cached on %s: %r", image_id, self.host, fault)

    async def destroy(self, server_id: str) -> None:
        """The guest and its local disks are gone; already gone is fine."""
        async with self._lock(server_id):
            with spans.span("libvirt", "stop and undefine the guest", host=self.host):
                await self.machine.hypervisor.ensure_gone(server_id)
                self._takes_to(server_id, Power.SHUTDOWN)
            await self.machine.disks.drop_disks(server_id)
            await self.books.drop(server_id)
        self._locks.pop(server_id, None)
