"""RADOS block devices of one pool: made, cloned, grown, and removed in any order. Everything blocks.

What others are cloned from cannot be removed: it goes to the pool's trash, and from there when its last clone is gone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.base.units import MIB
from kilonova.node.ceph.cluster import CephCluster
from kilonova.node.ceph.library import ceph_faults, library

GROWS_BY_BYTES: Final = 256 * MIB
FILL_SECONDS: Final = 900
BUSY_SECONDS: Final = 40  # Ceph forgets a client that died after 30 s
KEYS_AT_ONCE: Final = 1000
PIECE_BYTES: Final = 4 * MIB  # of an object, Ceph's own unit


class Parent(msgspec.Struct, frozen=True):
    """What a device is cloned from: a protected snapshot."""

    pool: str
    image: str
    snapshot: str

    @property
    def path(self) -> str:
        """As Ceph's own tools write it."""
        return f"rbd:{self.pool}/{self.image}@{self.snapshot}"

    @staticmethod
    def at(path: str) -> Parent:
        """The one that `path` named."""
        pool, _, rest = path.removeprefix("rbd:").partition("/")
        image, _, snapshot = rest.partition("@")
        return Parent(pool, image, snapshot)


class RbdPool:
    """The devices of a pool."""

    def __init__(self, cluster: CephCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    @property
    def _pool(self) -> Any:
        return self.cluster.pool(self.name)

    def device(self, name: str, snapshot: str | None = None, *, read_only: bool = False) -> Any:
        """The device, open (to read, with a snapshot); whoever asked closes it. NOT_FOUND when it is not there."""
        _, rbd = library()
        pool = self._pool
        with ceph_faults(f"Device {self.name}/{name}"):
            return rbd.Image(pool, name, snapshot=snapshot, read_only=read_only or snapshot is not None)

    @contextlib.contextmanager
    def opened(self, name: str, snapshot: str | None = None, *, read_only: bool = False) -> Iterator[Any]:
        """The device while it is worked on."""
        device = self.device(name, snapshot, read_only=read_only)
        with ceph_faults(f"Device {self.name}/{name}"):
            try:
                yield device
            finally:
                device.close()

    def names(self) -> list[str]:
        """All of them."""
        _, rbd = library()
        pool = self._pool
        with ceph_faults(f"Pool {self.name}"):
            return sorted(rbd.RBD().list(pool))

    def size_bytes(self, name: str, snapshot: str | None = None) -> int | None:
        """How large it is; None when it is not there."""
        try:
            with self.opened(name, snapshot, read_only=True) as device:
                return int(device.size())
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return None
            raise

    def create(self, name: str, size_bytes: int) -> None:
        """An empty device; there already is fine."""
        _, rbd = library()
        pool = self._pool
        with ceph_faults(f"Device {self.name}/{name}"), contextlib.suppress(rbd.ImageExists):
            rbd.RBD().create(pool, name, size_bytes, old_format=False, features=rbd.RBD_FEATURE_LAYERING)

    def clone(self, parent: Parent, name: str, size_bytes: int) -> None:
        """A device of that size, at least its parent's, that holds what the parent holds and shares its bytes; there
        already is fine. It has its name only once it is complete."""
        _, rbd = library()
        if self.size_bytes(name) is not None:
            return
        part = f"{name}.part"
        self.remove(part)
        pool, above = self._pool, self.cluster.pool(parent.pool)
        with ceph_faults(parent.path):
            rbd.RBD().clone(above, parent.image, parent.snapshot, pool, part, features=rbd.RBD_FEATURE_LAYERING)
        self.grow(part, size_bytes)
        self.rename(part, name)

    def rename(self, name: str, to: str) -> None:
        """The device has another name."""
        _, rbd = library()
        pool = self._pool
        with ceph_faults(f"Device {self.name}/{name}"):
            rbd.RBD().rename(pool, name, to)

    def grow(self, name: str, size_bytes: int) -> None:
        """At least so large; it never shrinks."""
        with self.opened(name) as device:
            if device.size() < size_bytes:
                device.resize(size_bytes)

    def snapshot(self, name: str, snapshot: str) -> Parent:
        """The device as it is now, protected, for clones; there already is fine."""
        with self.opened(name) as device:
            known = {one["name"] for one in device.list_snaps()}
            if snapshot not in known:
                device.create_snap(snapshot)
            if not device.is_protected_snap(snapshot):
                device.protect_snap(snapshot)
        return Parent(self.name, name, snapshot)

    def remove(self, name: str, patience_seconds: int = BUSY_SECONDS) -> None:
        """Gone, with its snapshots; already gone is fine. What others are cloned from waits in the trash for them.
        CONFLICT while a guest has it open; one that was killed holds it a while longer, which is waited for."""
        for left in range(patience_seconds, -1, -1):
            try:
                if self.size_bytes(name) is not None:
                    self._remove(name)
                break
            except Fault as fault:
                if fault.kind is not Kind.CONFLICT or not left:
                    raise
            threading.Event().wait(1.0)
        self.sweep()

    def _remove(self, name: str) -> None:
        _, rbd = library()
        pool = self._pool
        try:
            with self.opened(name) as device:
                _drop_snapshots(device)
            with ceph_faults(f"Device {self.name}/{name}"):
                rbd.RBD().remove(pool, name)
        except Fault as fault:
            if fault.kind is not Kind.CONFLICT or not self._has_clones(name):
                raise
            with ceph_faults(f"Device {self.name}/{name}"):
                rbd.RBD().trash_move(pool, name, 0)

    def _has_clones(self, name: str) -> bool:
        with self.opened(name, read_only=True) as device:
            for one in list(device.list_snaps()):
                device.set_snap(one["name"])
                if list(device.list_children2()):
                    return True
        return False

    def sweep(self) -> None:
        """Nothing waits in the trash whose last clone is gone; what goes may have been the last of another."""
        _, rbd = library()
        pool = self._pool
        went = True
        while went:
            with ceph_faults(f"Pool {self.name}"):
                waiting = [one["id"] for one in rbd.RBD().trash_list(pool)]
            went = any(self._leaves_trash(pool, id_) for id_ in waiting)

    def _leaves_trash(self, pool: Any, id_: str) -> bool:
        """Whether it is gone now; not as long as something is cloned from it."""
        _, rbd = library()
        try:
            with ceph_faults(f"Device {self.name}/{id_}"):
                with rbd.Image(pool, image_id=id_) as device:
                    _drop_snapshots(device)
                rbd.RBD().trash_remove(pool, id_, force=True)
        except Fault as fault:
            if fault.kind not in (Kind.CONFLICT, Kind.NOT_FOUND):
                raise
            return False
        return True

    # ── keys of an object, for what all hosts must agree on

    def put_key(self, object_: str, key: str) -> None:
        """The object has the key."""
        rados, _ = library()
        pool = self._pool
        with ceph_faults(f"Pool {self.name}"), rados.WriteOpCtx() as change:
            pool.set_omap(change, (key,), (b"",))
            pool.operate_write_op(change, object_)

    def drop_key(self, object_: str, key: str) -> None:
        """The object has the key no more; never had it is fine."""
        rados, _ = library()
        pool = self._pool
        with ceph_faults(f"Pool {self.name}"), contextlib.suppress(rados.ObjectNotFound), rados.WriteOpCtx() as change:
            pool.remove_omap_keys(change, (key,))
            pool.operate_write_op(change, object_)

    def keys(self, object_: str) -> list[str]:
        """All its keys, in order; none when there is no such object."""
        rados, _ = library()
        pool = self._pool
        found: list[str] = []
        with ceph_faults(f"Pool {self.name}"), contextlib.suppress(rados.ObjectNotFound):
            while True:
                with rados.ReadOpCtx() as question:
                    asked, _ = pool.get_omap_keys(question, found[-1] if found else "", KEYS_AT_ONCE)
                    pool.operate_read_op(question, object_)
                    page = [key for key, _ in asked]
                found += page
                if len(page) < KEYS_AT_ONCE:
                    break
        return found

    # ── bytes

    def fill(self, name: str, path: str) -> None:
        """A device with the bytes of a raw file, without its holes; it has its name only once it is complete. Another
        host that writes it at this moment is waited for."""
        part = f"{name}.part"
        if self.size_bytes(name) is None:
            self.remove(part, FILL_SECONDS)
        if self.size_bytes(name) is not None:
            return
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            self.create(part, size)
            with self.opened(part) as device:
                at = 0
                while piece := file.read(PIECE_BYTES):
                    if piece.count(0) != len(piece):
                        device.write(piece, at)
                    at += len(piece)
                device.flush()
        self.rename(part, name)

    def copy_out(self, name: str, snapshot: str, path: str) -> None:
        """The snapshot's bytes in a raw file that exists; what is empty there stays a hole."""
        with self.opened(name, snapshot) as device, open(path, "r+b") as file:
            size = device.size()
            file.truncate(size)
            extents: list[tuple[int, int, bool]] = []  # read afterwards: who is told of one holds the device's thread
            device.diff_iterate(0, size, None, lambda *extent: extents.append(extent))
            for offset, length, there in extents:
                end = offset + length
                while there and offset < end:
                    piece = device.read(offset, min(end - offset, PIECE_BYTES))
                    file.seek(offset)
                    file.write(piece)
                    offset += len(piece)


def _drop_snapshots(device: Any) -> None:
    """None is left; the first that something is cloned from stops it."""
    for one in list(device.list_snaps()):
        if device.is_protected_snap(one["name"]):
            device.unprotect_snap(one["name"])
        device.remove_snap(one["name"])
