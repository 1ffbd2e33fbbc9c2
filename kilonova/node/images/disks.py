"""The local disks of guests, in files: root overlay on the cached image, ephemeral, swap, config drive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from kilonova.base.faults import conflict, invalid
from kilonova.base.units import GIB, MIB, gib_up
from kilonova.base.world import World
from kilonova.compute.contract import Disk, ServerForHost
from kilonova.compute.metadata_tree import config_drive_files
from kilonova.image.contract import RemoteImage
from kilonova.node.confined import Limits, backing_file, flatten_disk, grow_overlay, make_overlay, run_confined
from kilonova.node.images.cache import CachedImage, ImageCache, require_room
from kilonova.node.images.config_drive import config_drive_image
from kilonova.node.images.set_aside import copy_files, drop_all, forget, put_back, set_aside

CONSOLE_LOG_MAX_BYTES: Final = 4 * MIB
_FORMATTED: Final = ("ext2", "ext3", "ext4")
RESCUE_FILES: Final = ("disk.rescue", "disk.config.rescue")


class FileLocalDisks:
    """LocalDisks under one directory: `images/` and `servers/ID/`.

    Everything above and including it needs search permission for all, as QEMU is a user of its own. Each file is
    made under another name and then renamed, so a file that is there is complete. `owner` is QEMU's (uid, gid).
    """

    def __init__(self, world: World, directory: str, owner: tuple[int, int] | None = None) -> None:
        self._world = world
        self._owner = owner
        self._root = Path(directory)
        self._servers = self._root / "servers"
        self._cache = ImageCache(world, str(self._root / "images"), self._bases)

    async def ensure_image(self, image: RemoteImage) -> str:
        return (await self._cache.ensure(image)).path

    async def ensure_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        return await self._world.blocking(self._ensure_disks, server, admin_password)

    async def rescue_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        return await self._world.blocking(self._rescue_disks, server, admin_password)

    async def drop_rescue_disks(self, server_id: str) -> None:
        await self._world.blocking(self._drop_rescue_disks, server_id)

    async def start_snapshot(self, server: ServerForHost, image_id: str) -> tuple[str, str]:
        return await self._world.blocking(self._start_snapshot, server, image_id)

    async def finish_snapshot(self, server_id: str, image_id: str, *, copied: bool) -> None:
        await self._world.blocking(self._finish_snapshot, server_id, image_id, copied)

    def snapshot_path(self, server_id: str, image_id: str) -> str:
        return str(self._servers / server_id / f"snapshot-{image_id}")

    async def drop_snapshot(self, server_id: str, image_id: str) -> None:
        await self._world.blocking(self._drop_snapshot, server_id, image_id)

    async def drop_disks(self, server_id: str) -> None:
        await self._world.blocking(drop_all, self._servers, server_id)

    async def resize_disks(self, server: ServerForHost) -> None:
        await self._world.blocking(self._resize_disks, server)

    async def replace_disks(self, server: ServerForHost, keep_ephemeral: bool) -> None:
        await self._world.blocking(self._replace_disks, server, keep_ephemeral)

    async def restore_disks(self, server_id: str) -> None:
        await self._world.blocking(put_back, self._servers, server_id)

    async def forget_disks(self, server_id: str) -> None:
        await self._world.blocking(forget, self._servers, server_id)

    async def console_log(self, server_id: str, length: int | None) -> str:
        return await self._world.blocking(_tail, self.console_path(server_id), length)

    def console_path(self, server_id: str) -> str:
        return str(self._servers / server_id / "console.log")

    async def free_gb(self) -> int:
        """Free GiB. Asked for every few seconds, so this is also when console logs are kept in bounds."""
        return await self._world.blocking(self._free_gb)

    async def total_gb(self) -> int:
        return await self._world.blocking(lambda: self._usage().total // GIB)

    # ── in threads

    def _bases(self) -> set[str]:
        """The cached images that disks of servers here lean on, those in use and those that are kept."""
        return {base for path in self._servers.glob("*/*") if (base := backing_file(path))}

    def _usage(self) -> Any:
        self._root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self._root)

    def _free_gb(self) -> int:
        for log in self._servers.glob("*/console.log"):
            _keep_in_bounds(log)
        return int(self._usage().free // GIB)

    def _ensure_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        place = self._servers / server.id
        for directory in (self._root, self._servers, place):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        disks = []
        first = f"vd{next(letters)}"  # the root disk's, whether it is local or a volume
        if server.image_id:
            disks.append(self._root_disk(server, place, first))
        for number, (size_gb, format_) in enumerate(_ephemerals(server)):
            path = place / f"disk.eph{number}"
            self._once(path, partial(self._make_blank, size_gb * GIB, format_))
            disks.append(Disk(str(path), "raw", f"vd{next(letters)}", serial=f"ephemeral{number}"))
        if server.flavor.swap_mb:
            path = place / "disk.swap"
            self._once(path, partial(self._make_blank, server.flavor.swap_mb * MIB, "swap"))
            disks.append(Disk(str(path), "raw", f"vd{next(letters)}", serial="swap"))
        if server.config_drive:
            path = place / "disk.config"
            self._once(path, partial(self._make_config_drive, server, admin_password))
            disks.append(Disk(str(path), "raw", "hdd", bus="ide", device="cdrom", read_only=True))
        self._once(place / "console.log", lambda path: path.touch())
        return disks

    def _rescue_disks(self, server: ServerForHost, admin_password: str) -> list[Disk]:
        root, config = (self._servers / server.id / name for name in RESCUE_FILES)
        disks = [self._rescue_root(server, root)]
        if server.config_drive:
            self._once(config, partial(self._make_config_drive, server, admin_password))
            disks.append(Disk(str(config), "raw", "hdd", bus="ide", device="cdrom", read_only=True))
        return disks

    def _rescue_root(self, server: ServerForHost, path: Path) -> Disk:
        """The disk that a rescued server boots from, made when it is missing."""
        self._once(path, partial(self._make_rescue, server))
        return Disk(str(path), "qcow2", "vda", boot_order=1, serial="rescue")

    def _make_rescue(self, server: ServerForHost, path: Path) -> None:
        image_id = server.rescue.image_id if server.rescue else ""
        image = self._cache.find(image_id)
        if image is None:
            raise conflict(f"Image {image_id} is not on this host.", hint="Fetch it first.")
        require_room(self._servers, 0, f"the rescue of server {server.id}")
        make_overlay(image.path, image.format, str(path), image.virtual_size_bytes)

    def _drop_rescue_disks(self, server_id: str) -> None:
        for name in RESCUE_FILES:
            (self._servers / server_id / name).unlink(missing_ok=True)

    def _root_disk(self, server: ServerForHost, place: Path, target: str) -> Disk:
        """The root disk, made when it is missing."""
        self._once(place / "disk", partial(self._make_root, server))
        return Disk(str(place / "disk"), "qcow2", target, boot_order=1, serial=server.id[:20])

    def _once(self, path: Path, make: Callable[[Path], None]) -> None:
        if path.exists():
            return
        part = path.with_name(path.name + ".part")
        try:
            make(part)
            part.chmod(0o600)
            if self._owner is not None and os.geteuid() == 0:
                os.chown(part, *self._owner)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_root(self, server: ServerForHost, path: Path) -> None:
        image = self._cache.find(server.image_id)
        if image is None:
            raise conflict(f"Image {server.image_id} is not on this host.", hint="Fetch it first.")
        size = root_bytes(server, image)
        require_room(self._servers, 0, f"server {server.id}")
        make_overlay(image.path, image.format, str(path), size)

    def _make_blank(self, size_bytes: int, format_: str, path: Path) -> None:
        if not format_:
            with open(path, "wb") as file:
                file.truncate(size_bytes)
            return
        command = ["mkswap", str(path)] if format_ == "swap" else [f"mkfs.{format_}", "-q", "-F", str(path)]
        run_confined(command, Limits(file_bytes=size_bytes), outputs=[str(path)], output_bytes=size_bytes)

    def _make_config_drive(self, server: ServerForHost, admin_password: str, path: Path) -> None:
        files = config_drive_files(
            server, admin_password=admin_password, random_seed=self._world.ids.secret(512).encode()
        )
        path.touch(mode=0o600)  # before the password is in it
        path.write_bytes(config_drive_image(files))

    def _resize_disks(self, server: ServerForHost) -> None:
        set_aside(self._servers, server.id, partial(self._copy_larger, server))

    def _copy_larger(self, server: ServerForHost, new: Path, old: Path) -> None:
        """Copies, grown to what the flavor says; a swap disk of another size is made anew when the guest starts."""
        swap_bytes = server.flavor.swap_mb * MIB

        def is_other_swap(path: Path) -> bool:
            return path.name == "disk.swap" and path.stat().st_size != swap_bytes

        copy_files(new, old, is_other_swap)
        self._grow_root(server, new)
        for number, (size_gb, _) in enumerate(_ephemerals(server)):
            path = new / f"disk.eph{number}"
            if path.exists() and path.stat().st_size < size_gb * GIB:
                os.truncate(path, size_gb * GIB)

    def _grow_root(self, server: ServerForHost, new: Path) -> None:
        if (root := new / "disk").exists():
            grow_overlay(str(root), server.flavor.root_gb * GIB)

    def _replace_disks(self, server: ServerForHost, keep_ephemeral: bool) -> None:
        def prepare(new: Path, old: Path) -> None:
            for kept in old.glob("disk.eph*") if keep_ephemeral else ():
                os.link(kept, new / kept.name)  # one file in both places: whichever set is used in the end has it

        set_aside(self._servers, server.id, prepare)

    def _start_snapshot(self, server: ServerForHost, image_id: str) -> tuple[str, str]:
        self._drop_snapshot(server.id, image_id)
        disk = self._servers / server.id / "disk"
        require_room(self._servers, disk.stat().st_blocks * 512, f"a snapshot of server {server.id}")
        overlay = Path(self.snapshot_path(server.id, image_id) + ".copy")
        self._once(overlay, partial(self._make_root, server))
        return str(disk), str(overlay)

    def _finish_snapshot(self, server_id: str, image_id: str, copied: bool) -> None:
        target = self.snapshot_path(server_id, image_id)
        overlay = Path(target + ".copy")
        source = overlay if copied else self._servers / server_id / "disk"
        owner = self._owner or (os.geteuid(), os.getegid())
        flatten_disk(str(source), target, source.stat().st_size + 100 * GIB, owner)
        overlay.unlink(missing_ok=True)

    def _drop_snapshot(self, server_id: str, image_id: str) -> None:
        target = Path(self.snapshot_path(server_id, image_id))
        for path in (target, target.with_name(target.name + ".copy")):
            path.unlink(missing_ok=True)


def root_bytes(server: ServerForHost, image: CachedImage) -> int:
    """How large the server's root disk is. INVALID when its image does not fit the flavor."""
    size = server.flavor.root_gb * GIB or image.virtual_size_bytes
    if image.virtual_size_bytes > size:
        raise invalid(
            f"Flavor's disk is too small for requested image. Flavor disk is {size} bytes, "
            f"image is {image.virtual_size_bytes} bytes.",
            hint=f"Choose a flavor with a root disk of at least {gib_up(image.virtual_size_bytes)} GiB.",
            code="FlavorDiskSmallerThanImage",
        )
    return size


def _ephemerals(server: ServerForHost) -> list[tuple[int, str]]:
    """(GiB, file system or "") of each: as the block device mapping says, else one of the flavor's size."""
    asked = [
        (device.volume_size_gib or server.flavor.ephemeral_gb, device.guest_format)
        for device in server.block_devices
        if device.source_type == "blank" and device.destination_type == "local" and device.guest_format != "swap"
    ]
    if not asked and server.flavor.ephemeral_gb:
        asked = [(server.flavor.ephemeral_gb, "")]
    for _, format_ in asked:
        if format_ and format_ not in _FORMATTED:
            raise invalid(f"Ephemeral disks cannot be formatted as {format_}.", hint=f"Use one of {_FORMATTED}.")
    return asked


def _tail(path: str, length: int | None) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CONSOLE_LOG_MAX_BYTES))
            text = file.read(CONSOLE_LOG_MAX_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    if length is None or length < 0:
        return text
    return "".join(text.splitlines(keepends=True)[-length:]) if length else ""


def _keep_in_bounds(log: Path) -> None:
    """A guest that writes without end must not fill the host. QEMU appends, so what it writes next stays whole."""
    try:
        if log.stat().st_size > 2 * CONSOLE_LOG_MAX_BYTES:
            kept = _tail(str(log), None).encode()[-CONSOLE_LOG_MAX_BYTES // 2 :]
            with open(log, "r+b") as file:
                file.truncate(0)
                file.write(kept)
    except FileNotFoundError:
        pass
