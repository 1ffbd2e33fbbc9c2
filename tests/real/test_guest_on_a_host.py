"""One real guest on one host, from its image to its end: cache, disks, config drive, volume, console, ACPI."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.block_storage.contract import Connector, VolumeSpec
from kilonova.compute.contract import Disk, Flavor, GuestSpec, Power
from kilonova.node.guest.build import build_guest, missing_tools
from kilonova.node.images.disks import FileLocalDisks
from kilonova.node.volumes.files import FileVolumeBackend
from tests.contract.test_local_disks import IMAGE, server
from tests.offered_image import OfferedImage
from tests.real.libvirt_rig import LibvirtRig, make

pytestmark = [pytest.mark.root, pytest.mark.guest]
CACHE = Path(os.environ.get("KILONOVA_GUEST_CACHE", "~/.cache/kilonova/guest")).expanduser()
USER_DATA = b"""#!/bin/sh
echo "user data of $(hostname)" > /dev/console
echo "written by the guest" > /dev/vdc
sync
"""


@pytest.fixture
async def rig() -> AsyncIterator[LibvirtRig]:
    if lacking := missing_tools():
        pytest.skip(f"needs QEMU and the guest builder's tools: {lacking}")
    made = await make()
    yield made
    await made.close()


async def test_a_guest_boots_reads_its_drive_writes_its_volume_and_obeys_acpi(rig: LibvirtRig, tmp_path: Path) -> None:
    owner = (rig.user.pw_uid, rig.user.pw_gid)
    disks = FileLocalDisks(rig.world, str(rig.directory / "state"), owner)
    volumes = FileVolumeBackend(rig.world, str(rig.directory / "volumes"), owner=owner)
    built = await rig.world.blocking(build_guest, tmp_path, CACHE)

    async def fetch(path: str) -> None:
        await rig.world.blocking(shutil.copy, built.disk, path)

    base = await disks.ensure_image(OfferedImage(IMAGE, fetch, built.disk.stat().st_size))
    untouched = Path(base).read_bytes()
    volume, here = VolumeSpec(str(uuid.uuid4()), 1), Connector("node1")
    await volumes.ensure_volume(volume, None)
    data = (await volumes.connect(volume.id, here)).data
    flavor = Flavor("1", "m1.tiny", 1, 128, 1, ephemeral_gb=1)
    one = server(config_drive=True, flavor=flavor, user_data=base64.b64encode(USER_DATA).decode())
    local = await disks.ensure_disks(one, "")
    attached = Disk(data["path"], data["format"], "vdc", serial=volume.id[:20], cache="none")
    wire = await rig.spec()
    spec = GuestSpec(one.id, wire.name, 1, 128, (*local, attached), wire.nics, disks.console_path(one.id))

    await rig.hypervisor.ensure_started(spec)
    for _ in range(600):
        if "user data of web" in await disks.console_log(one.id, None):
            break
        await asyncio.sleep(0.1)
    assert "user data of web" in await disks.console_log(one.id, None)
    assert (await rig.hypervisor.ensure_stopped(one.id, 60)).power is Power.SHUTDOWN
    with open(data["path"], "rb") as file:
        assert file.read(21) == b"written by the guest\n"
    assert Path(base).read_bytes() == untouched

    await rig.hypervisor.ensure_gone(one.id)
    await disks.drop_disks(one.id)
    await volumes.disconnect(volume.id, here)
    await volumes.ensure_gone(volume.id)
    assert list((rig.directory / "state" / "servers").iterdir()) == []
    assert list((rig.directory / "volumes").iterdir()) == []
