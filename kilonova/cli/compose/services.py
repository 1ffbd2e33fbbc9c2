"""Every service, built on a ground: one function for each process that a cluster may run on its own.

Each imports what it builds: a process does not load the services that it does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonova.cli.compose.ground import Ground

if TYPE_CHECKING:
    from kilonova.block_storage.scheduler import Scheduler as VolumeScheduler
    from kilonova.cli.compose.hosts import VolumeHost
    from kilonova.compute.conductor import ComputeConductor
    from kilonova.compute.core import Compute
    from kilonova.compute.scheduler.worker import SchedulerWorker
    from kilonova.identity.core import IdentityService
    from kilonova.image import service as image
    from kilonova.image.client import ImageClient
    from kilonova.image.worker import ImageWorker
    from kilonova.network import service as network
    from kilonova.node.agents.compute.core import Peers as AgentPeers
    from kilonova.node.agents.volume import VolumeWorker
    from kilonova.placement.client import PlacementClient


COMPUTE_MIGRATIONS = "kilonova.compute.migrations"  # not from its service: schedulers have no use for all its routes
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


async def identity_api(ground: Ground) -> IdentityService:
    """Identity, mounted."""
    from kilonova.identity import service as identity
    from kilonova.identity.core import IdentityService

    db = await ground.database("identity", "kilonova.identity.migrations")
    made = IdentityService(ground.world, db, ground.sealer, ground.settings.identity)
    policy = identity.identity_policy()
    ground.watch_policy("identity", policy)
    ground.mounts["/identity"] = identity.identity_app(made, enforcer=policy)
    return made


async def bootstrap_identity(ground: Ground, made: IdentityService) -> None:
    """The administrator, the services' users and the catalog, all there; what differs is mended."""
    from kilonova.identity.bootstrap import Plan, ServiceUserPlan, bootstrap, endpoint_plans

    secrets = ground.secrets
    users = tuple(
        ServiceUserPlan(name, secret, SERVICE_ROLES[name]) for name, secret in secrets.service_passwords.items()
    )
    public = {type_: ground.public_url(path) for type_, path in ENDPOINTS.items()}
    internal = {type_: ground.internal_url(path) for type_, path in ENDPOINTS.items()}
    endpoints = endpoint_plans(public, internal)
    await bootstrap(made, Plan(secrets.admin_password, endpoints, users, user_password=secrets.member_password))


async def image_service(ground: Ground) -> image.ImageService:
    """What image's API and worker stand on."""
    from kilonova.cli.compose.image_stores import image_parts, image_stores
    from kilonova.image import service as image
    from kilonova.image.stores import Stores

    db = await ground.database("image", image.MIGRATIONS)
    stores = image_stores(ground)
    default = Stores(stores).default.data
    assert default is not None
    return image.ImageService(ground.world, db, default, ground.settings.image, image_parts(ground, stores))


def image_api(ground: Ground, made: image.ImageService) -> None:
    """Image, mounted."""
    from kilonova.image import service as image

    ground.mounts["/image"] = image.image_app(made, ground.validator, ground.policy("image", image.RULES))


async def image_worker(ground: Ground, made: image.ImageService) -> ImageWorker:
    """Who runs imports; the well-known metadata definitions are there."""
    from kilonova.image.metadef.well_known import register_well_known
    from kilonova.image.worker import ImageWorker

    await register_well_known(made)
    return ImageWorker(made, ground.bus("image-worker"))


async def placement_api(ground: Ground) -> None:
    """Placement, mounted."""
    from kilonova.placement import service as placement

    db = await ground.database("placement", placement.MIGRATIONS)
    made = placement.PlacementService(ground.world, db)
    policy = ground.policy("placement", placement.RULES)
    ground.mounts["/placement"] = placement.placement_app(made, ground.validator, policy)


async def network_service(ground: Ground) -> network.NetworkService:
    """What network's API and worker stand on."""
    from kilonova.compute.client import ComputeEvents
    from kilonova.network import service as network

    db = await ground.database("network", network.MIGRATIONS)
    events = ComputeEvents(ground.client("/compute"), ground.token_of("neutron"))
    bus = ground.bus(f"q-plugin.{ground.host}")
    return network.NetworkService(ground.world, db, bus, ground.network_settings(), server_events=events)


def network_api(ground: Ground, made: network.NetworkService) -> None:
    """Network, mounted."""
    from kilonova.network import service as network
    from kilonova.policy.personas import network_base_rules

    policy = ground.policy("network", (*network_base_rules, *network.RULES))
    ground.mounts["/network"] = network.network_app(made, ground.validator, policy)


async def volume_api(ground: Ground) -> None:
    """Block storage, mounted."""
    from kilonova.block_storage import service as block_storage
    from kilonova.image.client import ImageClient

    db = await ground.database("block_storage", block_storage.MIGRATIONS)
    images = ImageClient(ground.world, ground.client("/image", "cinder"))
    made = block_storage.BlockStorage(ground.world, db, ground.bus("cinder-api"), ground.sealer, images)
    policy = ground.policy("block_storage", block_storage.RULES)
    ground.mounts["/volume"] = block_storage.block_storage_app(made, ground.validator, policy)


async def volume_scheduler(ground: Ground) -> VolumeScheduler:
    """Block storage's operations and loops."""
    from kilonova.block_storage import service as block_storage
    from kilonova.block_storage.scheduler import Scheduler as VolumeScheduler
    from kilonova.compute.client import ComputeEvents

    events = ComputeEvents(ground.client("/compute"), ground.token_of("cinder"))
    db = await ground.database("block_storage", block_storage.MIGRATIONS)
    return VolumeScheduler(ground.world, db, ground.bus("cinder-scheduler"), ground.sealer, events)


async def compute_side(ground: Ground, sender: str) -> Compute:
    """Compute, speaking as `sender`: `nova-api`, `conductor`."""
    from kilonova.block_storage.client import VolumeClient
    from kilonova.compute.catalogue import StoredCatalogue
    from kilonova.compute.core import Compute
    from kilonova.compute.core import Peers as ComputePeers
    from kilonova.image.client import ImageClient
    from kilonova.network.client import NetworkClient

    db = await ground.database("compute", COMPUTE_MIGRATIONS)
    peers = ComputePeers(
        placement=placement_client(ground),
        networks=NetworkClient(ground.client("/network", "nova")),
        volumes=VolumeClient(ground.client("/volume", "nova")),
        images=ImageClient(ground.world, ground.client("/image", "nova")),
        own_token=ground.token_of("nova"),
    )
    bus, settings = ground.bus(sender), ground.compute_settings()
    return Compute(ground.world, db, bus, ground.sealer, peers, StoredCatalogue(), settings)


def compute_api(ground: Ground, made: Compute) -> None:
    """Compute, mounted."""
    from kilonova.compute import service as compute

    policy = ground.policy("compute", compute.POLICY)
    ground.mounts["/compute"] = compute.compute_app(made, ground.validator, policy)


async def conductor(ground: Ground) -> ComputeConductor:
    """Compute's operations; the only one that answers hosts."""
    from kilonova.compute.conductor import ComputeConductor

    return ComputeConductor(await compute_side(ground, "conductor"))


async def scheduler(ground: Ground) -> SchedulerWorker:
    """Who chooses hosts: reads compute's tables, claims in placement."""
    from kilonova.compute.catalogue import StoredCatalogue
    from kilonova.compute.scheduler.kept import DatabaseRecorder
    from kilonova.compute.scheduler.rules import Rules
    from kilonova.compute.scheduler.view import DatabaseHosts
    from kilonova.compute.scheduler.worker import SchedulerWorker

    db = await ground.database("compute", COMPUTE_MIGRATIONS)
    down, chosen = ground.settings.compute.host_down_seconds, ground.settings.scheduler
    zones, counting = StoredCatalogue().zones_of_hosts, Rules.of(chosen).counting
    hosts = DatabaseHosts(ground.world, db, zones, host_down_seconds=down, counting=counting)
    return SchedulerWorker(ground.world, placement_client(ground), hosts, chosen, DatabaseRecorder(db))


def placement_client(ground: Ground) -> PlacementClient:
    """Placement, asked in compute's own name."""
    from kilonova.placement.client import PlacementClient

    return PlacementClient(ground.client("/placement"), ground.token_of("nova"), ground.world)


def image_client(ground: Ground) -> ImageClient:
    """Images as agents fetch them: in their own service user's name, verified and inspected on their way."""
    from kilonova.cli.compose.image_stores import certificates, inspector
    from kilonova.image.client import ImageClient

    rest = ground.client("/image", ground.secrets.agent_user)
    return ImageClient(ground.world, rest, certificates(ground), inspector(ground))


def agent_peers(ground: Ground) -> AgentPeers:
    """What compute agents ask over REST, with the agents' own service user."""
    from kilonova.block_storage.client import VolumeClient
    from kilonova.network.client import NetworkClient
    from kilonova.node.agents.compute.core import Peers as AgentPeers

    return AgentPeers(
        images=image_client(ground),
        networks=NetworkClient(ground.client("/network", ground.secrets.agent_user)),
        volumes=VolumeClient(ground.client("/volume", ground.secrets.agent_user)),
        own_token=ground.token_of(ground.secrets.agent_user),
    )


def volume_agent(ground: Ground, host: VolumeHost) -> VolumeWorker:
    """The volume agent of the host that keeps the volumes."""
    from kilonova.cli.compose.image_stores import trust
    from kilonova.node.agents.volume import Peers as VolumePeers
    from kilonova.node.agents.volume import VolumeHostAgent, VolumeWorker

    name = f"{host.name}@{host.backend}"
    bus = ground.bus(f"cinder-volume.{name}")
    peers = VolumePeers(
        images=image_client(ground),
        files=host.image_files,
        own_token=ground.token_of(ground.secrets.agent_user),
        trust=trust(ground),
    )
    agent = VolumeHostAgent(ground.world, bus, name, host.volumes, peers)
    return VolumeWorker(ground.world, bus, ground.ledger(f"volume-{host.name}"), agent)
