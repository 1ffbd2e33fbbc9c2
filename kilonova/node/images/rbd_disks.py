"""Local disks whose root lies on Ceph: cloned from its image, so that nothing is copied, and seen by every host.

What a server has on the host (console log, config drive, ephemeral disks) are files as ever. Among them `disk.rbd`
stands for the root disk and names its device, so that keeping old disks beside new ones works for it as for files: a
resize keeps a snapshot of the same device, a rebuild another device.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from kilonova.base.faults import conflict
from kilonova.base.units import GIB
from kilonova.base.world import World
from kilonova.compute.contract import Disk, NetworkDisk, ServerForHost
from kilonova.image.contract import RemoteImage
from kilonova.node.ceph.pool import Parent, RbdPool
from kilonova.node.confined import convert_disk
from kilonova.node.images.cache import CachedImage, require_room
from kilonova.node.images.disks import RESCUE_FILES, FileLocalDisks, root_bytes
from kilonova.node.images.rbd_parents import RbdParents
from kilonova.node.images.set_aside import drop_all, forget, put_back

MARK: Final = "disk.rbd"
BEFORE: Final = "before"  # the snapshot that a resize keeps


class RbdLocalDisks(FileLocalDisks):
    """LocalDisks with root disks `ID_…` in a pool."""

    def __init__(self, world: World, directory: str, owner: tuple[int, int] | None, pool: RbdPool) -> None:
        super().__init__(world, directory, owner)
        self._pool = pool
        self._parents = RbdParents(world, f"{directory}/images", pool)

    async def ensure_image(self, image: RemoteImage) -> str:
        return (await self._parents.ensure(image)).path

    async def free_gb(self) -> int:
        await super().free_gb()
        return (await self._world.blocking(self._pool.cluster.room))[1] // GIB

    async def total_gb(self) -> int:
        return (await self._world.blocking(self._pool.cluster.room))[0] // GIB

    async def drop_disks(self, server_id: str) -> None:
        await self._world.blocking(self._drop, server_id)

    async def restore_disks(self, server_id: str) -> None:
        await self._world.blocking(self._restore, server_id)

    async def drop_rescue_disks(self, server_id: str) -> None:
        await self._world.blocking(self._end_rescue, server_id)

    async def forget_disks(self, server_id: str) -> None:
        await self._world.blocking(self._forget, server_id)

    # ── in threads

    def _root_disk(self, server: ServerForHost, place: Path, target: str) -> Disk:
        self._once(place / MARK, partial(self._mark_root, server))
        return self._network_disk((place / MARK).read_text(), target, server.id[:20])

    def _rescue_root(self, server: ServerForHost, path: Path) -> Disk:
        self._once(path, partial(self._mark_rescue, server))
        return self._network_disk(path.read_text(), "vda", "rescue")

    def _network_disk(self, name: str, target: str, serial: str) -> Disk:
        cluster = self._pool.cluster
        monitors = tuple(cluster.monitors())
        network = NetworkDisk(f"{self._pool.name}/{name}", monitors, cluster.user, cluster.secret_uuid())
        return Disk(f"rbd:{network.name}", "raw", target, boot_order=1, serial=serial, network=network)

    def _mark_root(self, server: ServerForHost, path: Path) -> None:
        image = self._parent(server.image_id)
        self._mark(server, path, image, root_bytes(server, image))

    def _mark_rescue(self, server: ServerForHost, path: Path) -> None:
        image = self._parent(server.rescue.image_id if server.rescue else "")
        self._mark(server, path, image, image.virtual_size_bytes)

    def _mark(self, server: ServerForHost, path: Path, image: CachedImage, size_bytes: int) -> None:
        """A device of a name of its own, then the mark: a device without one is swept with the next change."""
        name = f"{server.id}_{self._world.ids.uuid()[:8]}"
        self._pool.clone(Parent.at(image.path), name, size_bytes)
        path.write_text(name)

    def _parent(self, image_id: str) -> CachedImage:
        image = self._parents.find(image_id)
        if image is None:
            raise conflict(f"Image {image_id} is not on this host.", hint="Fetch it first.")
        return image

    def _grow_root(self, server: ServerForHost, new: Path) -> None:
        if name := _marked(new):
            self._drop_before(name)
            with self._pool.opened(name) as device:
                device.create_snap(BEFORE)
            self._pool.grow(name, server.flavor.root_gb * GIB)

    def _restore(self, server_id: str) -> None:
        kept, used = _marked(self._servers / f"{server_id}.before"), _marked(self._servers / server_id)
        if kept and kept == used:
            with self._pool.opened(kept) as device:
                if BEFORE in {one["name"] for one in device.list_snaps()}:
                    device.rollback_to_snap(BEFORE)
        put_back(self._servers, server_id)
        self._tidy(server_id)

    def _forget(self, server_id: str) -> None:
        forget(self._servers, server_id)
        self._tidy(server_id)

    def _end_rescue(self, server_id: str) -> None:
        self._drop_rescue_disks(server_id)
        self._tidy(server_id)

    def _drop(self, server_id: str) -> None:
        drop_all(self._servers, server_id)
        self._tidy(server_id)

    def _tidy(self, server_id: str) -> None:
        """Only devices that some set of the server's disks names are left, without what only a kept set needs."""
        sets = [self._servers / f"{server_id}{end}" for end in ("", ".before", ".next")]
        named = {name for one in sets for mark in (MARK, RESCUE_FILES[0]) if (name := _marked(one, mark))}
        for name in self._pool.names():
            if name.startswith(f"{server_id}_") and name not in named:
                self._pool.remove(name)
        if (used := _marked(sets[0])) and not sets[1].exists():
            self._drop_before(used)

    def _drop_before(self, name: str) -> None:
        with self._pool.opened(name) as device:
            if BEFORE in {one["name"] for one in device.list_snaps()}:
                device.remove_snap(BEFORE)

    def _start_snapshot(self, server: ServerForHost, image_id: str) -> tuple[str, str]:
        self._drop_snapshot(server.id, image_id)
        name = (self._servers / server.id / MARK).read_text()
        require_room(self._servers, self._pool.size_bytes(name) or 0, f"a snapshot of server {server.id}")
        return "", ""

    def _finish_snapshot(self, server_id: str, image_id: str, copied: bool) -> None:
        name = (self._servers / server_id / MARK).read_text()
        target = self.snapshot_path(server_id, image_id)
        raw = Path(f"{target}.copy")
        with self._pool.opened(name) as device:
            if image_id not in {one["name"] for one in device.list_snaps()}:
                device.create_snap(image_id)
        try:
            raw.touch(mode=0o600)
            self._pool.copy_out(name, image_id, str(raw))
            raw.chmod(0o644)  # for the child that converts it; nobody lists the directory that it is in
            convert_disk(str(raw), "raw", target, "qcow2", raw.stat().st_size)
        finally:
            raw.unlink(missing_ok=True)
            with self._pool.opened(name) as device:
                device.remove_snap(image_id)


def _marked(place: Path, mark: str = MARK) -> str:
    """The device that a set of disks names, "" for one without such a disk on Ceph."""
    try:
        return (place / mark).read_text()
    except FileNotFoundError:
        return ""
