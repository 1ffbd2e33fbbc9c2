"""The services of the embedded cloud, wired to each other through their own doors. Read `build` down."""

from __future__ import annotations

from dataclasses import dataclass

from kilonova.block_storage import service as block_storage
from kilonova.block_storage.client import VolumeClient
from kilonova.block_storage.scheduler import Scheduler as VolumeScheduler
from kilonova.block_storage.schema import journal as volume_journal
from kilonova.bus import rpc
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.hosts import Host
from kilonova.compute import service as compute
from kilonova.compute.catalogue import StoredCatalogue
from kilonova.compute.client import ComputeEvents
from kilonova.compute.conductor import ComputeConductor
from kilonova.compute.contract import EXCHANGE, SCHEDULER_TOPIC, Scheduler
from kilonova.compute.core import Compute
from kilonova.compute.core import Peers as ComputePeers
from kilonova.compute.metadata import metadata_app
from kilonova.compute.scheduler.view import DatabaseHosts
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.compute.schema import journal as compute_journal
from kilonova.compute.server import tally_store
from kilonova.db.sqlite import SqliteDatabase
from kilonova.http.client import AsgiTransport
from kilonova.identity import service as identity
from kilonova.identity.bootstrap import Plan, ServiceUserPlan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.image import service as image
from kilonova.image.client import ImageClient
from kilonova.network import service as network
from kilonova.network.client import NetworkClient
from kilonova.network.worker import NetworkWorker
from kilonova.node.agents.compute import Peers as AgentPeers
from kilonova.node.agents.volume import Peers as VolumePeers
from kilonova.node.agents.volume import VolumeHostAgent, VolumeWorker
from kilonova.node.images.store import FileStore
from kilonova.node.vswitch.metadata_proxy import MetadataAnswer, MetadataRequest
from kilonova.placement import service as placement
from kilonova.placement.client import PlacementClient
from kilonova.policy.personas import network_base_rules
from kilonova.saga.loops import Loops

SERVICE_ROLES = {
    "nova": ("service", "admin"),
    "neutron": ("service", "admin"),
    "cinder": ("service", "admin"),
    "glance": ("service",),
    "placement": ("service",),
    "agent": ("service",),
}
ENDPOINTS = {
    "identity": "/identity/v3",
    "image": "/image",
    "placement": "/placement",
    "compute": "/compute/v2.1",
    "network": "/network",
    "block-storage": "/volume/v3",
    "volumev3": "/volume/v3",
}


@dataclass
class Services:
    """What `build` made, and what runs beside the APIs."""

    ground: Ground
    compute: Compute
    conductor: ComputeConductor
    network: network.NetworkService
    network_worker: NetworkWorker
    volume_scheduler: VolumeScheduler
    metadata: AsgiTransport

    async def start_conductors(self) -> None:
        """Whoever answers agents and runs operations: before the agents come."""
        await self.network_worker.start()
        await self.volume_scheduler.start()
        await self.conductor.start()
        await self._start_scheduler()

    async def _start_scheduler(self) -> None:
        ground = self.ground
        down = ground.settings.compute.host_down_seconds
        zone_of = self.compute.catalogue.zone_of
        hosts = DatabaseHosts(ground.world, self.compute.db, zone_of, host_down_seconds=down)
        worker = SchedulerWorker(ground.world, _placement(ground), hosts)
        await ground.bus("scheduler").serve(EXCHANGE, SCHEDULER_TOPIC, "", rpc.handlers(Scheduler, worker))

    def start_loops(self) -> None:
        """Reconcile loops: when hosts are there to be compared with."""
        Loops(self.ground.world, self.conductor.compute, compute.LOOPS).start()
        identity_loops = Loops(self.ground.world, self.ground.identity, identity.LOOPS)
        identity_loops.start()

    def agent_peers(self) -> AgentPeers:
        """What compute agents ask over REST, with the agents' own service user."""
        ground = self.ground
        return AgentPeers(
            images=ImageClient(ground.world, ground.client("/image", "agent")),
            networks=NetworkClient(ground.client("/network", "agent")),
            volumes=VolumeClient(ground.client("/volume", "agent")),
            own_token=ground.token_of("agent"),
        )

    async def start_volume_agent(self, host: Host) -> None:
        """The volume agent of the host that keeps the volumes."""
        ground = self.ground
        name = f"{host.name}@files"
        bus = ground.bus(f"cinder-volume.{name}")
        ledger_name = f"ledger-volume-{host.name}"
        ledger = SqliteDatabase(ledger_name, ground.state.database(ledger_name), ground.world.clock, readers=1)
        peers = VolumePeers(
            images=ImageClient(ground.world, ground.client("/image", "agent")),
            files=host.image_files,
            own_token=ground.token_of("agent"),
        )
        agent = VolumeHostAgent(ground.world, bus, name, host.volumes, peers)
        await VolumeWorker(ground.world, bus, ledger, agent).start()

    async def forward_metadata(self, request: MetadataRequest) -> MetadataAnswer:
        """A guest's metadata request, answered by compute's metadata API in this process."""
        reply = await self.metadata.send(request.method, request.path, dict(request.headers), request.body)
        return MetadataAnswer(reply.status, list(reply.headers.items()), reply.content)

    async def counts(self) -> dict[str, int]:
        """How much the cloud holds."""
        tally = await self.compute.db.read(tally_store.tally)
        return {"servers": sum(tally.values()), **tally}

    async def unfinished(self) -> tuple[int, int]:
        """(operations under way, of them stuck)."""
        servers = await self.compute.db.read(compute_journal.under_way)
        volumes = await self.volume_scheduler.db.read(volume_journal.under_way)
        return servers[0] + volumes[0], servers[1] + volumes[1]

    async def close(self) -> None:
        """Take no more messages."""
        await self.conductor.close()
        await self.network_worker.close()
        await self.volume_scheduler.close()


async def build(ground: Ground) -> Services:
    """Every API mounted on the ground; nothing runs in the background yet."""
    await _identity(ground)
    await _image(ground)
    await _placement_api(ground)
    made_network = await _network(ground)
    volume_scheduler = await _block_storage(ground)
    made_compute, conductor = await _compute(ground)
    metadata = AsgiTransport(metadata_app(made_compute))
    worker = NetworkWorker(made_network, "node1")
    return Services(ground, made_compute, conductor, made_network, worker, volume_scheduler, metadata)


async def _identity(ground: Ground) -> None:
    db = await ground.database("identity", "kilonova.identity.migrations")
    made = IdentityService(ground.world, db, ground.sealer, ground.settings.identity)
    ground.identity = made
    policy = identity.identity_policy()
    ground.watch_policy("identity", policy)
    ground.mounts["/identity"] = identity.identity_app(made, enforcer=policy)
    secrets = ground.secrets
    users = tuple(
        ServiceUserPlan(name, secret, SERVICE_ROLES[name]) for name, secret in secrets.service_passwords.items()
    )
    urls = {type_: ground.url + path for type_, path in ENDPOINTS.items()}
    plan = Plan(secrets.admin_password, endpoint_plans(urls), users, user_password=secrets.member_password)
    await bootstrap(made, plan)


async def _image(ground: Ground) -> None:
    db = await ground.database("image", image.MIGRATIONS)
    store = FileStore(ground.world, ground.state.directory / "images")
    made = image.ImageService(ground.world, db, store, ground.settings.image)
    await made.recover()
    ground.mounts["/image"] = image.image_app(made, ground.validator, ground.policy("image", image.RULES))


async def _placement_api(ground: Ground) -> None:
    db = await ground.database("placement", placement.MIGRATIONS)
    made = placement.PlacementService(ground.world, db)
    policy = ground.policy("placement", placement.RULES)
    ground.mounts["/placement"] = placement.placement_app(made, ground.validator, policy)


def _placement(ground: Ground) -> PlacementClient:
    return PlacementClient(ground.client("/placement"), ground.token_of("nova"), ground.world)


async def _network(ground: Ground) -> network.NetworkService:
    db = await ground.database("network", network.MIGRATIONS)
    events = ComputeEvents(ground.client("/compute"), ground.token_of("neutron"))
    bus = ground.bus("q-plugin.node1")
    made = network.NetworkService(ground.world, db, bus, ground.network_settings(), server_events=events)
    policy = ground.policy("network", (*network_base_rules, *network.RULES))
    ground.mounts["/network"] = network.network_app(made, ground.validator, policy)
    return made


async def _block_storage(ground: Ground) -> VolumeScheduler:
    db = await ground.database("block_storage", block_storage.MIGRATIONS)
    images = ImageClient(ground.world, ground.client("/image", "cinder"))
    made = block_storage.BlockStorage(ground.world, db, ground.bus("cinder-api"), ground.sealer, images)
    policy = ground.policy("block_storage", block_storage.RULES)
    ground.mounts["/volume"] = block_storage.block_storage_app(made, ground.validator, policy)
    return VolumeScheduler(ground.world, db, ground.bus("cinder-scheduler"), ground.sealer)


async def _compute(ground: Ground) -> tuple[Compute, ComputeConductor]:
    db = await ground.database("compute", compute.MIGRATIONS)
    peers = ComputePeers(
        placement=_placement(ground),
        networks=NetworkClient(ground.client("/network", "nova")),
        volumes=VolumeClient(ground.client("/volume", "nova")),
        images=ImageClient(ground.world, ground.client("/image", "nova")),
        own_token=ground.token_of("nova"),
    )
    settings = ground.compute_settings()

    def side(sender: str) -> Compute:
        return Compute(ground.world, db, ground.bus(sender), ground.sealer, peers, StoredCatalogue(), settings)

    made = side("nova-api")
    policy = ground.policy("compute", compute.POLICY)
    ground.mounts["/compute"] = compute.compute_app(made, ground.validator, policy)
    return made, ComputeConductor(side("conductor"))
