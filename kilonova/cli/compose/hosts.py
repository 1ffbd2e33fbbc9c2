"""The hosts of the embedded cloud: real ones, each in a network namespace with its own libvirt, or fakes in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kilonova.base.world import World
from kilonova.block_storage.contract import VolumeBackend
from kilonova.bus.contract import Bus
from kilonova.cli.state import Choices, State
from kilonova.compute.contract import Hypervisor, LocalDisks
from kilonova.db.sqlite import SqliteDatabase
from kilonova.network.contract import DhcpServers, Routers, VirtualSwitch
from kilonova.node.agents.compute import ComputeHostAgent, ComputeSettings, Machine, Peers
from kilonova.node.agents.compute_worker import ComputeWorker
from kilonova.node.agents.dhcp import DhcpAgent
from kilonova.node.agents.frame import Agent, AgentSettings
from kilonova.node.agents.l2 import L2Agent
from kilonova.node.agents.l3 import L3Agent
from kilonova.node.agents.metadata import AsksWhoCalled, MetadataAgent
from kilonova.node.agents.volume import ImageFiles
from kilonova.node.vswitch.metadata_proxy import Forward

UNDERLAY = "172.31.255"
BusFor = Callable[[str], Bus]
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
    volumes: VolumeBackend
    image_files: ImageFiles  # images as files, for volumes made from them


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
        await plan.world.blocking(external.connect_root, prefix, first, cidr, gateway, plan.choices.uplink)
    return [await _make_host(plan, number) for number in numbers]


def public_gateway(cidr: str) -> str:
    """The first address of the floating range is the gateway's."""
    return cidr.split("/", maxsplit=1)[0].rpartition(".")[0] + ".1"


async def _make_host(plan: HostPlan, number: int) -> Host:
    name, directory = host_name(number), plan.directory(number)
    owner = _qemu_owner() if plan.real_hypervisor else None
    wires = _real_wires(plan, number, owner) if plan.real_network else _fake_wires(plan, name)
    if owner is not None:
        return await _real_guests(plan, Place(name, number, directory, owner), wires)
    from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine
    from kilonova.node.images.fake import FakeImageFiles, FakeLocalDisks
    from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend

    machine = FakeMachine(name)
    disks = FakeLocalDisks(plan.world, machine, str(directory))
    volumes = FakeVolumeBackend(plan.world, FakePool())
    files = FakeImageFiles(plan.world, str(directory / "volume-images"))
    return Host(name, number, wires, FakeHypervisor(plan.world, machine), disks, volumes, files)


@dataclass(frozen=True)
class Place:
    """Where a real host keeps its guests, and who owns them."""

    name: str
    number: int
    directory: Path
    owner: tuple[int, int]


async def _real_guests(plan: HostPlan, place: Place, wires: Wires) -> Host:
    from kilonova.node.hypervisor.domain_xml import Platform
    from kilonova.node.hypervisor.libvirt import LibvirtHypervisor
    from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd
    from kilonova.node.images.cache import ImageCache
    from kilonova.node.images.disks import FileLocalDisks
    from kilonova.node.volumes.files import FileVolumeBackend

    place.directory.mkdir(parents=True, exist_ok=True)
    kvm = plan.accelerator == "kvm"
    daemon = PrivateLibvirtd(str(place.directory / "v"), place.name, namespace=wires.namespace, kvm=kvm)
    hypervisor = LibvirtHypervisor(plan.world, daemon=daemon, platform=Platform(accelerator=plan.accelerator))
    await hypervisor.start()
    disks = FileLocalDisks(plan.world, str(place.directory), place.owner)
    shared = plan.state.directory / "volumes"
    shared.mkdir(exist_ok=True)
    volumes = FileVolumeBackend(plan.world, str(shared), owner=place.owner)
    files = ImageCache(plan.world, str(place.directory / "volume-images"))
    return Host(place.name, place.number, wires, hypervisor, disks, volumes, files)


def _qemu_owner() -> tuple[int, int]:
    from kilonova.node.hypervisor.libvirtd import qemu_user

    user = qemu_user()
    return user.pw_uid, user.pw_gid


def _real_wires(plan: HostPlan, number: int, owner: tuple[int, int] | None) -> Wires:
    from kilonova.node.vswitch.machine import HostNetwork, HostPlace

    place = HostPlace(plan.choices.prefix, number, f"{UNDERLAY}.{number}", owner[0] if owner else 0)
    net = HostNetwork(plan.world, place, plan.forward, plan.metadata_secret)
    return Wires(net.switch, net.dhcp, net.routers, net.proxy, net.threads.connect, place.namespace, net.close)


def _fake_wires(plan: HostPlan, name: str) -> Wires:
    from kilonova.node.vswitch.fake import FakeDhcpServers, FakeMetadataProxy, FakeRouters, FakeVirtualSwitch

    switch = FakeVirtualSwitch(plan.choices.prefix, name)
    return Wires(switch, FakeDhcpServers(), FakeRouters(), FakeMetadataProxy(), asyncio.open_connection, "", _nothing)


async def _nothing() -> None:
    """A fake network has nothing to let go of."""


async def start_agents(plan: HostPlan, host: Host, bus_for: BusFor, peers: Peers) -> Agents:
    """Put the host's agents on the bus: L2 and compute everywhere, L3, DHCP and metadata on the first host."""
    world = plan.world
    physical = ("public",) if host.number == 1 else ()
    settings = AgentSettings(tunnel_ip=f"{UNDERLAY}.{host.number}", physical_networks=physical)
    network: list[Agent] = [
        L2Agent(world, bus_for(f"l2_agent.{host.name}"), host.name, host.wires.switch, settings),
    ]
    if host.number == 1:
        network += [
            DhcpAgent(world, bus_for(f"dhcp_agent.{host.name}"), host.name, host.wires.dhcp, settings),
            L3Agent(world, bus_for(f"l3_agent.{host.name}"), host.name, host.wires.routers, settings),
            MetadataAgent(world, bus_for(f"metadata_agent.{host.name}"), host.name, host.wires.proxy, settings),
        ]
    for agent in network:
        await agent.start()
    bus = bus_for(f"compute.{host.name}")
    machine = Machine(host.hypervisor, host.disks, host.wires.switch)
    agent_settings = ComputeSettings(prefix=plan.choices.prefix, host_ip=f"{UNDERLAY}.{host.number}")
    compute = ComputeHostAgent(world, bus, host.name, machine, peers, agent_settings)
    ledger = SqliteDatabase(f"ledger-{host.name}", plan.state.database(f"ledger-{host.name}"), world.clock, readers=1)
    worker = ComputeWorker(world, bus, ledger, compute)
    await worker.start()
    return Agents(host, network, worker)
