"""The host of a cluster's node: what the agents of one process work with, fake or real.

A node of a cluster is the network namespace that its processes run in: a machine's own, or one that a test made. Its
agents may be one process or several; what is built on the host is found again by name, whoever built it.
"""

from __future__ import annotations

from pathlib import Path

from kilonova.base.faults import invalid
from kilonova.cli.compose.cluster_ground import ClusterGround
from kilonova.cli.compose.hosts import (
    Host,
    Place,
    VolumeHost,
    Wires,
    fake_host,
    fake_volumes,
    fake_wires,
    qemu_owner,
    real_host,
    real_volumes,
    real_wires,
)
from kilonova.cli.settings import ClusterSettings
from kilonova.node.vswitch.names import prefix_of

HYPERVISORS, NETWORKS, ACCELERATORS = ("fake", "libvirt"), ("fake", "linux"), ("auto", "kvm", "tcg")


def host_prefix(ground: ClusterGround) -> str:
    """What the names of everything that is made on this host begin with."""
    return prefix_of(f"{ground.directory}/{ground.host}")


def check(cluster: ClusterSettings) -> None:
    """Refuse what no host can be, before anything of it is made."""
    for name, value, known in (
        ("hypervisor", cluster.hypervisor, HYPERVISORS),
        ("network", cluster.network, NETWORKS),
        ("accelerator", cluster.accelerator, ACCELERATORS),
    ):
        if value not in known:
            raise invalid(f"[cluster] {name} = {value!r} is not known.", hint=f"One of: {', '.join(known)}.")
    if cluster.hypervisor == "libvirt" and cluster.network == "fake":
        raise invalid("Real guests need real networks.", hint='Set [cluster] network = "linux".')


async def make_wires(ground: ClusterGround) -> Wires:
    """This host's network machinery."""
    cluster, prefix = ground.cluster, host_prefix(ground)
    check(cluster)
    if cluster.network == "fake":
        return fake_wires(prefix, ground.host)
    from kilonova.node.vswitch import external
    from kilonova.node.vswitch.machine import HostPlace
    from kilonova.node.vswitch.metadata_proxy import forward_to

    if cluster.external_interface:
        await ground.world.blocking(external.attach, prefix, cluster.external_interface)
    guests = qemu_owner()[0] if cluster.hypervisor == "libvirt" else 0
    place = HostPlace(prefix, ground.host, "", cluster.tunnel_ip or cluster.host_ip, guests)
    forward = forward_to(ground.internal_url("/metadata"), verify=ground.tls.client)
    return real_wires(ground.world, place, forward, ground.secrets.metadata_secret)


async def make_host(ground: ClusterGround, wires: Wires) -> Host:
    """This host's guests and their disks."""
    cluster, directory = ground.cluster, ground.directory / "hosts" / ground.host
    if cluster.hypervisor == "fake":
        return fake_host(ground.world, ground.host, 1, directory, wires)
    place = Place(
        ground.host,
        1,
        directory,
        qemu_owner(),
        await accelerator(ground),
        ground.settings.ceph,
    )
    return await real_host(ground.world, place, wires)


def make_volumes(ground: ClusterGround) -> VolumeHost:
    """The volumes that this host keeps."""
    cluster, directory = ground.cluster, ground.directory / "hosts" / ground.host
    check(cluster)
    if cluster.hypervisor == "fake":
        return fake_volumes(ground.world, ground.host, directory)
    shared = Path(cluster.volumes) if cluster.volumes else ground.directory / "volumes"
    return real_volumes(ground.world, ground.host, directory, shared, ground.settings.ceph)


async def accelerator(ground: ClusterGround) -> str:
    """kvm where a guest kernel really boots on it, else QEMU's own emulation; or what the settings say."""
    if ground.cluster.accelerator != "auto":
        return ground.cluster.accelerator
    from kilonova.cli.guest import cache_directory
    from kilonova.node.guest.build import build_guest
    from kilonova.node.hypervisor.kvm_probe import probe

    def look() -> str:
        guest = build_guest(ground.directory / "guest", cache_directory(), told=lambda _line: None)
        return probe(str(ground.directory), str(guest.kernel)).accelerator

    return await ground.world.blocking(look)
