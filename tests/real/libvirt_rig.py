"""A host with a private libvirt daemon in a namespace of its own, and guests small enough for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Disk, GuestSpec, Nic

NEEDS = "needs root, libvirtd and QEMU"


def skip_unless_possible() -> None:
    """Skip with a reason where no private libvirt daemon can run."""
    programs = ("libvirtd", "qemu-system-x86_64", "qemu-img", "ip", "nsenter", "unshare")
    if os.geteuid() != 0 or not all(shutil.which(program) for program in programs):
        pytest.skip(NEEDS)


class LibvirtRig:
    """A hypervisor on its own daemon; guests have a tap made beforehand and an empty disk, and never finish booting."""

    def __init__(self) -> None:
        skip_unless_possible()
        from kilonova.node.hypervisor.libvirt import LibvirtHypervisor
        from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd, qemu_user

        self.user = qemu_user()
        self.namespace = f"hvt{uuid.uuid4().hex[:6]}"
        self.directory = Path(tempfile.mkdtemp(prefix="kn-libvirt-"))
        self.directory.chmod(0o711)
        run("ip", "netns", "add", self.namespace)
        self.world = LiveWorld("test-libvirt")
        self.daemon = PrivateLibvirtd(str(self.directory / "libvirt"), self.namespace, namespace=self.namespace)
        self._open = lambda: LibvirtHypervisor(self.world, daemon=self.daemon)
        self.hypervisor = self._open()
        self._specs: list[str] = []

    async def spec(self) -> GuestSpec:
        number = len(self._specs) + 1
        tap, disk, console = f"hvtap{number}", self.directory / f"disk{number}", self.directory / f"console{number}"
        owner = str(self.user.pw_uid)
        run("ip", "-n", self.namespace, "tuntap", "add", "dev", tap, "mode", "tap", "user", owner, "vnet_hdr")
        run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M")
        console.touch()
        for path in (disk, console):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        spec = GuestSpec(
            str(uuid.uuid4()),
            f"test-instance-{number:08x}",
            1,
            64,
            disks=(Disk(str(disk), "qcow2", "vda", serial="root", boot_order=1),),
            nics=(Nic("port", f"fa:16:3e:00:00:{number:02x}", tap, 1450),),
            console_log=str(console),
            description="a <guest> & 'its' name",
        )
        self._specs.append(spec.id)
        return spec

    async def restart_agent(self) -> None:
        await self.hypervisor.close()
        self.hypervisor = self._open()

    async def close(self) -> None:
        for guest in await self.hypervisor.guests():
            await self.hypervisor.ensure_gone(guest.id)
        await self.hypervisor.close()
        self.daemon.stop()
        await self.world.close()
        run("ip", "netns", "del", self.namespace)
        shutil.rmtree(self.directory)


async def make() -> LibvirtRig:
    """A rig that is up. Close it in the end: it leaves nothing behind."""
    return LibvirtRig()


def run(*command: str) -> str:
    """What the command printed; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
