"""The compute agent: does one host's part of every server operation, and reports what the host has.

Its verbs are the steps of the operations in `compute/server/*.py`; each may be repeated and leaves nothing behind
when it raises. It asks image, network and block storage over REST with the user's token (or its own, when an
operation outlives the user's), and asks the conductor for everything about a server: it reads no database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.base.world import World
from kilonova.block_storage.contract import Connector, NewVolume, Volumes
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.compute.contract import (
    CONDUCTOR_TOPIC,
    EXCHANGE,
    BlockDevice,
    Conductor,
    GuestSpec,
    Hypervisor,
    LocalDisks,
    Power,
    ServerForHost,
    StepSecrets,
)
from kilonova.image.contract import Images
from kilonova.network.contract import Networks, PortBinding, ServerNics, VirtualSwitch
from kilonova.node.guest_spec import guest_spec
from kilonova.node.ledger import current_step, idempotency_key, in_step
from kilonova.trace import spans

T = TypeVar("T")
log = logging.getLogger(__name__)

VOLUME_POLL_SECONDS = 0.5
QUESTION_TRIES = 5
REFUSALS = (Kind.OVER_QUOTA, Kind.INVALID, Kind.FORBIDDEN, Kind.NO_CAPACITY, Kind.TOO_LARGE)


class Machine(msgspec.Struct, frozen=True):
    """The host's adapters."""

    hypervisor: Hypervisor
    disks: LocalDisks
    switch: VirtualSwitch


class Peers(msgspec.Struct, frozen=True):
    """The services that the agent asks over REST. `own_token` is the agent's service user's."""

    images: Images
    networks: Networks
    volumes: Volumes
    own_token: Callable[[], Awaitable[str]]


class ComputeSettings(msgspec.Struct, frozen=True):
    """How the agent behaves."""

    prefix: str = "kilo"  # of domain names
    vif_plugging_timeout_seconds: float = 300.0
    volume_timeout_seconds: float = 600.0
    parallel_builds: int = 10
    host_ip: str = ""


class ComputeHostAgent:
    """Implements `ComputeHost` (journalled) and `ComputeAgent` (plain) of compute's contract."""

    def __init__(
        self, world: World, bus: Bus, host: str, machine: Machine, peers: Peers, settings: ComputeSettings
    ) -> None:
        self.world = world
        self.host = host
        self.machine = machine
        self.peers = peers
        self.settings = settings
        self.conductor = rpc.client(Conductor, bus, Target(EXCHANGE, CONDUCTOR_TOPIC))
        self._plugged: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._builds = asyncio.Semaphore(settings.parallel_builds)

    # ── steps of create

    async def build_and_run_instance(self, server_id: str) -> dict[str, Any]:
        server = await self._record(server_id)
        if not server.image_id:
            return {"image": ""}
        token = await self._token()
        async with self._builds:
            image = await self.peers.images.show(token, server.image_id)
            room = max(image.size, image.virtual_size or 0)

            async def fetch(path: str) -> None:
                await self.peers.images.download(token, server.image_id, path)

            await self.machine.disks.ensure_image(server.image_id, fetch, room)
        return {"image": server.image_id}

    async def bind_ports(self, server_id: str) -> list[PortBinding]:
        server = await self._record(server_id)
        nics = ServerNics(
            server_id=server.id,
            hostname=server.hostname,
            project_id=server.project_id,
            availability_zone=server.availability_zone,
            host=self.host,
            requests=tuple(server.port_requests),
            security_groups=tuple(server.security_groups),
        )
        return await self.peers.networks.bind(await self._token(), idempotency_key(), nics)

    async def unbind_ports(self, server_id: str) -> None:
        server = await self._record_or_none(server_id)
        await self.peers.networks.unbind(await self._token(), server_id, server.ports if server else [])

    async def attach_volumes(self, server_id: str) -> list[BlockDevice]:
        server = await self._record(server_id)
        token = await self._token()
        for number, device in enumerate(server.block_devices):
            if device.destination_type == "volume":
                await self._attach(token, server, device, number)
        return server.block_devices

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

    async def detach_volumes(self, server_id: str) -> None:
        server = await self._record_or_none(server_id)
        if server is None:
            return
        token = await self._token()
        for number, device in enumerate(server.block_devices):
            if device.destination_type != "volume":
                continue
            await self._detach(token, server_id, device, number)

    async def _detach(self, token: str, server_id: str, device: BlockDevice, number: int) -> None:
        made_here = not device.volume_id
        try:
            if made_here:
                await self._find_made(token, server_id, device, number)
            if device.attachment_id:
                await self.peers.volumes.detach(token, device.attachment_id)
            if device.volume_id and (made_here or device.delete_on_termination):
                await self.peers.volumes.delete(token, device.volume_id)
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

    async def spawn(self, server_id: str) -> Power:
        server = await self._record(server_id)
        secrets = await self._secrets()
        token = secrets.token or await self.peers.own_token()
        async with self._builds, self._lock(server_id):
            local = await self.machine.disks.ensure_disks(server, secrets.admin_password)
            spans.note("root disk over the cached image, config drive, volumes", host=self.host)
            await self._ports_up(token, server)
            with spans.span("libvirt", "define and start the guest", host=self.host):
                guest = await self.machine.hypervisor.ensure_started(self._spec(server, local))
        for device in server.block_devices:
            if device.attachment_id:
                await self.peers.volumes.complete(token, device.attachment_id)
        return guest.power

    async def destroy(self, server_id: str) -> None:
        async with self._lock(server_id):
            with spans.span("libvirt", "stop and undefine the guest", host=self.host):
                await self.machine.hypervisor.ensure_gone(server_id)
            await self.machine.disks.drop_disks(server_id)
        self._locks.pop(server_id, None)

    # ── steps of start and stop

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

    # ── plain calls

    async def external_instance_event(self, server_id: str, event: str, tag: str) -> None:
        if event == "network-vif-plugged":
            self._event(tag).set()

    async def get_console_output(self, server_id: str, length: int | None) -> str:
        return await self.machine.disks.console_log(server_id, length)

    async def get_vnc_console(self, server_id: str) -> tuple[str, int]:
        return await self.machine.hypervisor.vnc_address(server_id)

    # ── what they share

    def _spec(self, server: ServerForHost, local: list[Any]) -> GuestSpec:
        console = self.machine.disks.console_path(server.id)
        return guest_spec(server, local, self.machine.switch.tap_name, console, self.settings.prefix)

    async def _ports_up(self, token: str, server: ServerForHost) -> None:
        """Wait for network's word on every port; ask it now and then, in case the word was lost."""
        deadline = self.world.clock.monotonic() + self.settings.vif_plugging_timeout_seconds
        down = {port.id for port in server.ports if port.status != "ACTIVE" and not self._event(port.id).is_set()}
        pause = 2.0
        while down:
            waits = [self.world.spawn(self._event(port).wait(), f"port {port}") for port in sorted(down)]
            await asyncio.wait(waits, timeout=pause)
            for wait in waits:
                wait.cancel()
            down = {port for port in down if not self._event(port).is_set()}
            if down:
                now = await self.peers.networks.ports_of(token, server.id)
                down -= {port.id for port in now if port.status == "ACTIVE"}
            if down and self.world.clock.monotonic() > deadline:
                raise unavailable(
                    "The server's network did not become ready in time.",
                    hint="The operator finds the reason in the log of the host's L2 agent.",
                    inside=f"ports {sorted(down)} on {self.host}",
                )
            pause = min(pause * 2, 10.0)
        for port in server.ports:
            self._plugged.pop(port.id, None)

    def _event(self, port_id: str) -> asyncio.Event:
        if len(self._plugged) > 10_000:  # events of ports that no server here waits for any more
            self._plugged.clear()
        return self._plugged.setdefault(port_id, asyncio.Event())

    def _lock(self, server_id: str) -> asyncio.Lock:
        return self._locks.setdefault(server_id, asyncio.Lock())

    async def _record(self, server_id: str) -> ServerForHost:
        return await self._asked(lambda: self.conductor.server_for_host(self.host, server_id))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The conductor's answer to a question that may be asked again: a lost message must not fail a step."""
        for _ in range(QUESTION_TRIES - 1):
            try:
                return await ask()
            except Fault as fault:
                if fault.kind is not Kind.UNAVAILABLE:
                    raise
            await self.world.clock.sleep(self.world.random.random())
        return await ask()

    async def _record_or_none(self, server_id: str) -> ServerForHost | None:
        try:
            return await self._record(server_id)
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return None
            raise

    async def _secrets(self) -> StepSecrets:
        if not in_step():  # guests that ran before are started again: nothing was sealed for that
            return StepSecrets()
        step = current_step()
        try:
            return await self._asked(lambda: self.conductor.step_secrets(self.host, step.operation, step.epoch))
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:  # a loop's or a takeover's step: nothing was sealed
                return StepSecrets()
            raise

    async def _token(self) -> str:
        return (await self._secrets()).token or await self.peers.own_token()
