"""A real guest on Ceph: its root disk is a clone of an image that was uploaded into the same cluster, its volume a
device beside it. Nothing is downloaded, nothing copied."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.units import GIB, MIB
from kilonova.base.world import LiveWorld
from kilonova.block_storage.contract import Connector, ImageSource, VolumeSpec
from kilonova.compute.contract import BlockDevice, Flavor, GuestSpec, Power, Rescue
from kilonova.db.inline import InlineDatabase
from kilonova.db.migrations import upgrade
from kilonova.http.client import AsgiTransport, Client
from kilonova.image.client import ImageClient
from kilonova.image.contract import NOT_ASKED, NewImage
from kilonova.image.core import ImageParts, ImageService
from kilonova.image.service import MIGRATIONS, RULES, image_app
from kilonova.image.settings import ImageSettings
from kilonova.image.stores import Store
from kilonova.node.ceph.library import library
from kilonova.node.ceph.pool import RbdPool
from kilonova.node.guest.build import build_guest, missing_tools
from kilonova.node.guest_spec import volume_disk
from kilonova.node.images.asked import AskedImage
from kilonova.node.images.inspector import ConfinedInspector
from kilonova.node.images.rbd import RbdStore
from kilonova.node.images.rbd_disks import RbdLocalDisks
from kilonova.node.images.rbd_parents import RbdParents
from kilonova.node.volumes.rbd import RbdVolumeBackend
from kilonova.policy.rules import Policy
from tests.api.support import CALLERS, FakeAuthenticator
from tests.contract.test_local_disks import server
from tests.real.ceph_rig import CephRig, empty
from tests.real.libvirt_rig import skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.guest, pytest.mark.full]
CACHE = Path(os.environ.get("KILONOVA_GUEST_CACHE", "~/.cache/kilonova/guest")).expanduser()
USER_DATA = b"""#!/bin/sh
echo "user data of $(hostname)" > /dev/console
echo "written by the guest" > /dev/vdb
sync
"""
TOKEN = "member"  # with a service's token beside it, as hosts ask


class Cloud:
    """The image service over a store on Ceph, and one host of the same Ceph."""

    def __init__(self, ceph: CephRig) -> None:
        from kilonova.node.hypervisor.libvirt import LibvirtHypervisor
        from kilonova.node.hypervisor.libvirtd import PrivateLibvirtd, qemu_user

        self.world = LiveWorld("ceph")
        self.ceph = ceph.cluster()
        self.directory = Path(tempfile.mkdtemp(prefix="kn-ceph-host-"))
        self.directory.chmod(0o711)
        user = qemu_user()
        self.daemon = PrivateLibvirtd(str(self.directory / "v"), f"ceph{uuid.uuid4().hex[:6]}")
        self.hypervisor = LibvirtHypervisor(
            self.world, daemon=self.daemon, keys=lambda: {self.ceph.secret_uuid(): self.ceph.key()}
        )
        self.images_pool, self.disks_pool, self.volumes_pool = (
            RbdPool(self.ceph, name) for name in ("images", "disks", "volumes")
        )
        self.owner = (user.pw_uid, user.pw_gid)
        self.disks = RbdLocalDisks(self.world, str(self.directory / "state"), self.owner, self.disks_pool)
        self.volumes = RbdVolumeBackend(self.world, self.volumes_pool)
        self.images: ImageClient
        self.client: Client

    async def start(self) -> None:
        db = InlineDatabase("image", self.world.clock)
        await db.write(upgrade, MIGRATIONS)
        store = RbdStore(self.world, self.ceph, "images")
        inspector = ConfinedInspector(self.world)
        parts = ImageParts(stores=(Store("ceph", "rbd", store, default=True),), inspector=inspector)
        service = ImageService(self.world, db, store, ImageSettings(), parts)
        callers = {**CALLERS, TOKEN: dataclasses.replace(CALLERS["member"], service_roles=("service",))}
        app = image_app(service, FakeAuthenticator(callers), Policy(RULES))
        self.client = Client(AsgiTransport(app))
        self.images = ImageClient(self.world, self.client, inspector=inspector)

    def restart_agent(self) -> None:
        """The host's agent starts anew: what it knew is on its disk or forgotten."""
        self.disks = RbdLocalDisks(self.world, str(self.directory / "state"), self.owner, self.disks_pool)

    async def upload(self, path: Path, disk_format: str) -> str:
        image = NewImage(str(uuid.uuid4()), "guest", disk_format)
        await self.images.create(TOKEN, image)
        await self.images.upload(TOKEN, image.id, str(path))
        return image.id

    def asked(self, image_id: str) -> AskedImage:
        return AskedImage(self.images, TOKEN, image_id, NOT_ASKED)

    async def close(self) -> None:
        try:
            for guest in await self.hypervisor.guests():
                await self.hypervisor.ensure_gone(guest.id)
            await self.hypervisor.close()
            self.daemon.stop()
        finally:
            for pool in (self.disks_pool, self.volumes_pool, self.images_pool):
                await self.world.blocking(empty, pool)
            await self.world.blocking(self.ceph.close)
            await self.world.close()
            subprocess.run(["rm", "-r", str(self.directory)], check=True)


@pytest.fixture
async def cloud(ceph_rig: CephRig) -> AsyncIterator[Cloud]:
    skip_unless_possible()
    if lacking := missing_tools():
        pytest.skip(f"needs QEMU and the guest builder's tools: {lacking}")
    made = Cloud(ceph_rig)
    await made.start()
    yield made
    await made.close()


def own_bytes(pool: RbdPool, name: str) -> int:
    """What the device holds itself, not its parent for it."""
    found: list[int] = []
    with pool.opened(name) as device:
        device.diff_iterate(0, device.size(), None, lambda _at, length, _there: found.append(length), False)
    return sum(found)


async def until_booted(cloud: Cloud, server_id: str) -> str:
    """What the guest's console said until it was a server; the end of it is printed, for when the host was slow."""
    for _ in range(1200):
        if "### cloud done" in await cloud.disks.console_log(server_id, None):
            break
        await asyncio.sleep(0.1)
    console = await cloud.disks.console_log(server_id, None)
    print(console[-1500:])
    return console


async def test_a_guest_boots_from_a_clone(cloud: Cloud, tmp_path: Path) -> None:
    built = await cloud.world.blocking(build_guest, tmp_path, CACHE)
    raw = tmp_path / "guest.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", built.disk, raw], check=True)
    image_id = await cloud.upload(raw, "raw")

    asked = cloud.asked(image_id)
    assert await cloud.disks.ensure_image(asked) == f"rbd:images/{image_id}@snap"
    await asked.settle()
    assert cloud.disks_pool.names() == []
    assert all(path.stat().st_size < 100 for path in (cloud.directory / "state").rglob("*") if path.is_file())

    cloud.restart_agent()
    flavor = Flavor("1", "m1.tiny", 1, 128, 1)
    one = server(config_drive=True, flavor=flavor, image_id=image_id, user_data=base64.b64encode(USER_DATA).decode())
    local = await cloud.disks.ensure_disks(one, "")
    root = local[0].path.partition("/")[2]
    with cloud.disks_pool.opened(root) as device:
        assert device.parent_info() == ("images", image_id, "snap")
        assert device.size() == GIB
    assert own_bytes(cloud.disks_pool, root) == 0

    volume, here = VolumeSpec(str(uuid.uuid4()), 1), Connector("node1")
    await cloud.volumes.ensure_volume(volume, None)
    connection = await cloud.volumes.connect(volume.id, here)
    plugged = BlockDevice("b", "volume", "volume", None, "/dev/vdb", volume_id=volume.id, connection=connection)
    spec = GuestSpec(
        one.id, "kncp-instance-1", 1, 128, (*local, volume_disk(plugged)), (), cloud.disks.console_path(one.id)
    )
    assert "AQ" not in str(spec)  # a Ceph key begins so: it is in no spec
    await cloud.hypervisor.ensure_started(spec)
    console = await until_booted(cloud, one.id)
    assert "source: config-drive" in console and "user data of web" in console

    snapshot = str(uuid.uuid4())
    assert await cloud.disks.start_snapshot(one, snapshot) == ("", "")
    await cloud.disks.finish_snapshot(one.id, snapshot, copied=False)
    told = subprocess.check_output(["qemu-img", "info", cloud.disks.snapshot_path(one.id, snapshot)], text=True)
    assert "file format: qcow2" in told and "1 GiB" in told
    await cloud.disks.drop_snapshot(one.id, snapshot)

    assert (await cloud.hypervisor.ensure_stopped(one.id, 60)).power is Power.SHUTDOWN
    await cloud.volumes.disconnect(volume.id, here)
    with cloud.volumes_pool.opened(f"volume-{volume.id}") as device:
        assert device.read(0, 21) == b"written by the guest\n"
    assert 0 < own_bytes(cloud.disks_pool, root) < 200 * MIB

    await cloud.images.delete(TOKEN, image_id)  # its clone goes on
    assert cloud.images_pool.names() == []
    await cloud.hypervisor.ensure_started(spec)
    await cloud.hypervisor.ensure_gone(one.id)
    await cloud.disks.drop_disks(one.id)
    assert cloud.disks_pool.names() == []
    cloud.images_pool.sweep()
    _, rbd = library()
    assert list(rbd.RBD().trash_list(cloud.ceph.pool("images"))) == []


async def test_an_image_that_is_not_raw_is_warned_about_and_converted_once(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "24M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 0 1M", path], check=True, capture_output=True)
    image = NewImage(str(uuid.uuid4()), "guest", "qcow2")
    await cloud.images.create(TOKEN, image)
    headers = {"content-type": "application/octet-stream"}
    reply = await cloud.client.send_bytes(
        "PUT", f"/v2/images/{image.id}/file", path.read_bytes(), token=TOKEN, headers=headers
    )
    assert "clones raw images only" in reply.headers["warning"]
    for _ in range(2):
        assert await cloud.disks.ensure_image(cloud.asked(image.id)) == f"rbd:disks/base_{image.id}@snap"
    with cloud.disks_pool.opened(f"base_{image.id}", "snap") as device:
        assert device.size() == 24 * MIB and device.read(0, MIB) == bytes([7]) * MIB
    assert [one for one in (cloud.directory / "state").rglob("*") if one.is_file()] == []


async def test_volumes_are_cloned_from_images_and_from_each_other(cloud: Cloud, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(os.urandom(8 * MIB))
    image_id = await cloud.upload(raw, "raw")
    parents = RbdParents(cloud.world, str(cloud.directory / "volume-images"), cloud.volumes_pool)
    found = await parents.ensure(cloud.asked(image_id))
    source = ImageSource(found.path, found.format, found.virtual_size_bytes)
    first, second = VolumeSpec(str(uuid.uuid4()), 1), str(uuid.uuid4())
    await cloud.volumes.ensure_volume(first, source)
    await cloud.volumes.ensure_volume(VolumeSpec(second, 2, source_volume_id=first.id), None)
    await cloud.images.delete(TOKEN, image_id)
    await cloud.volumes.ensure_gone(first.id)
    assert await cloud.volumes.volumes() == [second]
    with cloud.volumes_pool.opened(f"volume-{second}") as device:
        assert device.size() == 2 * GIB and device.read(0, 8 * MIB) == raw.read_bytes()
    assert own_bytes(cloud.volumes_pool, f"volume-{second}") == 0


def device_text(pool: Any, name: str) -> bytes:
    with pool.opened(name) as device:
        return bytes(device.read(0, 6))


async def test_a_resize_a_rebuild_and_a_rescue_can_be_taken_back(cloud: Cloud, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"image!".ljust(MIB, b"."))
    image_id = await cloud.upload(raw, "raw")
    await cloud.disks.ensure_image(cloud.asked(image_id))
    one = server(1, image_id=image_id)
    larger = server(2, id=one.id, image_id=image_id)

    async def root() -> str:
        return (await cloud.disks.ensure_disks(larger, ""))[0].path.partition("/")[2]

    name = (await cloud.disks.ensure_disks(one, ""))[0].path.partition("/")[2]

    def write(text: bytes) -> None:
        with cloud.disks_pool.opened(name) as device:
            device.write(text, 0)

    write(b"before")
    for _ in range(2):
        await cloud.disks.resize_disks(larger)
    assert (await root(), cloud.disks_pool.size_bytes(name)) == (name, 2 * GIB)
    write(b"after.")
    for _ in range(2):
        await cloud.disks.restore_disks(one.id)
    assert (device_text(cloud.disks_pool, name), cloud.disks_pool.size_bytes(name)) == (b"before", GIB)
    await cloud.disks.resize_disks(larger)
    for _ in range(2):
        await cloud.disks.forget_disks(one.id)
    assert cloud.disks_pool.size_bytes(name) == 2 * GIB

    await cloud.disks.replace_disks(larger, False)
    fresh = await root()
    assert fresh != name and device_text(cloud.disks_pool, fresh) == b"image!"
    await cloud.disks.restore_disks(one.id)
    assert (await root(), device_text(cloud.disks_pool, name)) == (name, b"before")
    assert cloud.disks_pool.names() == [name]
    await cloud.disks.replace_disks(larger, False)
    fresh = await root()
    await cloud.disks.forget_disks(one.id)
    assert cloud.disks_pool.names() == [fresh]

    ailing = server(2, id=one.id, image_id=image_id, rescue=Rescue(image_id))
    rescue = (await cloud.disks.rescue_disks(ailing, ""))[0].path.partition("/")[2]
    assert device_text(cloud.disks_pool, rescue) == b"image!"
    assert cloud.disks_pool.names() == sorted([fresh, rescue])
    for _ in range(2):
        await cloud.disks.drop_rescue_disks(one.id)
    assert cloud.disks_pool.names() == [fresh]
    await cloud.disks.drop_disks(one.id)
    assert cloud.disks_pool.names() == []
