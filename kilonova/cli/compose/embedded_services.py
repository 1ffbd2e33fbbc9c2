"""The embedded cloud's services, wired to each other through their own doors in one process. Read `build` down."""

from __future__ import annotations

from dataclasses import dataclass

from kilonova.block_storage.scheduler import Scheduler as VolumeScheduler
from kilonova.block_storage.schema import journal as volume_journal
from kilonova.cli.compose import services
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.hosts import VolumeHost
from kilonova.compute.conductor import ComputeConductor
from kilonova.compute.core import Compute
from kilonova.compute.metadata import metadata_app
from kilonova.compute.reconcile.loops import LOOPS as COMPUTE_LOOPS
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.compute.schema import journal as compute_journal
from kilonova.compute.server import tally_store
from kilonova.http.client import AsgiTransport
from kilonova.identity import service as identity
from kilonova.identity.core import IdentityService
from kilonova.image.schema import journal as image_journal
from kilonova.image.worker import ImageWorker
from kilonova.network.worker import NetworkWorker
from kilonova.node.agents.compute.core import Peers as AgentPeers
from kilonova.node.vswitch.metadata_proxy import MetadataAnswer, MetadataRequest
from kilonova.saga.loops import Loops


@dataclass
class Services:
    """What `build` made, and what runs beside the APIs."""

    ground: Ground
    identity: IdentityService
    compute: Compute
    conductor: ComputeConductor
    network_worker: NetworkWorker
    volume_scheduler: VolumeScheduler
    image_worker: ImageWorker
    metadata: AsgiTransport
    scheduler: SchedulerWorker | None = None

    async def start_conductors(self) -> None:
        """Whoever answers agents and runs operations: before the agents come."""
        await self.network_worker.start()
        await self.volume_scheduler.start()
        await self.image_worker.start()
        await self.conductor.start()
        self.scheduler = await services.scheduler(self.ground)
        await self.scheduler.serve(self.ground.bus("scheduler"), "")

    def start_loops(self) -> None:
        """Reconcile loops: when hosts are there to be compared with."""
        Loops(self.ground.world, self.conductor.compute, COMPUTE_LOOPS).start()
        Loops(self.ground.world, self.identity, identity.LOOPS).start()

    def agent_peers(self) -> AgentPeers:
        """What compute agents ask over REST."""
        return services.agent_peers(self.ground)

    async def start_volume_agent(self, host: VolumeHost) -> None:
        """The volume agent of the host that keeps the volumes."""
        await services.volume_agent(self.ground, host).start()

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
        images = await self.image_worker.service.db.read(image_journal.under_way)
        return servers[0] + volumes[0] + images[0], servers[1] + volumes[1] + images[1]

    async def close(self) -> None:
        """Take no more messages."""
        await self.conductor.close()
        if self.scheduler is not None:
            await self.scheduler.close()
        await self.network_worker.close()
        await self.volume_scheduler.close()
        await self.image_worker.close()


async def build(ground: Ground) -> Services:
    """Every API mounted on the ground; nothing runs in the background yet."""
    made_identity = await services.identity_api(ground)
    await services.bootstrap_identity(ground, made_identity)
    made_image = await services.image_service(ground)
    await made_image.recover()
    services.image_api(ground, made_image)
    image_worker = await services.image_worker(ground, made_image)
    await services.placement_api(ground)
    network = await services.network_service(ground)
    services.network_api(ground, network)
    await services.volume_api(ground)
    volume_scheduler = await services.volume_scheduler(ground)
    made_compute = await services.compute_side(ground, "nova-api")
    services.compute_api(ground, made_compute)
    conductor = await services.conductor(ground)
    metadata = AsgiTransport(metadata_app(made_compute))
    worker = NetworkWorker(network, ground.host)
    return Services(ground, made_identity, made_compute, conductor, worker, volume_scheduler, image_worker, metadata)
