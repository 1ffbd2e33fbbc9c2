"""`kilonova host`: the secrets that one host of a cluster may know; and everything taken off a host again."""

from __future__ import annotations

import argparse
import asyncio
import secrets as randomness
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kilonova.base.faults import conflict, invalid
from kilonova.base.world import LiveWorld
from kilonova.bus.signing import agent_keys
from kilonova.cli.machine import prefix_of
from kilonova.cli.settings import ClusterSettings, read_settings
from kilonova.cli.state import Secrets, secrets_of, write_private


def run(options: argparse.Namespace) -> int:
    """0 when nothing of it is left on this host."""
    if options.what == "secrets":
        return asyncio.run(_secrets(options))
    cluster = read_settings(str(options.config)).cluster
    name = options.name or socket.gethostname().partition(".")[0]
    asyncio.run(_purge(cluster, Path(cluster.directory).expanduser().resolve(), name))
    print(f"  {name} is gone from this host")
    return 0


async def _secrets(options: argparse.Namespace) -> int:
    """Run it where the cluster's secrets are. The host's user gets a new password: an older file of it ends here."""
    from kilonova.cli.compose import services
    from kilonova.cli.compose.cluster_ground import ClusterGround

    if not options.name or not options.output:
        raise invalid(
            "Whose secrets, and where to?", hint="kilonova host secrets node1 --config FILE --output node1.json"
        )
    settings = read_settings(str(options.config))
    whole = secrets_of(Path(settings.cluster.secrets))
    own = secrets_of_host(whole, options.name, options.role or ["compute"])
    ground = ClusterGround("host", options.name, settings, whole)
    try:
        made = await services.identity_api(ground)
        for user, password in own.service_passwords.items():
            await services.make_host_user(ground, made, user, password)
    finally:
        await ground.close()
    write_private(options.output, msgspec.json.format(msgspec.json.encode(own)))
    print(
        f"  {options.output} is for {options.name} only: copy it to where its [cluster] secrets points, then remove it"
    )
    return 0


def secrets_of_host(whole: Secrets, name: str, roles: Sequence[str]) -> Secrets:
    """What the agents of one host need: their own keys on the bus and a service user of their own.

    Network nodes also sign for guests who ask for metadata. No key of the database, of tokens, of people or of other
    hosts is in it.
    """
    senders = {
        "compute": (f"compute.{name}", f"l2_agent.{name}"),
        "network": tuple(f"{kind}_agent.{name}" for kind in ("l2", "l3", "dhcp", "metadata")),
        "volume": (f"cinder-volume.{name}@files",),
    }
    keys = agent_keys(whole.bus_secret.encode(), *(sender for role in roles for sender in senders[role]))
    return Secrets(
        metadata_secret=whole.metadata_secret if "network" in roles else "",
        service_passwords={f"agent-{name}": randomness.token_urlsafe(32)},
        bus_keys={sender: key.hex() for sender, key in keys.items()},
    )


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
