"""Volumes that hold no bytes: the same port and faults as files, for simulation and API tests."""

from __future__ import annotations

from collections import defaultdict

from kilonova.base.faults import Fault, conflict, invalid, no_capacity, not_found
from kilonova.base.units import gib_up
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


class FakePool:
    """A backend's storage in memory: it survives the volume agent that uses it.

    `refuse(verb, fault)` makes the next call of that verb fail and change nothing.
    """

    def __init__(self, name: str = "fake", *, total_gib: int = 1_000_000) -> None:
        self.name = name
        self.total_gib = total_gib
        self.used_gib = 0
        self.sizes: dict[str, int] = {}  # volume id → GiB
        self.snapshots: dict[str, SnapshotSpec] = {}
        self.online_snapshots = False
        self.sources: dict[str, VolumeSpec] = {}
        self.connectors: defaultdict[str, set[str]] = defaultdict(set)  # volume id → hosts
        self.verb_seconds = 0.0
        self._refusals: defaultdict[str, list[Fault]] = defaultdict(list)

    def refuse(self, verb: str, fault: Fault, times: int = 1) -> None:
        """The next `times` calls of `verb` raise `fault`."""
        self._refusals[verb].extend([fault] * times)

    def forgive(self) -> None:
        """Nothing that was prepared strikes any more."""
        self._refusals.clear()

    def check(self, verb: str) -> None:
        """Raise the fault that was prepared for `verb`, if any."""
        if waiting := self._refusals.get(verb):
            raise waiting.pop(0)

    def size(self, volume_id: str) -> int:
        """GiB of the volume. NOT_FOUND when there is none."""
        try:
            return self.sizes[volume_id]
        except KeyError:
            raise not_found("Volume", volume_id) from None

    def snapshot(self, snapshot_id: str) -> SnapshotSpec:
        """The snapshot. NOT_FOUND when there is none."""
        try:
            return self.snapshots[snapshot_id]
        except KeyError:
            raise not_found("Snapshot", snapshot_id) from None


class FakeVolumeBackend:
    """VolumeBackend on a `FakePool`."""

    def __init__(self, world: World, pool: FakePool) -> None:
        self._world = world
        self._pool = pool

    async def ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        await self._seam("ensure_volume")
        if spec.id in self._pool.sizes:
            return
        if spec.source_volume_id:
            self._pool.size(spec.source_volume_id)
        if spec.snapshot_id:
            self._pool.snapshot(spec.snapshot_id)
        if source is not None and gib_up(source.virtual_size_bytes) > spec.size_gib:
            raise invalid(
                f"Volume {spec.id} of {spec.size_gib} GiB is smaller than its image of "
                f"{gib_up(source.virtual_size_bytes)} GiB.",
                hint="Ask for a larger volume.",
            )
        self._claim(spec.size_gib)
        self._pool.sizes[spec.id] = spec.size_gib
        self._pool.sources[spec.id] = spec
        await self._world.clock.sleep(0)

    async def ensure_gone(self, volume_id: str) -> None:
        await self._seam("ensure_gone")
        if self._pool.connectors.get(volume_id):
            raise conflict(f"Volume {volume_id} is connected to a host.", hint="Detach the volume first.")
        self._pool.used_gib -= self._pool.sizes.pop(volume_id, 0)
        self._pool.sources.pop(volume_id, None)
        await self._world.clock.sleep(0)

    async def extend(self, volume_id: str, size_gib: int) -> None:
        await self._seam("extend")
        more = size_gib - self._pool.size(volume_id)
        if more < 0:
            raise invalid(f"Volume {volume_id} cannot shrink to {size_gib} GiB.")
        self._claim(more)
        self._pool.sizes[volume_id] = size_gib

    async def ensure_snapshot(self, spec: SnapshotSpec) -> None:
        await self._seam("ensure_snapshot")
        if spec.id in self._pool.snapshots:
            return
        self._pool.size(spec.volume_id)
        if self._pool.connectors.get(spec.volume_id) and not (spec.still or self._pool.online_snapshots):
            raise conflict(f"Volume {spec.volume_id} is connected to a host.", hint="Detach the volume first.")
        self._claim(spec.size_gib)
        self._pool.snapshots[spec.id] = spec
        await self._world.clock.sleep(0)

    async def ensure_snapshot_gone(self, snapshot_id: str) -> None:
        await self._seam("ensure_snapshot_gone")
        if gone := self._pool.snapshots.pop(snapshot_id, None):
            self._pool.used_gib -= gone.size_gib
        await self._world.clock.sleep(0)

    async def snapshots(self) -> list[str]:
        await self._seam("snapshots")
        return sorted(self._pool.snapshots)

    async def connect(self, volume_id: str, connector: Connector) -> Connection:
        await self._seam("connect")
        self._pool.size(volume_id)
        self._pool.connectors[volume_id].add(connector.host)
        return Connection("file", {"path": f"/nonexistent/kilonova-fake/volumes/{volume_id}", "format": "raw"})

    async def disconnect(self, volume_id: str, connector: Connector) -> None:
        await self._seam("disconnect")
        self._pool.connectors[volume_id].discard(connector.host)
        if not self._pool.connectors[volume_id]:
            del self._pool.connectors[volume_id]

    async def connections(self) -> list[Connected]:
        await self._seam("connections")
        held = self._pool.connectors
        return [Connected(volume_id, host) for volume_id in sorted(held) for host in sorted(held[volume_id])]

    async def volumes(self) -> list[str]:
        await self._seam("volumes")
        return sorted(self._pool.sizes)

    async def capabilities(self) -> Capabilities:
        await self._seam("capabilities")
        return Capabilities(
            backend=self._pool.name,
            total_gib=self._pool.total_gib,
            free_gib=self._pool.total_gib - self._pool.used_gib,
            online_snapshots=self._pool.online_snapshots,
        )

    def _claim(self, gib: int) -> None:
        if self._pool.used_gib + gib > self._pool.total_gib:
            raise no_capacity(f"Backend {self._pool.name} has too little room for {gib} GiB.")
        self._pool.used_gib += gib

    async def _seam(self, verb: str) -> None:
        """Where time passes, an agent may die, and a prepared fault strikes: before anything changed."""
        await self._world.clock.sleep(self._pool.verb_seconds)
        self._pool.check(verb)
