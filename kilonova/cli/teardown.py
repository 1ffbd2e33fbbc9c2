"""Taking a stopped cloud off the machine: guests shut down cleanly, then daemons and networks; files by purge."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from kilonova.base.faults import Fault
from kilonova.base.world import LiveWorld
from kilonova.cli.state import Choices, State

GRACE_SECONDS = 30.0


async def take_down(state: State, choices: Choices, *, purge: bool, told: Callable[[str], None]) -> None:
    """Nothing of the cloud runs any more. Works whatever state a crash left; called when no process holds it."""
    world = LiveWorld("teardown", threads=4)
    try:
        if choices.hypervisor == "libvirt":
            for directory in sorted((state.directory / "hosts").glob("node*")):
                number = directory.name.removeprefix("node")
                namespace = f"{choices.prefix}h{number}" if choices.network == "linux" else ""
                await stop_host(world, directory, namespace, purge=purge, told=told)
        if choices.network == "linux":
            from kilonova.node.vswitch.machine import left_behind
            from kilonova.node.vswitch.machine import purge as purge_network

            await purge_network(world, choices.prefix, choices.public_cidr)
            if left := left_behind(choices.prefix):
                told(f"still there: {', '.join(left)}")
            told("networks are gone")
    finally:
        await world.close()


async def stop_host(
    world: LiveWorld, directory: Path, namespace: str, *, purge: bool, told: Callable[[str], None]
) -> None:
    """The guests and the libvirt of the host that keeps its things in `directory` have ended."""
    from kilonova.node.hypervisor.libvirt import LibvirtHypervisor
    from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd

    if not (directory / "v").exists():
        return
    daemon = PrivateLibvirtd(str(directory / "v"), directory.name, namespace=namespace)
    if not await world.blocking(daemon.pid) and not await world.blocking(daemon.running_guests):
        return
    hypervisor = LibvirtHypervisor(world, daemon=daemon)
    guests = await hypervisor.guests()
    running = [guest for guest in guests if guest.power in ("running", "paused", "suspended")]
    if running:
        told(
            f"{directory.name}: shutting down {len(running)} guests"
            if not purge
            else f"{directory.name}: {len(running)} guests go"
        )
    grace = 0.0 if purge else GRACE_SECONDS
    await asyncio.gather(*(hypervisor.ensure_stopped(guest.id, grace) for guest in running))
    if purge:
        for guest in guests:
            await hypervisor.ensure_gone(guest.id)
    await hypervisor.close()
    await world.blocking(daemon.stop)
    told(f"{directory.name} is down")


def remove_files(state: State) -> None:
    """The state directory is gone, with what was mounted or made immutable in it."""
    for attempt in range(3):
        shutil.rmtree(state.directory, onerror=_make_removable)
        if not state.directory.exists():
            return
        if attempt == 2:
            raise Fault.wrap(OSError(f"{state.directory} could not be removed"))


def _make_removable(function: Callable[..., object], path: str, _error: object) -> None:
    """A cached image may carry the immutable flag."""
    import subprocess

    subprocess.run(["chattr", "-i", path], check=False, capture_output=True)
    if Path(path).is_dir():
        return
    Path(path).unlink(missing_ok=True)
