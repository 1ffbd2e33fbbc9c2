"""The network machinery of one host, put together; and all of a cloud's taken away from a machine."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from kilonova.base.world import World
from kilonova.node.vswitch import external, hosts, namespace, way_out
from kilonova.node.vswitch.dhcp import LinuxDhcpServers, running, stop
from kilonova.node.vswitch.linux import LinuxVirtualSwitch
from kilonova.node.vswitch.metadata_proxy import Forward, MetadataProxy
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads
from kilonova.node.vswitch.router import LinuxRouters


@dataclass(frozen=True)
class HostPlace:
    """Where a host is: its namespace ("": this process' own), tunnel address, and the user id that guests run as.

    `name` tells hosts of one prefix apart in the names of what is made for them.
    """

    prefix: str
    name: str
    namespace: str
    tunnel_ip: str
    guest_user_id: int = 0


def host_of_machine(prefix: str, number: int, tunnel_ip: str, guest_user_id: int = 0) -> HostPlace:
    """One of a cloud's hosts on this machine, counted from 1, in the namespace `PREFIXhNUMBER`."""
    namespace_ = hosts.host_namespace(prefix, number)
    return HostPlace(prefix, namespace_, namespace_, tunnel_ip, guest_user_id)


class HostNetwork:
    """A host's threads and its three ports; `hosts.connect` has made its namespace before."""

    def __init__(self, world: World, place: HostPlace, forward: Forward, metadata_secret: str) -> None:
        self.threads = NamespaceThreads(place.namespace)
        names = Names(place.prefix, place.name)
        physical = {"public": external.external_bridge(place.prefix)}
        self.proxy = MetadataProxy(forward, metadata_secret)
        self.switch = LinuxVirtualSwitch(
            self.threads, names, tunnel_ip=place.tunnel_ip, physical=physical, tap_owner=place.guest_user_id
        )
        directory = run_directory(place.prefix) / place.name
        self.dhcp = LinuxDhcpServers(world, self.threads, names, self.switch, directory, self.proxy)
        self.routers = LinuxRouters(world, self.threads, names, self.switch, self.proxy)

    async def close(self) -> None:
        """Let go. What is built goes on working; metadata answers again when a process adopts it."""
        await self.proxy.close()
        await self.routers.advertiser.close()
        self.threads.close()


def run_directory(prefix: str) -> Path:
    """Where a cloud's DHCP servers keep their files: every user may enter, only root writes."""
    return external.RUN / prefix


async def purge(world: World, prefix: str, external_cidr: str = "") -> None:
    """Take everything of a cloud away from this machine, whoever made it: servers, namespaces, wire and route."""
    directory = run_directory(prefix)
    for home in await world.blocking(_homes, directory):
        await stop(world, home)
    if external_cidr:
        await world.blocking(external.disconnect_root, prefix, external_cidr)
    await world.blocking(hosts.purge, prefix)
    await world.blocking(_remove, directory)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):  # another cloud of this machine may be in it
        directory.parent.rmdir()


def left_behind(prefix: str) -> list[str]:
    """What of a cloud's networks is still on this machine, in words; empty after `purge`."""
    found = [f"namespace {name}" for name in namespace.names(prefix)]
    if pid := way_out.running(external.nat_home(prefix)):
        found.append(f"process {pid}, by which guests went out")
    return found + [f"DHCP server {home.name}" for home in _homes(run_directory(prefix)) if running(home)]


def _homes(directory: Path) -> list[Path]:
    return sorted(path.parent for path in directory.glob("*/*/pid"))
