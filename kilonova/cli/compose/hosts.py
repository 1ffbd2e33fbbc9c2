"""The hosts of the embedded cloud: real ones, each in a network namespace with its own libvirt, or fakes in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.base.faults import Fault, invalid
from kilonova.base.world import World
from kilonova.block_storage.contract import VolumeBackend
from kilonova.cli.compose.ground import Ground
from kilonova.cli.compose.image_stores import trust
from kilonova.cli.settings import UplinkSettings
from kilonova.cli.state import Choices, State
from kilonova.compute.contract import Hypervisor, LocalDisks
from kilonova.network.contract import DhcpServers, Routers, VirtualSwitch
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.agents.compute.core import ComputeSettings, Machine, Peers
from kilonova.node.agents.compute.worker import ComputeWorker
from kilonova.node.agents.dhcp import DhcpAgent
from kilonova.node.agents.frame import Agent, AgentSettings
from kilonova.node.agents.l2 import L2Agent
from kilonova.node.agents.l3 import L3Agent
from kilonova.node.agents.metadata import AsksWhoCalled, MetadataAgent
from kilonova.node.agents.volume import ImageFiles
from kilonova.node.ceph.settings import CephSettings
from kilonova.node.vswitch.metadata_proxy import Forward

if TYPE_CHECKING:
    from kilonova.node.vswitch.external import Uplink
    from kilonova.node.vswitch.machine import HostPlace

log = logging.getLogger(__name__)

UNDERLAY = "172.31.255"
WAY_OUT_SECONDS = 10.0
BUILD_SECONDS = 120
Connect = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Closing = Callable[[], Awaitable[None]]


def host_name(number: int) -> str:
    """node1, node2, …"""
    return f"node{number}"


@dataclass(frozen=True)
class HostPlan:
    """What all hosts of a cloud share."""

    world: World
    state: State
    choices: Choices
    forward: Forward  # metadata requests go there
    metadata_secret: str
    accelerator: str = "tcg"
    uplink: UplinkSettings = field(default_factory=UplinkSettings)
    ceph: CephSettings = field(default_factory=CephSettings)

    @property
    def real_network(self) -> bool:
        return self.choices.network == "linux"

    @property
    def real_hypervisor(self) -> bool:
        return self.choices.hypervisor == "libvirt"

    def directory(self, number: int) -> Path:
        """What a host keeps."""
        return self.state.directory / "hosts" / host_name(number)


@dataclass(frozen=True)
class Wires:
    """A host's network machinery."""

    switch: VirtualSwitch
    dhcp: DhcpServers
    routers: Routers
    proxy: AsksWhoCalled
    connect: Connect
    namespace: str
    close: Closing


@dataclass(frozen=True)
class Host:
    """One host's machinery; nothing of it is on the bus yet."""

    name: str
    number: int
    wires: Wires
    hypervisor: Hypervisor
    disks: LocalDisks


@dataclass(frozen=True)
class VolumeHost:
    """The host that keeps the volumes; nothing of it is on the bus yet."""

    name: str
    volumes: VolumeBackend
    image_files: ImageFiles  # images as files, for volumes made from them
    backend: str = "files"


class Agents:
    """The agents of one host, on the bus."""

    def __init__(self, host: Host, network: list[Agent], compute: ComputeWorker) -> None:
        self.host = host
        self.network = network
        self.compute = compute

    async def close(self) -> None:
        """Stop the agents; guests and traffic go on."""
        for agent in self.network:
            await agent.close()
        await self.compute.close()
        await self.host.wires.close()


async def make_hosts(plan: HostPlan) -> list[Host]:
    """The hosts' machinery, made or adopted."""
    numbers = range(1, plan.choices.hosts + 1)
    if plan.real_network:
        from kilonova.node.vswitch import external, hosts

        prefix, cidr = plan.choices.prefix, plan.choices.public_cidr
        places = {hosts.host_namespace(prefix, n): f"{UNDERLAY}.{n}/24" for n in numbers}
        await plan.world.blocking(hosts.connect, prefix, places)
        first, gateway = hosts.host_namespace(prefix, 1), public_gateway(cidr)
        uplink = way_of(plan)
        await plan.world.blocking(external.connect_root, prefix, first, cidr, gateway, uplink)
        if uplink == external.through_machine():
            plan.world.spawn(_keep_way_out(plan.world, prefix), "way out")
    return [await _make_host(plan, number) for number in numbers]


async def _keep_way_out(world: World, prefix: str) -> None:
    """The machine's addresses change as it is carried about; the program may be killed."""
    from kilonova.node.vswitch import external

    while True:
        await world.clock.sleep(WAY_OUT_SECONDS)
        try:
            await world.blocking(external.keep_way_out, prefix)
        except Fault as fault:
            log.warning("the way out for guests is broken: %r", fault)


def way_of(plan: HostPlan) -> str | Uplink:
    """What `--uplink` means here: nothing, through the machine, or our own address on an interface's network."""
    from kilonova.node.vswitch import way_out
    from kilonova.node.vswitch.external import Uplink, through_machine

    asked, known = plan.choices.uplink, plan.uplink
    if asked == "none":
        return "none"
    if asked == "auto" and not known.interface:
        return through_machine() if way_out.is_here() else "none"
    interface = known.interface if asked == "auto" else asked
    if not known.address or not known.gateway:
        raise invalid(
            f"Uplink {interface} needs an address of its own on that network.",
            hint="Set address and gateway in the [uplink] section of the settings file, or use --uplink none.",
        )
    return Uplink(interface, known.address, known.gateway)


def way_in_words(plan: HostPlan) -> str:
    """How guests reach the outside, for people."""
    way = way_of(plan) if plan.real_network else "none"
    if not isinstance(way, str):
        return f"{way.address} on {way.interface}" if way.interface else "through this machine, by slirp4netns"
    wanted = plan.real_network and plan.choices.uplink == "auto"
    return "none (apt-get install slirp4netns, or set [uplink])" if wanted else "none"


def public_gateway(cidr: str) -> str:
    """The first address of the floating range is the gateway's."""
    return cidr.split("/", maxsplit=1)[0].rpartition(".")[0] + ".1"


async def _make_host(plan: HostPlan, number: int) -> Host:
    name, directory = host_name(number), plan.directory(number)
    owner = qemu_owner() if plan.real_hypervisor else None
    prefix = plan.choices.prefix
    wires = _real_wires(plan, number, owner) if plan.real_network else fake_wires(prefix, name)
    if owner is not None:
        place = Place(name, number, directory, owner, plan.accelerator, ceph=plan.ceph)
        return await real_host(plan.world, place, wires)
    return fake_host(plan.world, name, number, directory, wires)


def make_volumes(plan: HostPlan, number: int) -> VolumeHost:
    """The volumes of the cloud, kept by one of its hosts."""
    name, directory = host_name(number), plan.directory(number)
    if plan.real_hypervisor:
        return real_volumes(plan.world, name, directory, plan.state.directory / "volumes", plan.ceph)
    return fake_volumes(plan.world, name, directory)


def fake_host(world: World, name: str, number: int, directory: Path, wires: Wires) -> Host:
    """A host whose guests, disks and volumes are kept in memory."""
    from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine
    from kilonova.node.images.fake import FakeLocalDisks

    machine = FakeMachine(name)
    disks = FakeLocalDisks(world, machine, str(directory))
    return Host(name, number, wires, FakeHypervisor(world, machine), disks)


def fake_volumes(world: World, name: str, directory: Path) -> VolumeHost:
    """A host whose volumes are kept in memory."""
    from kilonova.node.images.fake import FakeImageFiles
    from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend

    files = FakeImageFiles(world, str(directory / "volume-images"))
    return VolumeHost(name, FakeVolumeBackend(world, FakePool()), files)


def real_volumes(world: World, name: str, directory: Path, shared: Path, ceph: CephSettings) -> VolumeHost:
    """A host whose volumes are on Ceph, or files in `shared`, a path that every host sees."""
    if ceph.volumes_pool:
        from kilonova.node.ceph.cluster import CephCluster
        from kilonova.node.ceph.pool import RbdPool
        from kilonova.node.images.rbd_parents import RbdParents
        from kilonova.node.volumes.rbd import RbdVolumeBackend

        pool = RbdPool(CephCluster(ceph.conf, ceph.user), ceph.volumes_pool)
        parents = RbdParents(world, str(directory / "volume-images"), pool)
        return VolumeHost(name, RbdVolumeBackend(world, pool), parents, "ceph")
    from kilonova.node.images.cache import ImageCache
    from kilonova.node.volumes.files import FileVolumeBackend

    shared.mkdir(parents=True, exist_ok=True)
    volumes = FileVolumeBackend(world, str(shared), owner=qemu_owner())
    return VolumeHost(name, volumes, ImageCache(world, str(directory / "volume-images")))


@dataclass(frozen=True)
class Place:
    """Where a real host keeps its guests, who owns them, and how they run."""

    name: str
    number: int
    directory: Path
    owner: tuple[int, int]
    accelerator: str = "tcg"
    ceph: CephSettings = field(default_factory=CephSettings)


async def real_host(world: World, place: Place, wires: Wires) -> Host:
    """A host with a libvirt of its own; its guests' disks are files, the roots on Ceph when the settings say so."""
    from kilonova.node.ceph.cluster import CephCluster
    from kilonova.node.ceph.pool import RbdPool
    from kilonova.node.hypervisor.domain_xml import Platform
    from kilonova.node.hypervisor.libvirt import LibvirtHypervisor
    from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd
    from kilonova.node.images.disks import FileLocalDisks
    from kilonova.node.images.rbd_disks import RbdLocalDisks

    place.directory.mkdir(parents=True, exist_ok=True)
    kvm = place.accelerator == "kvm"
    daemon = PrivateLibvirtd(str(place.directory / "v"), place.name, namespace=wires.namespace, kvm=kvm)
    platform = Platform(accelerator=place.accelerator)
    ceph = CephCluster(place.ceph.conf, place.ceph.user)
    uses_ceph = bool(place.ceph.disks_pool or place.ceph.volumes_pool)
    keys = (lambda: {ceph.secret_uuid(): ceph.key()}) if uses_ceph else None
    hypervisor = LibvirtHypervisor(world, daemon=daemon, platform=platform, keys=keys)
    await hypervisor.start()
    disks: LocalDisks = FileLocalDisks(world, str(place.directory), place.owner)
    if place.ceph.disks_pool:
        disks = RbdLocalDisks(world, str(place.directory), place.owner, RbdPool(ceph, place.ceph.disks_pool))
    return Host(place.name, place.number, wires, hypervisor, disks)


def qemu_owner() -> tuple[int, int]:
    from kilonova.node.hypervisor.libvirtd import qemu_user

    user = qemu_user()
    return user.pw_uid, user.pw_gid


def _real_wires(plan: HostPlan, number: int, owner: tuple[int, int] | None) -> Wires:
    from kilonova.node.vswitch.machine import host_of_machine

    place = host_of_machine(plan.choices.prefix, number, f"{UNDERLAY}.{number}", owner[0] if owner else 0)
    return real_wires(plan.world, place, plan.forward, plan.metadata_secret)


def real_wires(world: World, place: HostPlace, forward: Forward, metadata_secret: str) -> Wires:
    """A host's bridges, tunnels, filters, DHCP servers and routers, made or adopted."""
    from kilonova.node.vswitch.machine import HostNetwork

    net = HostNetwork(world, place, forward, metadata_secret)
    return Wires(net.switch, net.dhcp, net.routers, net.proxy, net.threads.connect, place.namespace, net.close)


def fake_wires(prefix: str, name: str) -> Wires:
    """A network of which only the books exist."""
    from kilonova.node.vswitch.fake import FakeDhcpServers, FakeMetadataProxy, FakeRouters, FakeVirtualSwitch

    switch = FakeVirtualSwitch(prefix, name)
    return Wires(switch, FakeDhcpServers(), FakeRouters(), FakeMetadataProxy(), asyncio.open_connection, "", _nothing)


async def _nothing() -> None:
    """A fake network has nothing to let go of."""


NETWORK_AGENTS = ("l2", "dhcp", "l3", "metadata")


def network_agent(kind: str, ground: Ground, host: str, wires: Wires, settings: AgentSettings) -> Agent:
    """One of a host's network agents; it does nothing until it is started."""
    bus = ground.bus(f"{kind}_agent.{host}")
    match kind:
        case "l2":
            return L2Agent(ground.world, bus, host, wires.switch, settings)
        case "dhcp":
            return DhcpAgent(ground.world, bus, host, wires.dhcp, settings)
        case "l3":
            return L3Agent(ground.world, bus, host, wires.routers, settings)
        case _:
            return MetadataAgent(ground.world, bus, host, wires.proxy, settings)


def compute_worker(ground: Ground, host: Host, peers: Peers, settings: ComputeSettings) -> ComputeWorker:
    """A host's compute agent; it does nothing until it is started."""
    bus = ground.bus(f"compute.{host.name}")
    machine = Machine(host.hypervisor, host.disks, host.wires.switch)
    ledger = ground.ledger(host.name)
    agent = ComputeHostAgent((ground.world, bus, host.name, ledger), machine, peers, settings)
    return ComputeWorker(ground.world, bus, ledger, agent)


async def start_agents(plan: HostPlan, host: Host, ground: Ground, peers: Peers) -> Agents:
    """Put the host's agents on the bus: L2 and compute everywhere, L3, DHCP and metadata on the first host."""
    address = f"{UNDERLAY}.{host.number}"
    physical = ("public",) if host.number == 1 else ()
    settings = AgentSettings(tunnel_ip=address, physical_networks=physical)
    kinds = NETWORK_AGENTS if host.number == 1 else NETWORK_AGENTS[:1]
    network = [network_agent(kind, ground, host.name, host.wires, settings) for kind in kinds]
    for agent in network:
        await agent.start()
    async with asyncio.timeout(BUILD_SECONDS):
        await network[0].synced.wait()  # guests that ran need their taps before they are started again
    chosen = ComputeSettings(plan.choices.prefix, host_ip=address, trust=trust(ground), part=ground.host_part())
    worker = compute_worker(ground, host, peers, chosen)
    await worker.start()
    return Agents(host, network, worker)
