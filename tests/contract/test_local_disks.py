"""What every host's local disks do: run against the fake, files and Ceph."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.units import GIB, MIB
from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Flavor, LocalDisks, ServerForHost
from kilonova.node.ceph.pool import RbdPool
from kilonova.node.hypervisor.fake import FakeMachine
from kilonova.node.images.disks import FileLocalDisks
from kilonova.node.images.fake import FakeLocalDisks
from kilonova.node.images.rbd_disks import RbdLocalDisks
from tests.offered_image import OfferedImage
from tests.real.ceph_rig import empty

IMAGE = "5f1c2d8e-0000-4000-8000-000000000001"


def server(root_gb: int = 1, **more: Any) -> ServerForHost:
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()), "number": 1, "name": "web", "hostname": "web", "project_id": "p", "user_id": "u",
        "availability_zone": "nova", "flavor": Flavor("1", "m1.tiny", 1, 128, root_gb), "image_id": IMAGE,
        "image_properties": {}, "key_name": "", "public_key": "", "user_data": "", "config_drive": False,
        "metadata": {}, "personality": [], "port_requests": [], "security_groups": ["default"],
        "block_devices": [], "ports": [], "created_at": "2026-11-20T12:00:00Z",
    }  # fmt: skip
    return ServerForHost(**{**values, **more})


class Rig:
    """Local disks, and an image service that counts downloads."""

    def __init__(self, kind: str, directory: Path, pool: RbdPool | None = None) -> None:
        self.world = LiveWorld("test-disks")
        self.directory = directory
        self.source = directory / "source.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.source, "24M"], check=True, timeout=30)
        self.fetched = 0
        self.disks: LocalDisks
        if kind == "fake":
            self.disks = FakeLocalDisks(self.world, FakeMachine(), str(directory / "fake"))
        elif pool is not None:
            self.disks = RbdLocalDisks(self.world, str(directory / "state"), None, pool)
        else:
            self.disks = FileLocalDisks(self.world, str(directory / "state"))

    async def fetch(self, path: str) -> None:
        self.fetched += 1
        await asyncio.sleep(0.05)
        shutil.copy(self.source, path)

    async def with_image(self) -> Rig:
        await self.disks.ensure_image(OfferedImage(IMAGE, self.fetch, 24 * MIB))
        return self


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that an unprivileged child can reach, unlike pytest's own."""
    if shutil.which("qemu-img") is None:
        pytest.skip("needs root, libvirtd and QEMU")
    path = Path(tempfile.mkdtemp(prefix="kn-disks-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["fake", "files", pytest.param("rbd", marks=[pytest.mark.full, pytest.mark.root])])
async def rig(request: pytest.FixtureRequest, open_directory: Path) -> AsyncIterator[Rig]:
    pool = RbdPool(request.getfixturevalue("ceph_rig").cluster(), "disks") if request.param == "rbd" else None
    made = Rig(request.param, open_directory, pool)
    yield made
    if pool is not None:
        await made.world.blocking(empty, pool)
        await made.world.blocking(pool.cluster.close)
    await made.world.close()


@pytest.fixture
async def real(open_directory: Path) -> AsyncIterator[Rig]:
    made = Rig("files", open_directory)
    yield made
    await made.world.close()


async def test_an_image_is_fetched_once(rig: Rig) -> None:
    path = await rig.disks.ensure_image(OfferedImage(IMAGE, rig.fetch, MIB))
    assert await rig.disks.ensure_image(OfferedImage(IMAGE, rig.fetch, MIB)) == path
    assert rig.fetched == 1


async def test_too_little_room_is_said_before_anything_is_fetched(rig: Rig) -> None:
    with pytest.raises(Fault) as caught:
        await rig.disks.ensure_image(OfferedImage(IMAGE, rig.fetch, 10_000_000 * GIB))
    assert caught.value.kind is Kind.NO_CAPACITY
    assert rig.fetched == 0


async def test_disks_are_made_once_and_dropped_once(rig: Rig) -> None:
    await rig.with_image()
    flavor = Flavor("x", "x", 1, 128, 1, ephemeral_gb=1, swap_mb=64)
    one = server(flavor=flavor, config_drive=True)
    disks = await rig.disks.ensure_disks(one, "secret")
    assert await rig.disks.ensure_disks(one, "") == disks
    assert [disk.target for disk in disks] == ["vda", "vdb", "vdc", "hdd"]
    assert disks[0].boot_order == 1
    assert disks[3].device == "cdrom"
    assert disks[3].read_only
    await rig.disks.drop_disks(one.id)
    await rig.disks.drop_disks(one.id)


async def test_a_server_that_boots_from_a_volume_leaves_it_the_first_place(rig: Rig) -> None:
    flavor = Flavor("x", "x", 1, 128, 1, swap_mb=16)
    disks = await rig.disks.ensure_disks(server(image_id="", flavor=flavor), "")
    assert [disk.target for disk in disks] == ["vdb"]


async def test_the_host_has_room(rig: Rig) -> None:
    assert 0 < await rig.disks.free_gb() <= await rig.disks.total_gb()


async def test_no_console_yet_is_empty(rig: Rig) -> None:
    assert await rig.disks.console_log(str(uuid.uuid4()), 10) == ""


async def test_many_who_ask_at_once_share_one_download(real: Rig) -> None:
    await asyncio.gather(*(real.disks.ensure_image(OfferedImage(IMAGE, real.fetch, MIB)) for _ in range(5)))
    assert real.fetched == 1


async def test_the_cached_image_cannot_be_changed_by_others(real: Rig) -> None:
    path = await real.disks.ensure_image(OfferedImage(IMAGE, real.fetch, MIB))
    assert os.stat(path).st_mode & 0o222 == 0
    assert os.stat(path).st_uid == os.geteuid()


async def test_a_broken_download_leaves_nothing_and_can_be_tried_again(real: Rig) -> None:
    async def breaks(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise ConnectionError("the image service went away")

    with pytest.raises(ConnectionError):
        await real.disks.ensure_image(OfferedImage(IMAGE, breaks, MIB))
    assert [p for p in (real.directory / "state").rglob("*") if p.is_file()] == []
    await real.disks.ensure_image(OfferedImage(IMAGE, real.fetch, MIB))
    assert real.fetched == 1


async def test_an_image_that_leans_on_a_file_of_the_host_is_refused(real: Rig) -> None:
    async def evil(path: str) -> None:
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path, "1M"], check=True
        )

    with pytest.raises(Fault) as caught:
        await real.disks.ensure_image(OfferedImage(IMAGE, evil, MIB))
    assert caught.value.kind is Kind.INVALID
    assert "other files" in caught.value.message


async def test_a_foreign_format_is_converted_once(real: Rig) -> None:
    async def vmdk(path: str) -> None:
        real.fetched += 1
        subprocess.run(["qemu-img", "convert", "-O", "vmdk", real.source, path], check=True)

    path = await real.disks.ensure_image(OfferedImage(IMAGE, vmdk, MIB))
    assert path == await real.disks.ensure_image(OfferedImage(IMAGE, vmdk, MIB))
    assert real.fetched == 1
    assert info(path)["format"] == "qcow2"
    assert info(path)["virtual-size"] == 24 * MIB


async def test_the_root_disk_names_its_base_and_format(real: Rig) -> None:
    await real.with_image()
    root = (await real.disks.ensure_disks(server(2), ""))[0]
    told = info(root.path)
    assert told["virtual-size"] == 2 * GIB
    assert told["backing-filename-format"] == "qcow2"
    assert os.stat(root.path).st_mode & 0o077 == 0


async def test_the_second_boot_of_an_image_copies_no_bytes(real: Rig) -> None:
    """Downloaded and checked once; every root disk is an overlay that holds nothing until its guest writes."""
    real.source.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", real.source, "24M"], check=True, timeout=30)
    real.source.write_bytes(os.urandom(24 * MIB))
    await real.with_image()
    first = (await real.disks.ensure_disks(server(), ""))[0]
    base = info(first.path)["backing-filename"]
    before = os.stat(base)
    await real.with_image()
    second = (await real.disks.ensure_disks(server(), ""))[0]
    after = os.stat(base)
    assert real.fetched == 1
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    assert info(second.path)["backing-filename"] == base
    assert os.stat(second.path).st_blocks * 512 < MIB // 2 < os.stat(base).st_blocks * 512


async def test_an_image_larger_than_the_flavor_is_refused(real: Rig) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", real.source, "3G"], check=True, timeout=30)
    await real.with_image()
    with pytest.raises(Fault) as caught:
        await real.disks.ensure_disks(server(2), "")
    assert caught.value.kind is Kind.INVALID
    assert "too small" in caught.value.message


async def test_the_config_drive_says_who_the_server_is(real: Rig) -> None:
    await real.with_image()
    script = b"#!/bin/sh\necho hi\n"
    one = server(config_drive=True, user_data=base64.b64encode(script).decode(), metadata={"role": "web"})
    path = (await real.disks.ensure_disks(one, "s3cret"))[-1].path
    assert os.stat(path).st_mode & 0o077 == 0
    iso = pycdlib.PyCdlib()
    iso.open(path)
    assert iso.pvd.volume_identifier.strip() == b"config-2"
    told = json.loads(read(iso, "/openstack/latest/meta_data.json"))
    assert (told["uuid"], told["hostname"], told["meta"], told["admin_pass"]) == (
        one.id, "web", {"role": "web"}, "s3cret",
    )  # fmt: skip
    assert read(iso, "/openstack/latest/user_data") == script
    assert read(iso, "/ec2/latest/user-data") == script
    iso.close()


async def test_a_console_shows_its_last_lines_and_stays_in_bounds(real: Rig) -> None:
    await real.with_image()
    one = server()
    await real.disks.ensure_disks(one, "")
    log = Path(real.disks.console_path(one.id))
    log.write_bytes(b"first\nsecond\nthird \xff\n")
    assert await real.disks.console_log(one.id, 2) == "second\nthird �\n"
    assert (await real.disks.console_log(one.id, None)).startswith("first")
    log.write_bytes(b"x" * 99 + b"\n" + b"y" * (9 * MIB) + b"\nlast\n")
    await real.disks.free_gb()
    assert log.stat().st_size < 4 * MIB
    assert (await real.disks.console_log(one.id, 1)) == "last\n"


def info(path: str) -> Any:
    return json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path], timeout=30))


def read(iso: pycdlib.PyCdlib, path: str) -> bytes:
    content = BytesIO()
    iso.get_file_from_iso_fp(content, rr_path=path)
    return content.getvalue()


# ── resize and rebuild: other disks in place of the old, which are kept


def virtual_size(path: str) -> int:
    told = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True, timeout=30
    )
    return int(json.loads(told.stdout)["virtual-size"])


def written(path: str, text: str) -> None:
    """Put `text` at the start of a qcow2."""
    raw = f"{path}.text"
    Path(raw).write_text(text.ljust(512))
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -s {raw} 0 512", path]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    os.unlink(raw)


def first_sector(path: str) -> str:
    command = ["qemu-img", "dd", "-U", "-f", "qcow2", "-O", "raw", f"if={path}", f"of={path}.read", "bs=512", "count=1"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    text = Path(f"{path}.read").read_bytes().decode(errors="replace").strip()
    os.unlink(f"{path}.read")
    return text


async def test_disks_are_resized_restored_and_forgotten_however_often(rig: Rig) -> None:
    await rig.with_image()
    one = server()
    before = await rig.disks.ensure_disks(one, "")
    larger = server(id=one.id, flavor=Flavor("2", "m1.small", 1, 256, 2, ephemeral_gb=1, swap_mb=64))
    for _ in range(2):
        await rig.disks.resize_disks(larger)
    assert [disk.target for disk in await rig.disks.ensure_disks(larger, "")] == ["vda", "vdb", "vdc"]
    for _ in range(2):
        await rig.disks.restore_disks(one.id)
    assert await rig.disks.ensure_disks(one, "") == before
    await rig.disks.resize_disks(larger)
    for _ in range(2):
        await rig.disks.forget_disks(one.id)
    await rig.disks.restore_disks(one.id)  # nothing is kept any more: the new ones stay
    assert len(await rig.disks.ensure_disks(larger, "")) == 3
    await rig.disks.replace_disks(larger, False)
    await rig.disks.drop_disks(one.id)
    await rig.disks.restore_disks(one.id)


async def test_a_resized_root_is_larger_with_its_data_and_a_restored_one_has_only_what_was_before(real: Rig) -> None:
    await real.with_image()
    one = server(1)
    path = (await real.disks.ensure_disks(one, ""))[0].path
    written(path, "before")
    larger = server(2, id=one.id)
    await real.disks.resize_disks(larger)
    assert (virtual_size(path), first_sector(path)) == (2 * GIB, "before")
    written(path, "after")
    await real.disks.restore_disks(one.id)
    assert (virtual_size(path), first_sector(path)) == (GIB, "before")
    await real.disks.resize_disks(larger)
    await real.disks.forget_disks(one.id)
    await real.disks.resize_disks(server(1, id=one.id))  # never smaller
    assert virtual_size(path) == 2 * GIB
    await real.disks.drop_disks(one.id)
    assert list((real.directory / "state/servers").iterdir()) == []


async def test_a_rebuilt_root_is_fresh_and_ephemeral_disks_stay_when_asked(real: Rig) -> None:
    await real.with_image()
    one = server(flavor=Flavor("x", "x", 1, 128, 1, ephemeral_gb=1), config_drive=True)
    root, ephemeral, _ = [disk.path for disk in await real.disks.ensure_disks(one, "old")]
    written(root, "old")
    Path(ephemeral).write_bytes(b"kept")
    await real.disks.replace_disks(one, True)
    await real.disks.ensure_disks(one, "new")
    assert (first_sector(root).strip("\0"), Path(ephemeral).read_bytes()) == ("", b"kept")
    await real.disks.forget_disks(one.id)
    assert Path(ephemeral).read_bytes() == b"kept"
    await real.disks.replace_disks(one, False)
    await real.disks.ensure_disks(one, "")
    assert not Path(ephemeral).read_bytes().startswith(b"kept")
    await real.disks.restore_disks(one.id)
    assert Path(ephemeral).read_bytes() == b"kept"


async def test_a_host_that_died_amid_a_resize_goes_on_where_it_was(real: Rig) -> None:
    await real.with_image()
    one = server()
    path = (await real.disks.ensure_disks(one, ""))[0].path
    larger = server(2, id=one.id)
    await real.disks.resize_disks(larger)
    servers = real.directory / "state/servers"
    (servers / one.id).rename(servers / f"{one.id}.next")  # died between its two renames
    await real.disks.resize_disks(larger)
    assert virtual_size(path) == 2 * GIB
    (servers / one.id / "disk").unlink()  # died while the new ones were being removed
    await real.disks.restore_disks(one.id)
    assert virtual_size(path) == GIB
