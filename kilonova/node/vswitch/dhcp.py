"""DhcpServers with dnsmasq: one per network, in a namespace of its own, in a session of its own: it outlives us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
from pathlib import Path

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.network.contract import WantedDhcp
from kilonova.node.vswitch import dnsmasq, namespace
from kilonova.node.vswitch.linux import LinuxVirtualSwitch
from kilonova.node.vswitch.metadata_proxy import MetadataProxy
from kilonova.node.vswitch.names import Names
from kilonova.node.vswitch.namespace import NamespaceThreads
from kilonova.node.vswitch.netlink import NetlinkError

log = logging.getLogger(__name__)


class LinuxDhcpServers:
    """DHCP of one host. `directory` is ours, and every user must be able to enter it: dnsmasq runs as nobody."""

    def __init__(
        self,
        world: World,
        threads: NamespaceThreads,
        names: Names,
        switch: LinuxVirtualSwitch,
        directory: Path,
        proxy: MetadataProxy | None = None,
    ) -> None:
        self._world, self._threads, self._names, self._switch = world, threads, names, switch
        self._directory, self._proxy = directory, proxy
        self._lock = asyncio.Lock()

    async def apply(self, wanted: list[WantedDhcp], gone: list[str], *, full: bool) -> None:
        async with self._lock:
            failed = []
            for server in wanted:
                try:
                    await self._build(server)
                except (NetlinkError, OSError, Fault, ValueError) as error:
                    log.warning("DHCP of network %s was not built: %r", server.network_id, error)
                    failed.append(server.network_id)
            for network_id in gone:
                await self._remove(self._names.dhcp_namespace(network_id))
            if full:
                keep = {self._names.dhcp_namespace(server.network_id) for server in wanted}
                for name in await self._ours():
                    if name not in keep:
                        await self._remove(name)
            if failed:
                raise unavailable(f"DHCP of {len(failed)} network(s) was not built.", inside=", ".join(failed))

    async def purge(self) -> None:
        async with self._lock:
            for name in await self._ours():
                await self._remove(name)
            await self._world.blocking(shutil.rmtree, self._directory, True)

    async def _ours(self) -> list[str]:
        """Namespaces of DHCP servers that this host made: each has a directory here."""
        return await self._world.blocking(_children, self._directory)

    async def _build(self, wanted: WantedDhcp) -> None:
        name = self._names.dhcp_namespace(wanted.network_id)
        home = self._directory / name
        await self._world.blocking(_prepare, home, wanted.port.id)
        await self._world.blocking(namespace.create, name)
        addresses = [f"{ip.address}/{ip.cidr.partition('/')[2]}" for ip in wanted.port.fixed_ips]
        interface = await self._switch.plug_leg(wanted.port, name, [*addresses, f"{dnsmasq.METADATA_IP}/32"])
        await self._serve(wanted, name, interface, home)
        if self._proxy and not self._proxy.listens(name):
            listener = await self._threads.listen(dnsmasq.METADATA_IP, 80, namespace=name)
            await self._proxy.listen(name, listener, network_id=wanted.network_id)

    async def _serve(self, wanted: WantedDhcp, name: str, interface: str, home: Path) -> None:
        line = dnsmasq.arguments(wanted, interface, home)
        texts = {"hosts": dnsmasq.hosts(wanted), "opts": dnsmasq.options(wanted), "names": dnsmasq.addresses(wanted)}
        reload = dnsmasq.survives_reload(await self._world.blocking(_read, home / "hosts"))
        changed = await self._world.blocking(_write, home, texts)
        same_line = not await self._world.blocking(_write, home, {"arguments": json.dumps(line)})
        pid = await self._world.blocking(running, home)
        if pid and same_line and not changed:
            return
        if pid and same_line and reload:
            os.kill(pid, signal.SIGHUP)
            return
        if pid:
            await stop(self._world, home)
        if dnsmasq.served(wanted):
            process = await self._threads.start_process(line, namespace=name, log_file=home / "errors")
            if code := await self._world.blocking(process.wait, 10):
                said = await self._world.blocking((home / "errors").read_text)
                raise unavailable("A DHCP server did not start.", inside=f"dnsmasq ended with {code}: {said[-500:]}")

    async def _remove(self, name: str) -> None:
        home = self._directory / name
        if self._proxy:
            await self._proxy.forget(name)
        await stop(self._world, home)
        if port_id := await self._world.blocking(_read, home / "port"):
            await self._switch.unplug_leg(port_id)
        await self._world.blocking(namespace.delete, name)
        await self._world.blocking(shutil.rmtree, home, True)


async def stop(world: World, home: Path) -> None:
    """End the dnsmasq whose files are in `home`; by force after 2 s."""
    for attempt in range(50):
        pid = await world.blocking(running, home)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if attempt < 40 else signal.SIGKILL)
        await world.clock.sleep(0.05)


def running(home: Path) -> int:
    """The process id of the dnsmasq whose files are in `home`, 0 when none runs. A reused id is not taken for it."""
    try:
        pid = int((home / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if f"--pid-file={home / 'pid'}".encode() in command.split(b"\0") else 0


def _children(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _prepare(home: Path, port_id: str) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o755)
    _write(home, {"port": port_id})


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _write(home: Path, texts: dict[str, str]) -> bool:
    """Write the files that differ, each at once; True when any did."""
    changed = False
    for name, text in texts.items():
        path, new = home / name, home / f".{name}"
        if path.exists() and path.read_text() == text:
            continue
        new.write_text(text)
        new.chmod(0o644)
        new.replace(path)
        changed = True
    return changed
