"""`kilonova host`: let a host of a cluster in, throw it out, and take everything off a host again."""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.base.world import LiveWorld
from kilonova.cli import join
from kilonova.cli.environment import program
from kilonova.cli.settings import ClusterSettings, read_settings
from kilonova.cli.state import HOST_NAME, secrets_of
from kilonova.node.vswitch.names import prefix_of

if TYPE_CHECKING:
    from kilonova.cli.compose.admission import Admission
    from kilonova.identity.core import IdentityService


def run(options: argparse.Namespace) -> int:
    """0 when it is done: invited, admitted, expelled, or nothing of it is left on this host."""
    if options.what == "purge":
        cluster = read_settings(str(options.config)).cluster
        name = options.name or cluster.host or socket.gethostname().partition(".")[0]
        asyncio.run(_purge(cluster, Path(cluster.directory).expanduser().resolve(), name))
        print(f"  {name} is gone from this host")
        return 0
    if not HOST_NAME.fullmatch(options.name):
        raise invalid(f"{options.name!r} is not a host's name.", hint="Letters, digits and dashes; no domain.")
    options.role = options.role or ["compute"]
    verbs = {"invite": _invite, "secrets": _secrets, "expel": _expel}
    asyncio.run(verbs[options.what](options))
    return 0


async def _invite(options: argparse.Namespace) -> None:
    """One line, to be run on the new host within the hour. Run it where the cluster's secrets are."""
    from kilonova.identity.host.join import invite

    async with _identity(options) as (identity, admission):
        admission.broker_admin()  # whoever cannot be let in is not invited
        url = identity_url(admission.cluster)
        secret = await invite(identity, options.name, options.role)
        line = join.Invitation(url, options.name, options.role, secret, join.pin_of(admission.authority())).encode()
    print(f"# on {options.name}, as root, within an hour; it works once:")
    services = [role if role != "volume" else "volume-agent" for role in options.role]
    print(f"{program()} service {services[0]} --join {line}")
    for service in services[1:]:
        print(f"{program()} service {service}")


def identity_url(cluster: ClusterSettings) -> str:
    """Where a host asks to join. INVALID when anybody between could read what it is given."""
    url = cluster.internal_url("/identity")
    join.refuse_plain(url)
    return url


async def _secrets(options: argparse.Namespace) -> None:
    """The same into files, to be copied to a host that cannot reach identity. What the host had before ends here."""
    from kilonova.cli.compose.admission import Kept
    from kilonova.identity.host.join import admit

    if not options.output:
        raise invalid("Where to?", hint=f"kilonova host secrets {options.name} --config FILE --output DIRECTORY")
    async with _identity(options) as (identity, _):
        kept = await admit(identity, options.name, options.role)
    written = join.keep(msgspec.convert(kept, Kept), join.Files.beneath(options.output), {}, "")
    print("\n".join(f"  {path}" for path in written))
    print(f"  are for {options.name} only: copy them to its /etc/kilonova, then remove them")


async def _expel(options: argparse.Namespace) -> None:
    """What the host holds is worth nothing: its user, its tokens, its user on the broker."""
    from kilonova.identity.host.join import expel

    async with _identity(options) as (identity, admission):
        there = await expel(identity, options.name)
        await admission.expel(options.name)
    if not there:
        raise not_found("A host", options.name)
    print(f"  {options.name} is out. Its bus keys stay valid until the cluster's bus_secret changes,")
    print("  but without a user on the broker it can send nothing. Evacuate its servers.")


@asynccontextmanager
async def _identity(options: argparse.Namespace) -> AsyncIterator[tuple[IdentityService, Admission]]:
    """Identity, and who lets hosts in, over the cluster's database."""
    from kilonova.cli.compose import services
    from kilonova.cli.compose.admission import Admission
    from kilonova.cli.compose.cluster_ground import ClusterGround

    settings = read_settings(str(options.config))
    ground = ClusterGround("host", options.name, settings, secrets_of(Path(settings.cluster.secrets)))
    try:
        identity = await services.identity_api(ground)
        identity.admission = admission = Admission(ground)
        yield identity, admission
    finally:
        await ground.close()


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
