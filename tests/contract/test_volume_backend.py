"""What every volume backend does: run against the fake, files and Ceph."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.units import GIB, MIB
from kilonova.base.world import LiveWorld
from kilonova.block_storage.contract import Connected, Connector, ImageSource, SnapshotSpec, VolumeBackend, VolumeSpec
from kilonova.node.ceph.pool import RbdPool
from kilonova.node.volumes.fake import FakePool, FakeVolumeBackend
from kilonova.node.volumes.files import FileVolumeBackend
from kilonova.node.volumes.rbd import RbdVolumeBackend
from tests.real.ceph_rig import empty

HOST1, HOST2 = Connector(host="node1"), Connector(host="node2")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that an unprivileged child can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="kn-volumes-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["fake", "files", pytest.param("rbd", marks=[pytest.mark.full, pytest.mark.root])])
async def backend(request: pytest.FixtureRequest, open_directory: Path) -> AsyncIterator[VolumeBackend]:
    world = LiveWorld("test-volumes")
    if request.param == "fake":
        yield FakeVolumeBackend(world, FakePool())
    elif request.param == "rbd":
        pool = RbdPool(request.getfixturevalue("ceph_rig").cluster(), "volumes")
        yield RbdVolumeBackend(world, pool)
        await world.blocking(empty, pool)
        await world.blocking(pool.cluster.close)
    else:
        yield FileVolumeBackend(world, str(open_directory / "volumes"))
    await world.close()


def spec(size_gib: int = 1, **more: str) -> VolumeSpec:
    return VolumeSpec(str(uuid.uuid4()), size_gib, **more)


async def test_a_volume_is_made_once_and_goes_once(backend: VolumeBackend) -> None:
    one = spec()
    await backend.ensure_volume(one, None)
    await backend.ensure_volume(one, None)
    assert await backend.volumes() == [one.id]
    await backend.ensure_gone(one.id)
    await backend.ensure_gone(one.id)
    assert await backend.volumes() == []


async def test_who_is_connected_is_told(backend: VolumeBackend) -> None:
    one, idle = spec(), spec()
    for made in (one, idle):
        await backend.ensure_volume(made, None)
    assert await backend.connections() == []
    for host in (HOST2, HOST1, HOST1):
        await backend.connect(one.id, host)
    assert await backend.connections() == [Connected(one.id, "node1"), Connected(one.id, "node2")]
    await backend.disconnect(one.id, HOST2)
    assert await backend.connections() == [Connected(one.id, "node1")]


async def test_a_connected_volume_cannot_go(backend: VolumeBackend) -> None:
    one = spec()
    await backend.ensure_volume(one, None)
    connection = await backend.connect(one.id, HOST1)
    assert await backend.connect(one.id, HOST1) == connection
    await backend.connect(one.id, HOST2)
    await backend.disconnect(one.id, HOST1)
    await backend.disconnect(one.id, HOST1)
    with pytest.raises(Fault) as caught:
        await backend.ensure_gone(one.id)
    assert caught.value.kind is Kind.CONFLICT
    assert "node2" not in caught.value.told
    await backend.disconnect(one.id, HOST2)
    await backend.ensure_gone(one.id)
    assert await backend.volumes() == []


async def test_a_volume_grows_and_never_shrinks(backend: VolumeBackend) -> None:
    one = spec(2)
    await backend.ensure_volume(one, None)
    await backend.extend(one.id, 3)
    await backend.extend(one.id, 3)
    with pytest.raises(Fault) as caught:
        await backend.extend(one.id, 1)
    assert caught.value.kind is Kind.INVALID


async def test_an_unknown_volume_is_said(backend: VolumeBackend) -> None:
    unknown = str(uuid.uuid4())
    for verb in (backend.connect(unknown, HOST1), backend.extend(unknown, 2)):
        with pytest.raises(Fault) as caught:
            await verb
        assert caught.value.kind is Kind.NOT_FOUND
    await backend.disconnect(unknown, HOST1)
    assert await backend.volumes() == []


async def test_a_source_that_is_larger_is_refused(backend: VolumeBackend) -> None:
    with pytest.raises(Fault) as caught:
        await backend.ensure_volume(spec(1), ImageSource("/nonexistent", "raw", 2 * GIB))
    assert caught.value.kind is Kind.INVALID
    assert await backend.volumes() == []


async def test_a_snapshot_is_made_once_feeds_volumes_and_outlives_its_volume(backend: VolumeBackend) -> None:
    one = spec(2)
    await backend.ensure_volume(one, None)
    snapshot = SnapshotSpec(str(uuid.uuid4()), one.id, 2)
    await backend.ensure_snapshot(snapshot)
    await backend.ensure_snapshot(snapshot)
    assert (await backend.snapshots(), await backend.volumes()) == ([snapshot.id], [one.id])
    await backend.ensure_gone(one.id)
    made = spec(3, snapshot_id=snapshot.id)
    await backend.ensure_volume(made, None)
    await backend.ensure_snapshot_gone(snapshot.id)
    await backend.ensure_snapshot_gone(snapshot.id)
    assert (await backend.snapshots(), await backend.volumes()) == ([], [made.id])
    with pytest.raises(Fault) as caught:
        await backend.ensure_volume(spec(3, snapshot_id=snapshot.id), None)
    assert caught.value.kind is Kind.NOT_FOUND


async def test_a_snapshot_of_a_connected_volume_that_nobody_writes_is_made(backend: VolumeBackend) -> None:
    one = spec()
    await backend.ensure_volume(one, None)
    await backend.connect(one.id, HOST1)
    snapshot = SnapshotSpec(str(uuid.uuid4()), one.id, 1, still=True)
    await backend.ensure_snapshot(snapshot)
    assert await backend.snapshots() == [snapshot.id]


async def test_a_snapshot_of_a_connected_volume_is_of_one_moment_or_refused(backend: VolumeBackend) -> None:
    one = spec()
    await backend.ensure_volume(one, None)
    await backend.connect(one.id, HOST1)
    snapshot = SnapshotSpec(str(uuid.uuid4()), one.id, 1)
    if (await backend.capabilities()).online_snapshots:
        await backend.ensure_snapshot(snapshot)
        assert await backend.snapshots() == [snapshot.id]
        return
    with pytest.raises(Fault) as caught:
        await backend.ensure_snapshot(snapshot)
    assert caught.value.kind is Kind.CONFLICT
    assert await backend.snapshots() == []


async def test_a_snapshot_of_no_volume_is_said(backend: VolumeBackend) -> None:
    with pytest.raises(Fault) as caught:
        await backend.ensure_snapshot(SnapshotSpec(str(uuid.uuid4()), str(uuid.uuid4()), 1))
    assert caught.value.kind is Kind.NOT_FOUND


async def test_bytes_of_a_snapshot_stay_as_they_were(open_directory: Path) -> None:
    world = LiveWorld("test-volumes")
    backend = FileVolumeBackend(world, str(open_directory / "volumes"))
    one, restored = spec(), spec(2)
    await backend.ensure_volume(one, None)
    path = Path((await backend.connect(one.id, HOST1)).data["path"])
    before = os.urandom(MIB)
    with path.open("r+b") as file:
        file.seek(300 * MIB)
        file.write(before)
    await backend.disconnect(one.id, HOST1)
    snapshot = SnapshotSpec(str(uuid.uuid4()), one.id, 1)
    await backend.ensure_snapshot(snapshot)
    with path.open("r+b") as file:
        file.seek(300 * MIB)
        file.write(b"later" * 1000)
    await backend.ensure_volume(VolumeSpec(restored.id, 2, snapshot_id=snapshot.id), None)
    kept = open_directory / "volumes" / f"snapshot-{snapshot.id}"
    again = Path((await backend.connect(restored.id, HOST1)).data["path"])
    for found, size in ((kept, GIB), (again, 2 * GIB)):
        with found.open("rb") as file:
            file.seek(300 * MIB)
            assert file.read(MIB) == before
        assert (found.stat().st_size, found.stat().st_mode & 0o077) == (size, 0)
        assert found.stat().st_blocks * 512 < 4 * MIB
    await world.close()


async def test_capabilities_have_room(backend: VolumeBackend) -> None:
    told = await backend.capabilities()
    assert 0 < told.free_gib <= told.total_gib


async def test_bytes_of_an_image_and_of_a_volume_arrive(open_directory: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("needs root, libvirtd and QEMU")
    raw, image = open_directory / "image.raw", open_directory / "image.qcow2"
    raw.write_bytes(os.urandom(MIB) + bytes(8 * MIB) + b"the end!" * 64)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True, timeout=30)
    world = LiveWorld("test-volumes")
    backend = FileVolumeBackend(world, str(open_directory / "volumes"))
    first, second = spec(1), spec(2)
    await backend.ensure_volume(first, ImageSource(str(image), "qcow2", raw.stat().st_size))
    await backend.ensure_volume(VolumeSpec(second.id, 2, source_volume_id=first.id), None)
    for volume, size in ((first, GIB), (second, 2 * GIB)):
        path = Path((await backend.connect(volume.id, HOST1)).data["path"])
        with path.open("rb") as file:
            assert file.read(raw.stat().st_size) == raw.read_bytes()
        assert path.stat().st_size == size
        assert path.stat().st_blocks * 512 < 4 * MIB
        assert path.stat().st_mode & 0o077 == 0
    await world.close()


async def test_too_little_room_is_said_before_a_byte_is_written(open_directory: Path) -> None:
    world = LiveWorld("test-volumes")
    backend = FileVolumeBackend(world, str(open_directory / "volumes"))
    huge = spec(10_000_000)
    with pytest.raises(Fault) as caught:
        await backend.ensure_volume(huge, ImageSource("/nonexistent", "raw", 9_000_000 * GIB))
    assert caught.value.kind is Kind.NO_CAPACITY
    assert await backend.volumes() == []
    assert not list((open_directory / "volumes").glob("*.part"))
    await world.close()


async def test_a_broken_image_leaves_nothing(open_directory: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("needs root, libvirtd and QEMU")
    broken = open_directory / "broken"
    broken.write_bytes(b"this is no qcow2")
    world = LiveWorld("test-volumes")
    backend = FileVolumeBackend(world, str(open_directory / "volumes"))
    with pytest.raises(Fault) as caught:
        await backend.ensure_volume(spec(), ImageSource(str(broken), "qcow2", MIB))
    assert caught.value.kind is Kind.INVALID
    assert await backend.volumes() == []
    assert not list((open_directory / "volumes").glob("*.part"))
    await world.close()
