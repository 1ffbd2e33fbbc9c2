"""Images that lie, where they are used: a host that starts, rebuilds or rescues a server, a volume that is made of one.

No door of the image service takes such data (test_data.py). These came another way: registered before it was looked
at, or swapped in the store behind the service's back. A2, A3, A4, A9, A10, A14, A60.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.block_storage.contract import VolumeSpec
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.compute.contract import Rescue, ServerForHost
from kilonova.db.inline import InlineDatabase
from kilonova.http.client import AsgiTransport, Client
from kilonova.image.client import ImageClient
from kilonova.image.image.store import images
from kilonova.node.agents.compute.agent import ComputeHostAgent
from kilonova.node.agents.compute.core import ComputeSettings, Machine, Peers
from kilonova.node.agents.volume import Peers as VolumePeers
from kilonova.node.agents.volume import VolumeHostAgent
from kilonova.node.hypervisor.fake import FakeHypervisor, FakeMachine
from kilonova.node.images.cache import ImageCache
from kilonova.node.images.disks import FileLocalDisks
from kilonova.node.images.inspector import ConfinedInspector
from kilonova.node.ledger import metadata
from kilonova.node.volumes.files import FileVolumeBackend
from kilonova.node.vswitch.fake import FakeVirtualSwitch
from tests.api.image.door import WholeImage, whole_image
from tests.attacks.image.test_data import ATTACKS
from tests.contract.test_local_disks import server

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs root, libvirtd and QEMU")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that an unprivileged child can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="kn-use-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


class OneServer(ComputeHostAgent):
    """A host's agent with one server, built with `token`."""

    one: ServerForHost
    token = "member"

    async def _record(self, server_id: str) -> ServerForHost:
        return self.one

    async def _token(self) -> str:
        return self.token


class Volumes(VolumeHostAgent):
    """A volume agent that works for the member."""

    async def _token(self) -> str:
        return "member"


class Users:
    """A compute host and a volume host beside an image service."""

    def __init__(self, image: WholeImage, directory: Path) -> None:
        world, nothing = image.service.world, None
        self.directory = directory
        asked: Any = ImageClient(world, Client(AsgiTransport(image.app)), inspector=ConfinedInspector(world))
        self.disks = FileLocalDisks(world, str(directory / "host"))
        machine = Machine(FakeHypervisor(world, FakeMachine()), self.disks, FakeVirtualSwitch(host="node1"))
        broker = MemoryBroker()
        peers: Any = Peers(asked, nothing, nothing, self._own_token)  # type: ignore[arg-type]
        bus = MemoryBus(world, broker, "compute.node1")
        self.ledger = InlineDatabase("ledger", world.clock)
        self.host = OneServer((world, bus, "node1", self.ledger), machine, peers, ComputeSettings())
        self.backend = FileVolumeBackend(world, str(directory / "volumes"))
        files = ImageCache(world, str(directory / "volume-images"))
        volume_peers = VolumePeers(asked, files, nothing)  # type: ignore[arg-type]
        bus = MemoryBus(world, broker, "cinder-volume.node1@files")
        self.volumes = Volumes(world, bus, "node1@files", self.backend, volume_peers)

    async def _own_token(self) -> str:
        return "service"

    async def boot(self, image_id: str, token: str = "member") -> None:
        """A create on a host: the image comes, then the root disk is made of it, then the guest starts."""
        self.host.one, self.host.token = server(1, image_id=image_id), token
        await self.ledger.write(metadata.create_all)
        await self.host.build_and_run_instance(self.host.one.id, False)

    async def rescue(self, image_id: str) -> None:
        """A server that runs is to boot from the image."""
        self.host.one, self.host.token = server(1, image_id=image_id, rescue=Rescue(image_id)), "member"
        await self.host.bring_image(self.host.one.id, image_id)
        await self.disks.rescue_disks(self.host.one, "")

    async def volume(self, image_id: str) -> None:
        """A volume of the image, as large as the server's disk."""
        spec = VolumeSpec(str(uuid.uuid4()), 1, image_id=image_id)
        await self.volumes.create_volume(spec.id, spec)

    def left(self) -> list[Path]:
        """Disks and volumes that were made, and downloads that stayed."""
        places = ("host/servers", "volumes", "host/images/incoming", "volume-images/incoming")
        found = [path for place in places for path in (self.directory / place).rglob("*") if path.is_file()]
        return [path for path in found if path.suffix != ".lock"]


async def registered_before(image: WholeImage, disk_format: str, data: bytes) -> str:
    """An active image whose data nobody looked at; all that is written of it is true."""
    image_id = await image.create()
    await image.put(image_id, b"x")
    (image.service.data._directory / image_id).write_bytes(data)  # type: ignore[attr-defined]
    facts = {
        "disk_format": disk_format,
        "size": len(data),
        "os_hash_value": hashlib.sha512(data).hexdigest(),
        "virtual_size": None,
    }
    await image.service.db.write(_say, image_id, facts)
    return image_id


def _say(connection: Any, image_id: str, facts: dict[str, Any]) -> None:
    connection.execute(images.update().where(images.c.id == image_id).values(**facts))


@needs_qemu_img
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_crafted_disk_is_used_by_nobody(open_directory: Path, attack: str) -> None:
    async with whole_image(open_directory / "image") as image:
        users = Users(image, open_directory)
        image_id = await registered_before(image, *ATTACKS[attack])
        for use in (users.boot, users.rescue, users.volume):
            with pytest.raises(Fault) as refused:
                await use(image_id)
            assert refused.value.kind in (Kind.INVALID, Kind.NO_CAPACITY), (use, refused.value)
            assert "shadow" not in refused.value.told and "passwd" not in refused.value.told
        assert users.left() == []


async def test_data_that_was_swapped_in_the_store_is_used_by_nobody(open_directory: Path) -> None:
    async with whole_image(open_directory / "image") as image:
        users = Users(image, open_directory)
        image_id = await image.create()
        await image.put(image_id, b"good".ljust(4096, b"."))
        (image.service.data._directory / image_id).write_bytes(b"evil".ljust(4096, b"."))  # type: ignore[attr-defined]
        for use in (users.boot, users.rescue, users.volume):
            with pytest.raises(Fault, match="does not match its checksum"):
                await use(image_id)
        assert users.left() == []
        assert not list((open_directory / "host/images").glob("*.json"))


@needs_qemu_img
async def test_an_image_that_is_on_the_host_still_needs_the_right_to_have_it(open_directory: Path) -> None:
    async with whole_image(open_directory / "image") as image:
        users = Users(image, open_directory)
        image_id = await image.create()
        await image.put(image_id, bytes(1 << 20))
        await users.boot(image_id)
        for denied in ("other", "reader"):  # another project's, and one that may see but not download it
            with pytest.raises(Fault) as refused:
                await users.boot(image_id, denied)
            assert refused.value.kind in (Kind.NOT_FOUND, Kind.FORBIDDEN)
        assert len(list((open_directory / "host/servers").iterdir())) == 1
