"""The whole cloud on one seeded loop: every service real, every process able to crash and to come back.

Compute, network, block storage, placement, image and the scheduler ask each other through their own doors, hosts run
their real agents on fake machines. Only identity is simpler (`wire.Tokens`). Databases, broker and machines survive.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from kilonova.block_storage import service as block_storage
from kilonova.block_storage.client import VolumeClient
from kilonova.block_storage.scheduler import Scheduler as VolumeScheduler
from kilonova.bus.memory import MemoryBroker, MemoryBus, SeededFaults
from kilonova.compute import service as compute
from kilonova.compute.catalogue import StoredCatalogue
from kilonova.compute.client import ComputeEvents
from kilonova.compute.conductor import ComputeConductor
from kilonova.compute.core import Compute
from kilonova.compute.core import Peers as ComputePeers
from kilonova.compute.reconcile.loops import LOOPS as COMPUTE_LOOPS
from kilonova.compute.scheduler.kept import DatabaseRecorder
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.compute.settings import ComputeSettings
from kilonova.db.inline import Disk, InlineDatabase
from kilonova.http.client import Client
from kilonova.image import service as image
from kilonova.image.client import ImageClient
from kilonova.network import service as network
from kilonova.network.client import NetworkClient
from kilonova.network.worker import NetworkWorker
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.agents.compute.core import ComputeSettings as AgentComputeSettings
from kilonova.node.agents.compute.core import Machine
from kilonova.node.agents.compute.core import Peers as AgentPeers
from kilonova.node.agents.compute.worker import ComputeWorker
from kilonova.node.agents.dhcp import DhcpAgent
from kilonova.node.agents.frame import AgentSettings
from kilonova.node.agents.l2 import L2Agent
from kilonova.node.agents.l3 import L3Agent
from kilonova.node.agents.volume import Peers as VolumePeers
from kilonova.node.agents.volume import VolumeHostAgent, VolumeWorker
from kilonova.node.hypervisor.fake import FakeHypervisor
from kilonova.node.images.fake import FakeLocalDisks
from kilonova.node.images.inspector import InlineInspector
from kilonova.node.images.store import MemoryStore
from kilonova.node.volumes.fake import FakeVolumeBackend
from kilonova.placement import service as placement
from kilonova.placement.client import PlacementClient
from kilonova.policy.personas import network_base_rules
from kilonova.policy.rules import Policy, Rule
from kilonova.saga.loops import Loops
from kilonova.saga.seal import Sealer
from kilonova.saga.seams import Seams
from kilonova.sim.whole_machines import SimImageFiles, SimImages, WholeHost
from kilonova.sim.wire import Door, Tokens, Wire
from kilonova.sim.world import SimWorld

SEALER = Sealer([Sealer.new_key()])
SCHEMAS = {
    "compute": compute.MIGRATIONS,
    "network": network.MIGRATIONS,
    "block_storage": block_storage.MIGRATIONS,
    "placement": placement.MIGRATIONS,
    "image": image.MIGRATIONS,
}
Images = dict[str, bytes]


class WholeCloud:
    """Make one per run with the databases' contents; `await start()`, then act through `client`."""

    def __init__(
        self,
        seed: int,
        images: Images,
        *,
        hosts: int = 2,
        faulty: bool = False,
        seams: Seams | None = None,
        hasty: Collection[str] = (),
    ) -> None:
        """`hasty`: names of units that do not wait for the disk although somebody was answered with them."""
        self.seed = seed
        self.seams = seams
        self._faults = SeededFaults(random.Random(seed), loss=0.05, delay=0.3, double=0.1) if faulty else None
        self.broker = MemoryBroker(faults=self._faults)
        self.user = SimWorld("user", seed)
        self._commits_left: int | None = None  # until the power is cut
        self.databases = {
            name: InlineDatabase(name, self.user.clock, image=images.get(name, b""), disk=Disk(self._committed, hasty))
            for name in SCHEMAS
        }
        self.hosts = {f"node{number}": WholeHost(f"node{number}", self.user) for number in range(1, hosts + 1)}
        self.store = MemoryStore()
        self.tokens = Tokens()
        self.doors: dict[str, Door] = {}
        self.processes: dict[str, SimWorld] = {}
        self.born = 0
        self._starts: dict[str, Callable[[SimWorld, str], Awaitable[None]]] = {
            "compute-api": self._compute_api,
            "conductor": self._conductor,
            "scheduler": self._scheduler,
            "network": self._network,
            "volume-api": self._volume_api,
            "volume-scheduler": self._volume_scheduler,
            "placement": self._placement,
            "image": self._image,
            "compute": self._compute_agent,
            "l2": self._l2_agent,
            "dhcp": self._dhcp_agent,
            "l3": self._l3_agent,
            "volume": self._volume_agent,
        }

    # ── processes

    def names(self) -> list[str]:
        """Every process of the cloud, in the order in which they start."""
        services = list(self._starts)[:8]
        agents = [f"{kind}.{host}" for host in self.hosts for kind in ("l2", "compute")]
        return [*services, *agents, "dhcp.node1", "l3.node1", "volume.node1"]

    async def start(self, name: str) -> None:
        """A process comes (back) up; it runs already: nothing."""
        if self.alive(name):
            return
        self.born += 1
        world = self.processes[name] = SimWorld(f"{name}-{self.born}", self.seed)
        kind, _, host = name.partition(".")
        await self._starts[kind](world, host)

    async def start_all(self) -> None:
        """Whatever does not run comes up."""
        for name in self.names():
            await self.start(name)

    def alive(self, name: str) -> bool:
        """Whether it runs."""
        return name in self.processes and not self.processes[name].dead

    def crash(self, name: str) -> None:
        """The process dies, as by kill -9."""
        if self.alive(name):
            self.processes[name].crash()
            self.broker.lose(self.processes[name])

    # ── electricity

    def cut_power_after(self, commits: int) -> None:
        """The machine that all run on loses its power at the end of that commit, counted over all databases."""
        self._commits_left = commits
        self._watch(True)

    def _watch(self, watched: bool) -> None:
        for database in self.databases.values():
            if database.disk is not None:
                database.disk.watched = watched

    def _committed(self) -> None:
        if self._commits_left is not None:
            self._commits_left -= 1
            if not self._commits_left:
                self.cut_power()

    def cut_power(self) -> None:
        """Every process, guest and message is gone, and what was on no disk yet."""
        self._commits_left = None
        self._watch(False)
        for name in self.names():
            self.crash(name)
        chance = self.user.random
        self.broker = MemoryBroker(faults=self._faults)
        for database in self.databases.values():
            database.power_cut(chance)
        for host in self.hosts.values():
            host.lose_power(self.user, chance)

    # ── what a process stands on

    def client(self, world: SimWorld, mount: str, service_user: str = "") -> Client:
        """A client of a service, in one process."""

        async def token() -> str:
            return service_user

        wire = Wire(world, lambda: self.doors.get(mount))
        return Client(wire, service_token=token if service_user else None)

    def _db(self, world: SimWorld, name: str) -> InlineDatabase:
        return self.databases[name].seen_by(world.seam, world.seam)

    def _bus(self, world: SimWorld, sender: str) -> MemoryBus:
        return MemoryBus(world, self.broker, sender)

    def _policy(self, rules: tuple[Rule, ...]) -> Policy:
        return Policy(rules)

    def _open(self, world: SimWorld, mount: str, app: Any) -> None:
        self.doors[mount] = Door(world, app)

    def _placement_client(self, world: SimWorld) -> PlacementClient:
        return PlacementClient(self.client(world, "placement"), _token("nova"), world)

    def _compute(self, world: SimWorld, sender: str) -> Compute:
        peers = ComputePeers(
            self._placement_client(world),
            NetworkClient(self.client(world, "network", "nova")),
            VolumeClient(self.client(world, "volume", "nova")),
            ImageClient(world, self.client(world, "image", "nova")),
            _token("nova"),
        )
        reclaim = 30.0 if self.seed % 3 == 0 else 0.0  # soft delete is on in every third cloud
        settings = ComputeSettings(stop_grace_seconds=2.0, reclaim_instance_interval_seconds=reclaim)
        db, bus = self._db(world, "compute"), self._bus(world, sender)
        return Compute(world, db, bus, SEALER, peers, StoredCatalogue(), settings)

    # ── services

    async def _compute_api(self, world: SimWorld, _host: str) -> None:
        app = compute.compute_app(self._compute(world, "nova-api"), self.tokens, self._policy(compute.POLICY))
        self._open(world, "compute", app)

    async def _conductor(self, world: SimWorld, _host: str) -> None:
        made = self._compute(world, "conductor")
        await ComputeConductor(made, self.seams).start()
        Loops(world, made, COMPUTE_LOOPS).start()

    async def _scheduler(self, world: SimWorld, _host: str) -> None:
        db = self._db(world, "compute")
        hosts = DatabaseHosts(world, db, StoredCatalogue().zones_of_hosts)
        worker = SchedulerWorker(world, self._placement_client(world), hosts, recorder=DatabaseRecorder(db))
        await worker.serve(self._bus(world, "scheduler"), "")

    async def _network(self, world: SimWorld, _host: str) -> None:
        events = ComputeEvents(self.client(world, "compute"), _token("neutron"))
        bus = self._bus(world, "q-plugin.node1")
        made = network.NetworkService(world, self._db(world, "network"), bus, server_events=events)
        policy = self._policy((*network_base_rules, *network.RULES))
        self._open(world, "network", network.network_app(made, self.tokens, policy))
        await NetworkWorker(made, "node1").start()

    async def _volume_api(self, world: SimWorld, _host: str) -> None:
        images = ImageClient(world, self.client(world, "image", "cinder"))
        db, bus = self._db(world, "block_storage"), self._bus(world, "cinder-api")
        made = block_storage.BlockStorage(world, db, bus, SEALER, images)
        app = block_storage.block_storage_app(made, self.tokens, self._policy(block_storage.RULES))
        self._open(world, "volume", app)

    async def _volume_scheduler(self, world: SimWorld, _host: str) -> None:
        db, bus = self._db(world, "block_storage"), self._bus(world, "cinder-scheduler")
        events = ComputeEvents(self.client(world, "compute"), _token("cinder"))
        await VolumeScheduler(world, db, bus, SEALER, events, seams=self.seams).start()

    async def _placement(self, world: SimWorld, _host: str) -> None:
        made = placement.PlacementService(world, self._db(world, "placement"))
        self._open(world, "placement", placement.placement_app(made, self.tokens, self._policy(placement.RULES)))

    async def _image(self, world: SimWorld, _host: str) -> None:
        parts = image.ImageParts(inspector=InlineInspector())
        made = image.ImageService(world, self._db(world, "image"), self.store, image.ImageSettings(), parts)
        self._open(world, "image", image.image_app(made, self.tokens, self._policy(image.RULES)))

    # ── agents

    async def _compute_agent(self, world: SimWorld, name: str) -> None:
        host = self.hosts[name]
        machine = Machine(FakeHypervisor(world, host.machine), FakeLocalDisks(world, host.machine), host.switch)
        peers = AgentPeers(
            SimImages(world, self.client(world, "image", "agent")),
            NetworkClient(self.client(world, "network", "agent")),
            VolumeClient(self.client(world, "volume", "agent")),
            _token("agent"),
        )
        bus = self._bus(world, f"compute.{name}")
        ledger = host.ledger.seen_by(world.seam, world.seam)
        agent = ComputeHostAgent((world, bus, name, ledger), machine, peers, AgentComputeSettings(part=host.part))
        await ComputeWorker(world, bus, ledger, agent).start()

    def _agent_settings(self, name: str) -> AgentSettings:
        number = name.removeprefix("node")
        return AgentSettings(tunnel_ip=f"192.0.2.{number}", physical_networks=("public",) if number == "1" else ())

    async def _l2_agent(self, world: SimWorld, name: str) -> None:
        bus, switch = self._bus(world, f"l2_agent.{name}"), self.hosts[name].switch
        await L2Agent(world, bus, name, switch, self._agent_settings(name)).start()

    async def _dhcp_agent(self, world: SimWorld, name: str) -> None:
        bus, servers = self._bus(world, f"dhcp_agent.{name}"), self.hosts[name].dhcp
        await DhcpAgent(world, bus, name, servers, self._agent_settings(name)).start()

    async def _l3_agent(self, world: SimWorld, name: str) -> None:
        bus, routers = self._bus(world, f"l3_agent.{name}"), self.hosts[name].routers
        await L3Agent(world, bus, name, routers, self._agent_settings(name)).start()

    async def _volume_agent(self, world: SimWorld, name: str) -> None:
        host = self.hosts[name]
        images = SimImages(world, self.client(world, "image", "agent"))
        bus = self._bus(world, f"cinder-volume.{name}@files")
        backend = FakeVolumeBackend(world, host.pool)
        agent = VolumeHostAgent(
            world, bus, f"{name}@files", backend, VolumePeers(images, SimImageFiles(), _token("agent"))
        )
        await VolumeWorker(world, bus, host.volume_ledger.seen_by(world.seam, world.seam), agent).start()


def _token(name: str) -> Callable[[], Awaitable[str]]:
    async def token() -> str:
        return name

    return token
