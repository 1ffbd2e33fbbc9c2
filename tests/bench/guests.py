"""Real guests: what a boot takes from POST to ACTIVE beyond what libvirt itself takes to define and start the guest.

Needs root and a machine for real clouds. For each boot the cloud's process is halted for a moment, so that nobody
reacts, and the same domain, on the same disks and taps, is destroyed, undefined, defined and started by libvirt alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from typing import TYPE_CHECKING

from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd
from tests.bench.load import Driver
from tests.bench.phases import Result
from tests.fake_cloud import FakeCloud

if TYPE_CHECKING:
    import libvirt

    from tests.real.cloud_rig import Cloud

BOOTS = 9  # after one that brings the image into the host's cache


async def measure() -> list[Result]:
    """Medians of both, and of their difference boot by boot, in seconds."""
    from tests.real.cloud_rig import missing

    if lacking := missing():
        raise SystemExit(f"BENCH=guests needs a machine for real clouds: {lacking}")
    return await asyncio.to_thread(_on_a_real_cloud)


def _on_a_real_cloud() -> list[Result]:
    """In a thread: what the rig looks at the machine with brings event loops of its own."""
    from tests.real.cloud_rig import real_cloud

    with real_cloud() as cloud:
        return asyncio.run(_measured(cloud))


async def _measured(cloud: Cloud) -> list[Result]:
    import libvirt

    driver = Driver(FakeCloud(cloud.directory, f"http://127.0.0.1:{cloud.port}"))
    await driver.prepare()
    host = cloud.status()["cloud"]["hosts"][0]
    daemon = PrivateLibvirtd(str(cloud.directory / "hosts" / host / "v"), host)
    connection = libvirt.open(daemon.uri)
    asked, alone = [], []
    for number in range(BOOTS + 1):
        began = time.monotonic()
        server_id = await driver.boot(f"guest-{number}", pause_seconds=0.02)
        took = time.monotonic() - began
        if number:
            asked.append(took)
            alone.append(await asyncio.to_thread(_by_libvirt, connection, server_id, cloud.status()["pid"]))
        await driver.delete(server_id)
    connection.close()
    await driver.close()
    beyond = [both - own for both, own in zip(asked, alone, strict=True)]
    medians = (("guest_active", asked), ("guest_libvirt", alone), ("guest_beyond", beyond))
    return [Result(phase, statistics.median(values), len(values), sum(values)) for phase, values in medians]


def _by_libvirt(connection: libvirt.virConnect, server_id: str, cloud_pid: int) -> float:
    """Seconds that libvirt takes to define and start the server's guest, with the cloud looking away."""
    import libvirt

    os.kill(cloud_pid, signal.SIGSTOP)
    try:
        domain = connection.lookupByUUIDString(server_id)
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        domain.destroy()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        began = time.monotonic()
        connection.defineXML(xml).create()
        return time.monotonic() - began
    finally:
        os.kill(cloud_pid, signal.SIGCONT)
