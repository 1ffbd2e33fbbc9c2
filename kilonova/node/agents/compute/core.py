"""What every verb of the compute agent works with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import World
from kilonova.block_storage.contract import Volumes
from kilonova.bus import rpc
from kilonova.bus.contract import Bus, Target
from kilonova.bus.steps import DoStep
from kilonova.compute.contract import (
    CONDUCTOR_TOPIC,
    EXCHANGE,
    Conductor,
    Disk,
    GuestSpec,
    Hypervisor,
    HypervisorInfo,
    LocalDisks,
    Power,
    ServerForHost,
    StepSecrets,
)
from kilonova.compute.contract.pci import HostPart
from kilonova.db.database import Database
from kilonova.image.contract import NOT_ASKED, MadeImages, Trust
from kilonova.network.contract import Networks, VirtualSwitch
from kilonova.node.agents.compute.ledger_placed import HostBooks
from kilonova.node.guest_spec import guest_spec, rescued_spec
from kilonova.node.ledger import current_step, in_step

T = TypeVar("T")
log = logging.getLogger(__name__)

QUESTION_TRIES = 5


class Machine(msgspec.Struct, frozen=True):
    """The host's adapters."""

    hypervisor: Hypervisor
    disks: LocalDisks
    switch: VirtualSwitch


class Peers(msgspec.Struct, frozen=True):
    """The services that the agent asks over REST. `own_token` is the agent's service user's."""

    images: MadeImages
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
    trust: Trust = NOT_ASKED  # what images must prove when their server says nothing
    part: HostPart = HostPart()


_told: ContextVar[tuple[DoStep, StepSecrets]] = ContextVar("kilonova_step_secrets")  # they came with the record


Place = tuple[World, Bus, str, Database]  # where an agent is: its world, bus, host and ledger


class HostCore:
    """What the agent's verbs share: the host's adapters, the peers, the server's record, secrets and lock."""

    def __init__(self, place: Place, machine: Machine, peers: Peers, settings: ComputeSettings) -> None:
        world, bus, host, ledger = place
        self.world = world
        self.host = host
        self.machine = machine
        self.peers = peers
        self.settings = settings
        self.conductor = rpc.client(Conductor, bus, Target(EXCHANGE, CONDUCTOR_TOPIC))
        self._plugged: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._builds = asyncio.Semaphore(settings.parallel_builds)
        self.books = HostBooks(ledger, settings.part)
        self._took_to: dict[str, Power] = {}  # server → the power that a build or a deletion left its guest at
        self.failed_builds = 0  # guests that did not start since one did; BuildFailureWeigher keeps servers away

    async def info(self) -> HypervisorInfo:
        """What the host is and has; its PCI devices only where some are given away, as there may be hundreds."""
        hypervisor = self.machine.hypervisor
        info = await hypervisor.info()
        if not self.settings.part.pci.device_spec:
            return info
        return msgspec.structs.replace(info, pci_devices=await hypervisor.pci_devices())

    async def _spec(self, server: ServerForHost, local: list[Disk], rescue: Sequence[Disk] = ()) -> GuestSpec:
        """The guest with all that it is made of; CPUs, pages and devices of its own are chosen at its first start."""
        placed = await self.books.place(server, self.info)
        floating = self.books.floating(await self.info()) if self.settings.part.divides and not placed.cells else ()
        console = self.machine.disks.console_path(server.id)
        spec = guest_spec(server, local, self.machine.switch.tap_name, console, self.settings.prefix)
        spec = msgspec.structs.replace(spec, placed=placed, shared_cpus=floating)
        return rescued_spec(spec, server.rescue, rescue) if server.rescue and rescue else spec

    def _event(self, port_id: str) -> asyncio.Event:
        if len(self._plugged) > 10_000:  # events of ports that no server here waits for any more
            self._plugged.clear()
        return self._plugged.setdefault(port_id, asyncio.Event())

    def took_to(self, server_id: str) -> Power | None:
        """What a verb whose step tells of it took the guest to, once: None when nothing did since it was asked."""
        return self._took_to.pop(server_id, None)

    def _takes_to(self, server_id: str, power: Power) -> None:
        if len(self._took_to) > 10_000:  # of guests that were so already: nobody heard of a change
            self._took_to.clear()
        self._took_to[server_id] = power

    def _lock(self, server_id: str) -> asyncio.Lock:
        return self._locks.setdefault(server_id, asyncio.Lock())

    async def _record(self, server_id: str) -> ServerForHost:
        if not in_step():
            return await self._asked(lambda: self.conductor.server_for_host(self.host, server_id))
        step = current_step()
        server = await self._asked(
            lambda: self.conductor.server_for_host(self.host, server_id, step.operation, step.epoch)
        )
        if server.secrets is not None:
            _told.set((step, server.secrets))
            server.secrets = None
        return server

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
        came_along = _told.get(None)
        if came_along is not None and came_along[0] is step:
            return came_along[1]
        try:
            return await self._asked(lambda: self.conductor.step_secrets(self.host, step.operation, step.epoch))
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:  # a loop's or a takeover's step: nothing was sealed
                return StepSecrets()
            raise

    async def _token(self) -> str:
        return (await self._secrets()).token or await self.peers.own_token()
