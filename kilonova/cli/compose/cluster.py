"""A cluster's processes: every name of `kilonova service NAME`, what it starts, and the groups of them.

A part is built by the same functions as in the embedded cloud; here is only which of them one process runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from kilonova.base.faults import invalid
from kilonova.cli.compose import services
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.state import State

if TYPE_CHECKING:
    from kilonova.cli.compose.hosts import Host, Wires


class Process:
    """One process of the cluster while its parts are started: the ground, and the host that its agents share."""

    def __init__(self, ground: ClusterGround) -> None:
        self.ground = ground
        self._wires: Wires | None = None
        self._host: Host | None = None

    async def wires(self) -> Wires:
        """This host's network machinery, made when the first agent needs it."""
        from kilonova.cli.compose.cluster_host import make_wires

        if self._wires is None:
            self._wires = await make_wires(self.ground)
            self.ground.closing.append(self._wires.close)
        return self._wires

    async def host(self) -> Host:
        """This host's whole machinery, made when the first agent needs it."""
        from kilonova.cli.compose.cluster_host import make_host

        if self._host is None:
            self._host = await make_host(self.ground, await self.wires())
        return self._host


Start = Callable[[Process], Awaitable[None]]


@dataclass(frozen=True)
class Part:
    """One name. `sender`: the agent it speaks as on the bus, for agents; they stay root.

    `signs`: it has the authority's key, when the settings name it.
    """

    start: Start
    sender: str = ""
    signs: bool = False


async def _identity_api(process: Process) -> None:
    from kilonova.cli.compose.admission import Admission
    from kilonova.identity import service as identity
    from kilonova.saga.loops import Loops

    made = await services.identity_api(process.ground)
    made.admission = Admission(process.ground)
    Loops(process.ground.world, made, identity.LOOPS).start()


async def _image_api(process: Process) -> None:
    services.image_api(process.ground, await services.image_service(process.ground))


async def _image_worker(process: Process) -> None:
    ground = process.ground
    made = await services.image_worker(ground, await services.image_service(ground))
    await made.start()
    process.ground.closing.append(made.close)


async def _placement_api(process: Process) -> None:
    await services.placement_api(process.ground)


async def _compute_api(process: Process) -> None:
    services.compute_api(process.ground, await services.compute_side(process.ground, "nova-api"))


async def _conductor(process: Process) -> None:
    from kilonova.compute.reconcile.loops import LOOPS
    from kilonova.saga.loops import Loops

    made = await services.conductor(process.ground)
    await made.start()
    process.ground.closing.append(made.close)
    Loops(process.ground.world, made.compute, LOOPS).start()


async def _scheduler(process: Process) -> None:
    ground = process.ground
    worker = await services.scheduler(ground)
    await worker.serve(ground.bus("scheduler"), ground.host)
    ground.closing.append(worker.close)


async def _console_proxy(process: Process) -> None:
    from kilonova.cli.compose.cluster_consoles import through_relay
    from kilonova.cli.compose.consoles import console_proxy

    process.ground.mounts["/console"] = console_proxy(process.ground, through_relay(process.ground))


async def _metadata_api(process: Process) -> None:
    from kilonova.compute.metadata import metadata_app

    process.ground.mounts[""] = metadata_app(await services.compute_side(process.ground, "nova-metadata"))


async def _network_api(process: Process) -> None:
    services.network_api(process.ground, await services.network_service(process.ground))


async def _network_worker(process: Process) -> None:
    from kilonova.network.worker import NetworkWorker

    worker = NetworkWorker(await services.network_service(process.ground), process.ground.host)
    await worker.start()
    process.ground.closing.append(worker.close)


async def _volume_api(process: Process) -> None:
    await services.volume_api(process.ground)


async def _volume_scheduler(process: Process) -> None:
    made = await services.volume_scheduler(process.ground)
    await made.start()
    process.ground.closing.append(made.close)


async def _trace_collector(process: Process) -> None:
    from kilonova.cli.compose.traces import TraceKeeper
    from kilonova.cli.trace import trace_file

    ground = process.ground
    keeper = TraceKeeper(ground.world, trace_file(State(ground.directory)))
    subscription = await keeper.serve(ground.bus("trace-collector"))

    async def close() -> None:
        await subscription.close()
        keeper.close()

    ground.closing.append(close)


async def _network_agent(kind: str, process: Process) -> None:
    from kilonova.cli.compose.hosts import network_agent
    from kilonova.node.agents.frame import AgentSettings

    cluster, wires = process.ground.cluster, await process.wires()
    external = bool(cluster.external_interface) or (cluster.network == "fake" and kind == "l3")
    settings = AgentSettings(
        tunnel_ip=cluster.tunnel_ip or cluster.host_ip, physical_networks=("public",) if external else ()
    )
    agent = network_agent(kind, process.ground, process.ground.host, wires, settings)
    await agent.start()
    # Routers and DHCP servers pass guests' metadata requests on themselves: each process asks who is calling.
    if kind != "l2":
        wires.proxy.find = agent.plugin.find_device
    process.ground.closing.append(agent.close)


async def _compute_agent(process: Process) -> None:
    from kilonova.cli.compose.cluster_host import host_prefix
    from kilonova.cli.compose.hosts import compute_worker
    from kilonova.cli.compose.image_stores import trust
    from kilonova.cli.encryption import listens_encrypted
    from kilonova.node.agents.compute.core import ComputeSettings
    from kilonova.node.console_relay import ConsoleRelay

    ground = process.ground
    settings = ComputeSettings(
        host_prefix(ground), host_ip=ground.cluster.host_ip, trust=trust(ground), part=ground.host_part()
    )
    worker = compute_worker(ground, await process.host(), services.agent_peers(ground), settings)
    encrypted = listens_encrypted(ground.cluster, settings.host_ip, "", ground.tls)
    worker.agent.relay = ConsoleRelay(ground.world, settings.host_ip, ground.tls.server if encrypted else None)
    await worker.start()
    ground.closing.append(worker.close)


async def _volume_agent(process: Process) -> None:
    from kilonova.cli.compose.cluster_host import make_volumes

    worker = services.volume_agent(process.ground, make_volumes(process.ground))
    await worker.start()
    process.ground.closing.append(worker.close)


PARTS: Final[dict[str, Part]] = {
    "identity-api": Part(_identity_api, signs=True),
    "image-api": Part(_image_api),
    "image-worker": Part(_image_worker),
    "placement-api": Part(_placement_api),
    "compute-api": Part(_compute_api),
    "conductor": Part(_conductor),
    "scheduler": Part(_scheduler),
    "console-proxy": Part(_console_proxy),
    "metadata-api": Part(_metadata_api),
    "network-api": Part(_network_api),
    "network-worker": Part(_network_worker),
    "volume-api": Part(_volume_api),
    "volume-scheduler": Part(_volume_scheduler),
    "trace-collector": Part(_trace_collector),
    "compute-agent": Part(_compute_agent, sender="compute.{host}"),
    "l2-agent": Part(partial(_network_agent, "l2"), sender="l2_agent.{host}"),
    "l3-agent": Part(partial(_network_agent, "l3"), sender="l3_agent.{host}"),
    "dhcp-agent": Part(partial(_network_agent, "dhcp"), sender="dhcp_agent.{host}"),
    "metadata-agent": Part(partial(_network_agent, "metadata"), sender="metadata_agent.{host}"),
    "volume-agent": Part(_volume_agent, sender="cinder-volume.{host}@files"),
}
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "controller": tuple(name for name, part in PARTS.items() if not part.sender),
    "network": ("l2-agent", "l3-agent", "dhcp-agent", "metadata-agent"),
    "compute": ("l2-agent", "compute-agent"),
}


def parts_of(name: str) -> list[Part]:
    """The parts that a process of this name runs. INVALID lists what there is."""
    if name not in PARTS and name not in GROUPS:
        raise invalid(
            f"There is no service {name!r}.", hint=f"Services: {', '.join(PARTS)}. Groups: {', '.join(GROUPS)}."
        )
    return [PARTS[one] for one in GROUPS.get(name, (name,))]


async def start(ground: ClusterGround) -> None:
    """Start every part of the process; APIs are mounted, not yet listened for."""
    parts = parts_of(ground.name)
    process = Process(ground)
    ground.send_traces(parts[0].sender.format(host=ground.host) or ground.name)
    for part in parts:
        await part.start(process)
