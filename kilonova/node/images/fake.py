"""Local disks that hold no bytes: the same port and faults as the real ones, on a `FakeMachine`."""

from __future__ import annotations

import contextlib
import os

from kilonova.base.faults import no_capacity
from kilonova.base.units import GIB
from kilonova.base.world import World
from kilonova.compute.contract import Disk, ServerForHost
from kilonova.image.contract import RemoteImage
from kilonova.node.hypervisor.fake import FakeMachine
from kilonova.node.images.cache import CachedImage

NOWHERE = "/nonexistent/kilonova-fake"
# The header of a disk of 1 GiB without data: what a snapshot declares itself to be, image looks.
EMPTY_QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 30).to_bytes(8, "big") + bytes(65504)


class FakeLocalDisks:
    """LocalDisks on a `FakeMachine`.

    With a `directory`, images are really fetched into it and their bytes dropped at once; without one, `fetch`
    gets a path that cannot be written, as a simulation's images have no bytes.
    """

    def __init__(self, world: World, machine: FakeMachine, directory: str = "") -> None:
        self._world = world
        self._machine = machine
        self._directory = directory or NOWHERE

    async def ensure_image(self, image: RemoteImage) -> str:
        await self._seam("ensure_image")
        image_id = image.id
        if known := self._machine.images.get(image_id):
            return known
        if await image.room_bytes() > (self._machine.disk_gb - self._machine.disk_gb_used) * GIB:
            raise no_capacity(f"The host has too little disk for image {image_id}.")
        path = f"{self._directory}/{image_id}"
        if self._directory != NOWHERE:
            await self._world.blocking(_make_directory, self._directory)
        await image.fetch(path)
        if self._directory != NOWHERE:
            await self._world.blocking(_drop_bytes, path)
        self._machine.images[image_id] = path
        return path

    async def ensure_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        await self._seam("ensure_disks")
        if known := self._machine.disks.get(server.id):
            return list(known)
        gigabytes = _gigabytes(server)
        if self._machine.disk_gb_used + gigabytes > self._machine.disk_gb:
            raise no_capacity(f"The host has too little disk for server {server.id}.")
        self._use(server, gigabytes)
        self._machine.passwords[server.id] = admin_password
        await self._world.clock.sleep(0)
        return list(self._machine.disks[server.id])

    async def rescue_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        await self._seam("rescue_disks")
        self._machine.rescue_disks.add(server.id)
        path = f"{self._directory}/servers/{server.id}/disk.rescue"
        return [Disk(path, "qcow2", "vda", boot_order=1, serial="rescue")]

    async def drop_rescue_disks(self, server_id: str) -> None:
        await self._seam("drop_rescue_disks")
        self._machine.rescue_disks.discard(server_id)

    async def resize_disks(self, server: ServerForHost) -> None:
        await self._seam("resize_disks")
        if server.id in self._machine.kept_disks:
            return
        gigabytes = _gigabytes(server)
        if self._machine.disk_gb_used + gigabytes > self._machine.disk_gb:
            raise no_capacity(f"The host has too little disk for server {server.id}.")
        self._keep(server.id)
        self._use(server, gigabytes)

    async def replace_disks(self, server: ServerForHost, keep_ephemeral: bool) -> None:
        await self._seam("replace_disks")
        if server.id not in self._machine.kept_disks:
            self._keep(server.id)

    def _keep(self, server_id: str) -> None:
        known = (self._machine.disks.pop(server_id, []), self._machine.disk_gb_of.pop(server_id, 0))
        self._machine.kept_disks[server_id] = known

    def _use(self, server: ServerForHost, gigabytes: int) -> None:
        self._machine.disks[server.id] = _disks(server, f"{self._directory}/servers/{server.id}")
        self._machine.disk_gb_of[server.id] = gigabytes
        self._machine.disk_gb_used += gigabytes

    async def restore_disks(self, server_id: str) -> None:
        await self._seam("restore_disks")
        if kept := self._machine.kept_disks.pop(server_id, None):
            self._machine.disk_gb_used -= self._machine.disk_gb_of.pop(server_id, 0)
            self._machine.disks[server_id], self._machine.disk_gb_of[server_id] = kept

    async def forget_disks(self, server_id: str) -> None:
        await self._seam("forget_disks")
        self._machine.disk_gb_used -= self._machine.kept_disks.pop(server_id, ([], 0))[1]

    async def start_snapshot(self, server: ServerForHost, image_id: str) -> tuple[str, str]:
        await self._seam("start_snapshot")
        path = self.snapshot_path(server.id, image_id)
        self._machine.snapshots.add(path)
        return f"{self._directory}/servers/{server.id}/disk", path

    async def finish_snapshot(self, server_id: str, image_id: str, *, copied: bool) -> None:
        await self._seam("finish_snapshot")
        if self._directory != NOWHERE:
            await self._world.blocking(_write_little, self.snapshot_path(server_id, image_id))

    def snapshot_path(self, server_id: str, image_id: str) -> str:
        return f"{self._directory}/servers/{server_id}/snapshot-{image_id}"

    async def drop_snapshot(self, server_id: str, image_id: str) -> None:
        await self._seam("drop_snapshot")
        path = self.snapshot_path(server_id, image_id)
        self._machine.snapshots.discard(path)
        if self._directory != NOWHERE:
            await self._world.blocking(_forget, path)

    async def drop_disks(self, server_id: str) -> None:
        await self._seam("drop_disks")
        self._machine.disk_gb_used -= self._machine.kept_disks.pop(server_id, ([], 0))[1]
        self._machine.disks.pop(server_id, None)
        self._machine.rescue_disks.discard(server_id)
        self._machine.passwords.pop(server_id, None)
        self._machine.disk_gb_used -= self._machine.disk_gb_of.pop(server_id, 0)

    async def console_log(self, server_id: str, length: int | None) -> str:
        await self._seam("console_log")
        text = self._machine.console_text(server_id)
        if length is None or length < 0:
            return text
        return "".join(text.splitlines(keepends=True)[-length:]) if length else ""

    def console_path(self, server_id: str) -> str:
        return f"{self._directory}/servers/{server_id}/console.log"

    async def free_gb(self) -> int:
        return self._machine.disk_gb - self._machine.disk_gb_used

    async def total_gb(self) -> int:
        return self._machine.disk_gb

    async def _seam(self, verb: str) -> None:
        await self._world.clock.sleep(self._machine.verb_seconds)
        self._machine.check(verb)


class FakeImageFiles:
    """Images as files for a fake volume backend: fetched whole, described by their length, not converted."""

    def __init__(self, world: World, directory: str) -> None:
        self._world = world
        self._directory = directory

    async def ensure(self, image: RemoteImage) -> CachedImage:
        """The image's file, fetched when it is missing."""
        path = f"{self._directory}/{image.id}"
        await self._world.blocking(_make_directory, self._directory)
        if not await self._world.blocking(os.path.exists, path):
            await image.fetch(path)
        return CachedImage(path, "raw", await self._world.blocking(os.path.getsize, path), "")


def _gigabytes(server: ServerForHost) -> int:
    flavor = server.flavor
    return (flavor.root_gb if server.image_id else 0) + flavor.ephemeral_gb + -(-flavor.swap_mb // 1024)


def _disks(server: ServerForHost, directory: str) -> list[Disk]:
    letters = iter("abcdefgh")
    disks: list[Disk] = []
    first = f"vd{next(letters)}"  # the root disk's place, also when the root is a volume
    if server.image_id:
        disks.append(Disk(f"{directory}/disk", "qcow2", first, boot_order=1))
    if server.flavor.ephemeral_gb:
        disks.append(Disk(f"{directory}/disk.eph0", "qcow2", f"vd{next(letters)}"))
    if server.flavor.swap_mb:
        disks.append(Disk(f"{directory}/disk.swap", "raw", f"vd{next(letters)}"))
    if server.config_drive:
        disks.append(Disk(f"{directory}/disk.config", "raw", "hdd", bus="ide", device="cdrom", read_only=True))
    return disks


def _write_little(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(EMPTY_QCOW2)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _make_directory(path: str) -> None:
    os.makedirs(path, exist_ok=True)


def _drop_bytes(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, 0)
