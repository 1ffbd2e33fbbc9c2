"""`kilonova host purge`: everything that a cluster's agents made on this host is gone, whatever state a crash left."""

from __future__ import annotations

import argparse
import asyncio
import socket
from pathlib import Path

from kilonova.base.faults import conflict
from kilonova.base.world import LiveWorld
from kilonova.cli.machine import prefix_of
from kilonova.cli.settings import ClusterSettings, read_settings


def run(options: argparse.Namespace) -> int:
    """0 when nothing of it is left on this host."""
    cluster = read_settings(str(options.config)).cluster
    name = options.name or socket.gethostname().partition(".")[0]
    asyncio.run(_purge(cluster, Path(cluster.directory).expanduser().resolve(), name))
    print(f"  {name} is gone from this host")
    return 0


async def _purge(cluster: ClusterSettings, state: Path, name: str) -> None:
    """Guests, then networks. Run it where the host's processes ran: in the same network namespace, as root."""
    prefix = prefix_of(f"{state}/{name}")
    world = LiveWorld(name, threads=4)
    try:
        if cluster.hypervisor == "libvirt":
            from kilonova.cli.teardown import stop_host

            await stop_host(
                world, state / "hosts" / name, "", purge=True, told=lambda line: print(f"  {line}", flush=True)
            )
        if cluster.network == "linux":
            await _purge_network(world, cluster, prefix, name)
    finally:
        await world.close()


async def _purge_network(world: LiveWorld, cluster: ClusterSettings, prefix: str, name: str) -> None:
    from kilonova.node.vswitch import machine
    from kilonova.node.vswitch.metadata_proxy import forward_to

    place = machine.HostPlace(prefix, name, "", cluster.tunnel_ip or cluster.host_ip)
    net = machine.HostNetwork(world, place, forward_to("http://127.0.0.1"), "")
    await net.switch.purge()
    await net.close()
    await machine.purge(world, prefix)
    if left := machine.left_behind(prefix):
        raise conflict(f"Still there: {', '.join(left)}.", hint="Stop the host's agents first, then run it again.")
