"""Volumes as RADOS block devices: made from images, snapshots and other volumes as clones, which copy nothing.

A snapshot is a device of its own, a clone of its volume at one moment: volumes and snapshots may go in any order.
"""

from __future__ import annotations

from typing import Final

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.base.units import GIB, gib_up
from kilonova.base.world import World
from kilonova.block_storage.contract import (
    Capabilities,
    Connected,
    Connection,
    Connector,
    ImageSource,
    SnapshotSpec,
    VolumeSpec,
)
from kilonova.node.ceph.pool import Parent, RbdPool

BASE: Final = "base"  # the snapshot of a snapshot, that volumes are cloned from
CONNECTIONS: Final = "kilonova.connections"  # the object whose keys are `VOLUME HOST`: one question tells all


class RbdVolumeBackend:
    """VolumeBackend on devices `volume-ID` and `snapshot-ID` of a pool."""

    def __init__(self, world: World, pool: RbdPool, *, name: str = "ceph") -> None:
        self._world = world
        self._pool = pool
        self._name = name

    async def ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        await self._world.blocking(self._ensure_volume, spec, source)

    async def ensure_gone(self, volume_id: str) -> None:
        await self._world.blocking(self._ensure_gone, volume_id)

    async def extend(self, volume_id: str, size_gib: int) -> None:
        await self._world.blocking(self._extend, volume_id, size_gib)

    async def ensure_snapshot(self, spec: SnapshotSpec) -> None:
        await self._world.blocking(self._ensure_snapshot, spec)

    async def ensure_snapshot_gone(self, snapshot_id: str) -> None:
        await self._world.blocking(self._pool.remove, f"snapshot-{snapshot_id}")

    async def snapshots(self) -> list[str]:
        return await self._world.blocking(self._named, "snapshot-")

    async def connect(self, volume_id: str, connector: Connector) -> Connection:
        return await self._world.blocking(self._connect, volume_id, connector)

    async def disconnect(self, volume_id: str, connector: Connector) -> None:
        await self._world.blocking(self._disconnect, volume_id, connector)

    async def connections(self) -> list[Connected]:
        found = await self._world.blocking(self._pool.keys, CONNECTIONS)
        return [Connected(*key.split(" ", 1)) for key in found]

    async def volumes(self) -> list[str]:
        return await self._world.blocking(self._named, "volume-")

    async def capabilities(self) -> Capabilities:
        return await self._world.blocking(self._capabilities)

    # ── in threads

    def _ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        name, size = f"volume-{spec.id}", spec.size_gib * GIB
        if self._pool.size_bytes(name) is not None:
            return
        if spec.snapshot_id:
            self._clone(Parent(self._pool.name, self._known("snapshot", spec.snapshot_id), BASE), name, spec)
        elif spec.source_volume_id:
            moment = f"for-{spec.id}"
            self._clone(self._pool.snapshot(self._known("volume", spec.source_volume_id), moment), name, spec)
        elif source is not None:
            self._check_fits(spec, source.virtual_size_bytes)
            if not source.path.startswith("rbd:"):
                raise invalid("The image is not in the storage cluster.", inside=source.path)
            self._clone(Parent.at(source.path), name, spec)
        else:
            self._pool.create(name, size)

    def _clone(self, parent: Parent, name: str, spec: VolumeSpec) -> None:
        holds = RbdPool(self._pool.cluster, parent.pool).size_bytes(parent.image, parent.snapshot)
        self._check_fits(spec, holds or 0)
        self._pool.clone(parent, name, spec.size_gib * GIB)

    def _check_fits(self, spec: VolumeSpec, bytes_: int) -> None:
        if bytes_ > spec.size_gib * GIB:
            raise invalid(
                f"Volume {spec.id} of {spec.size_gib} GiB is smaller than its source of {gib_up(bytes_)} GiB.",
                hint="Ask for a larger volume.",
            )

    def _known(self, noun: str, noun_id: str) -> str:
        """The name of its device. NOT_FOUND when there is none."""
        name = f"{noun}-{noun_id}"
        if self._pool.size_bytes(name) is None:
            raise not_found(noun.capitalize(), noun_id, inside=f"no device {name}")
        return name

    def _ensure_gone(self, volume_id: str) -> None:
        if hosts := [key for key in self._pool.keys(CONNECTIONS) if key.startswith(f"{volume_id} ")]:
            raise conflict(
                f"Volume {volume_id} is connected to a host.",
                hint="Detach the volume first.",
                inside=f"connected to {hosts}",
            )
        self._pool.remove(f"volume-{volume_id}")

    def _extend(self, volume_id: str, size_gib: int) -> None:
        name = self._known("volume", volume_id)
        if size_gib * GIB < (self._pool.size_bytes(name) or 0):
            raise invalid(f"Volume {volume_id} cannot shrink to {size_gib} GiB.")
        self._pool.grow(name, size_gib * GIB)

    def _ensure_snapshot(self, spec: SnapshotSpec) -> None:
        name = f"snapshot-{spec.id}"
        if self._pool.size_bytes(name) is None:
            parent = self._pool.snapshot(self._known("volume", spec.volume_id), name)
            self._pool.clone(parent, name, spec.size_gib * GIB)
        self._pool.snapshot(name, BASE)

    def _connect(self, volume_id: str, connector: Connector) -> Connection:
        name, cluster = self._known("volume", volume_id), self._pool.cluster
        self._pool.put_key(CONNECTIONS, f"{volume_id} {connector.host}")
        monitors = cluster.monitors()
        return Connection(
            "rbd",
            {
                "name": f"{self._pool.name}/{name}",
                "hosts": [host for host, _ in monitors],
                "ports": [str(port) for _, port in monitors],
                "cluster_name": "ceph",
                "auth_enabled": True,
                "auth_username": cluster.user,
                "secret_type": "ceph",
                "secret_uuid": cluster.secret_uuid(),
                "volume_id": volume_id,
                "discard": True,
                "format": "raw",
            },
        )

    def _disconnect(self, volume_id: str, connector: Connector) -> None:
        self._pool.drop_key(CONNECTIONS, f"{volume_id} {connector.host}")

    def _named(self, begins: str) -> list[str]:
        names = self._pool.names()
        return [name.removeprefix(begins) for name in names if name.startswith(begins) and not name.endswith(".part")]

    def _capabilities(self) -> Capabilities:
        total, free = self._pool.cluster.room()
        return Capabilities(
            backend=self._name,
            total_gib=round(total / GIB, 2),
            free_gib=round(free / GIB, 2),
            storage_protocol="ceph",
            online_snapshots=True,
        )
