"""A simulated cloud: conductors, a scheduler and compute hosts as processes on one seeded loop.

Every process can crash and be replaced; the databases, the broker, the machines and the peers' books survive. Hosts
run the real compute agent on fake machines.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sqlalchemy import Connection

from kilonova.base.faults import invalid
from kilonova.bus import rpc
from kilonova.bus.memory import MemoryBroker, MemoryBus, SeededFaults
from kilonova.compute.conductor import ComputeConductor
from kilonova.compute.contract import (
    COMPUTE_TOPIC,
    EXCHANGE,
    SCHEDULER_TOPIC,
    BlockDevice,
    Flavor,
    Scheduler,
)
from kilonova.compute.core import Compute, Limits, Peers
from kilonova.compute.reconcile import orphan_allocations
from kilonova.compute.schema import metadata
from kilonova.compute.server import seen_store, store
from kilonova.compute.settings import ComputeSettings
from kilonova.db.inline import InlineDatabase
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.agents.compute.core import ComputeSettings as AgentSettings
from kilonova.node.agents.compute.core import Machine
from kilonova.node.agents.compute.core import Peers as AgentPeers
from kilonova.node.agents.compute.worker import ComputeWorker
from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine
from kilonova.node.images.fake import FakeLocalDisks
from kilonova.node.vswitch.fake import FakeVirtualSwitch
from kilonova.saga.journal import UNFINISHED
from kilonova.saga.seal import Sealer
from kilonova.saga.seams import Seams
from kilonova.sim.peers import (
    IMAGE,
    Books,
    SimImages,
    SimNetworks,
    SimPlacement,
    SimScheduler,
    SimVolumes,
    sample_image,
)
from kilonova.sim.world import SimWorld

SEALER = Sealer([Sealer.new_key()])
FLAVORS = {
    "1": Flavor("1", "m1.tiny", 1, 512, 1),
    "2": Flavor("2", "m1.small", 1, 2048, 20),
    "3": Flavor("3", "m1.medium", 2, 4096, 40),
}


@dataclass
class SimCatalogue:
    """Compute's other nouns, in memory."""

    quota: Limits = field(default_factory=lambda: Limits(100, 400, 1 << 20))
    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def flavor(self, connection: Connection, flavor_id: str, project_id: str) -> Flavor:
        """One of `FLAVORS`."""
        if flavor_id not in FLAVORS:
            raise invalid(f"Flavor {flavor_id} could not be found.", code="FlavorNotFound")
        return FLAVORS[flavor_id]

    def public_key(self, connection: Connection, user_id: str, name: str) -> str:
        """What was put into `keys`."""
        if (user_id, name) not in self.keys:
            raise invalid("Invalid key_name provided.")
        return self.keys[user_id, name]

    def lock_limits(self, connection: Connection, project_id: str) -> Limits:
        """The same for everybody; one writer at a time is the lock."""
        return self.quota

    def limits(self, connection: Connection, project_id: str) -> Limits:
        """The same for everybody."""
        return self.quota

    def user_limits(self, connection: Connection, project_id: str, user_id: str) -> Limits | None:
        """None were set for anybody."""
        return None

    def zone_of(self, connection: Connection, host: str) -> str:
        """All hosts are in `nova`."""
        return "nova"

    def zones(self, connection: Connection) -> set[str]:
        """Only `nova`."""
        return {"nova"}

    def join_group(self, connection: Connection, group_id: str, project_id: str, server_id: str) -> None:
        """There are no groups."""
        raise invalid(f"Instance group {group_id} could not be found.")

    def leave_groups(self, connection: Connection, server_id: str) -> None:
        """There are no groups."""

    def check_group(self, connection: Connection, server_id: str, host: str) -> None:
        """There are no groups."""


class SimHost:
    """A compute host: the machine survives, its agent may die and come back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = FakeMachine(name, vcpus=64, memory_mb=256 << 10, disk_gb=10_000)
        self.world: SimWorld | None = None
        self.ledger: InlineDatabase


class SimCloud:
    """Make one per run; `await start()`, then act through `api`."""

    def __init__(
        self,
        seed: int,
        seams: Seams | None = None,
        *,
        hosts: int = 2,
        faulty: bool = False,
        settings: ComputeSettings | None = None,
    ) -> None:
        self.seed = seed
        self.seams = seams
        faults = SeededFaults(random.Random(seed), loss=0.05, delay=0.3, double=0.1) if faulty else None
        self.broker = MemoryBroker(faults=faults)
        self.books = Books(images={IMAGE: sample_image()})
        self.catalogue = SimCatalogue()
        self.settings = settings or ComputeSettings(stop_grace_seconds=2.0)
        self.api_world = SimWorld("nova-api", seed)
        self.db = InlineDatabase("nova", self.api_world.clock)
        metadata.create_all(self.db.engine)
        self.hosts = {f"node{number}": SimHost(f"node{number}") for number in range(1, hosts + 1)}
        for host in self.hosts.values():
            host.ledger = InlineDatabase(f"ledger {host.name}", self.api_world.clock)
        self.conductors: list[SimWorld] = []
        self.born = 0
        self.api = self.compute(self.api_world, self.db, "nova-api")

    # ── processes

    def _world(self, name: str) -> SimWorld:
        self.born += 1
        return SimWorld(f"{name}-{self.born}", self.seed)

    def compute(self, world: SimWorld, db: InlineDatabase, sender: str) -> Compute:
        """One process' compute service."""

        async def own_token() -> str:
            return "service"

        peers = Peers(
            SimPlacement(world, self.books),
            SimNetworks(world, self.books),
            SimVolumes(world, self.books),
            SimImages(world, self.books),
            own_token,
        )
        bus = MemoryBus(world, self.broker, sender)
        return Compute(world, db, bus, SEALER, peers, self.catalogue, self.settings)

    async def start(self) -> None:
        """All processes up, and every host known."""
        await self.start_scheduler()
        await self.start_conductor()
        for name in self.hosts:
            await self.start_host(name)
        while len(self.books.providers) < len(self.hosts):
            await self.api_world.clock.sleep(0.1)

    async def start_scheduler(self) -> None:
        """A scheduler process."""
        world = self._world("nova-scheduler")
        served = rpc.handlers(Scheduler, SimScheduler(world, self.books))
        await MemoryBus(world, self.broker, "scheduler").serve(EXCHANGE, SCHEDULER_TOPIC, "", served)

    async def start_conductor(self) -> ComputeConductor:
        """One more conductor process."""
        world = self._world("nova-conductor")
        self.conductors.append(world)
        db = self.db.seen_by(world.seam, world.seam)
        conductor = ComputeConductor(self.compute(world, db, "conductor"), self.seams)
        await conductor.start()
        return conductor

    async def start_host(self, name: str) -> None:
        """The agent of a host comes (back) up."""
        host = self.hosts[name]
        world = host.world = self._world(name)

        async def own_token() -> str:
            return f"agent-{name}"

        machine = Machine(
            FakeHypervisor(world, host.machine), FakeLocalDisks(world, host.machine), FakeVirtualSwitch(host=name)
        )
        peers = AgentPeers(
            SimImages(world, self.books), SimNetworks(world, self.books), SimVolumes(world, self.books), own_token
        )
        bus = MemoryBus(world, self.broker, f"{COMPUTE_TOPIC}.{name}")
        ledger = host.ledger.seen_by(world.seam, world.seam)
        agent = ComputeHostAgent((world, bus, name, ledger), machine, peers, AgentSettings())
        await ComputeWorker(world, bus, ledger, agent).start()

    def crash_conductors(self) -> None:
        """Every conductor dies, as by kill -9."""
        for world in self.conductors:
            world.crash()
            self.broker.lose(world)
        self.conductors.clear()

    def crash_host(self, name: str) -> None:
        """The agent of a host dies; its guests run on."""
        world = self.hosts[name].world
        if world is not None:
            world.crash()
            self.broker.lose(world)
            self.hosts[name].world = None

    # ── looking

    async def settle(self, limit_seconds: float = 1800.0) -> None:
        """Until no operation is unfinished; a conductor is there again whenever none is."""
        end = self.api_world.clock.monotonic() + limit_seconds
        while self.api_world.clock.monotonic() < end:
            await self.api_world.clock.sleep(1.0)
            if not self.conductors:
                await self.start_conductor()
            if not await self.db.read(seen_store.count_operations, (*UNFINISHED, "superseded")):
                await orphan_allocations.run(self.api)
                return
        raise AssertionError(f"unfinished after {limit_seconds} s: {await self.db.read(seen_store.open_operations)}")

    def servers(self) -> list[store.Server]:
        """Every server's record, deleted ones too."""
        with self.db.engine.connect() as connection:
            return seen_store.every(connection)

    def devices(self, server_id: str) -> list[BlockDevice]:
        """The block devices of a server's record."""
        with self.db.engine.connect() as connection:
            return store.devices_of(connection, server_id)

    def guests(self) -> dict[str, list[str]]:
        """server id → hosts that have its guest."""
        found: dict[str, list[str]] = {}
        for host in self.hosts.values():
            for guest_id in host.machine.guests:
                found.setdefault(guest_id, []).append(host.name)
        return found
