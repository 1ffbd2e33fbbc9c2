"""Volumes as sparse raw files on a path that every host sees: a directory, NFS, CephFS."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from kilonova.base.faults import conflict, invalid, no_capacity, not_found
from kilonova.base.units import GIB, MIB, gib_up
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
from kilonova.node.confined import convert_disk

RESERVE_BYTES: Final = 512 * MIB
_FICLONE: Final = 0x40049409  # ioctl: share all of another file's blocks (XFS, btrfs)
_NAME: Final = re.compile(r"(volume|snapshot)-([0-9a-f-]{36})\Z")


class FileVolumeBackend:
    """VolumeBackend on raw files `volume-ID` under `directory`.

    A volume is made under another name and then renamed, so a file that is there is complete. Who is connected
    stands in `volume-ID.connections` beside it. `owner` is QEMU's (uid, gid).
    """

    def __init__(
        self, world: World, directory: str, *, name: str = "files", owner: tuple[int, int] | None = None
    ) -> None:
        self._world = world
        self._directory = Path(directory)
        self._name = name
        self._owner = owner
        self._shares_blocks: bool | None = None

    async def ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        await self._world.blocking(self._ensure_volume, spec, source)

    async def ensure_gone(self, volume_id: str) -> None:
        await self._world.blocking(self._ensure_gone, volume_id)

    async def extend(self, volume_id: str, size_gib: int) -> None:
        await self._world.blocking(self._extend, volume_id, size_gib)

    async def ensure_snapshot(self, spec: SnapshotSpec) -> None:
        await self._world.blocking(self._ensure_snapshot, spec)

    async def ensure_snapshot_gone(self, snapshot_id: str) -> None:
        await self._world.blocking(self._ensure_snapshot_gone, snapshot_id)

    async def snapshots(self) -> list[str]:
        return await self._world.blocking(self._named, "snapshot")

    async def connect(self, volume_id: str, connector: Connector) -> Connection:
        return await self._world.blocking(self._connect, volume_id, connector)

    async def disconnect(self, volume_id: str, connector: Connector) -> None:
        await self._world.blocking(self._disconnect, volume_id, connector)

    async def connections(self) -> list[Connected]:
        return await self._world.blocking(self._connected)

    async def volumes(self) -> list[str]:
        return await self._world.blocking(self._named, "volume")

    async def capabilities(self) -> Capabilities:
        return await self._world.blocking(self._capabilities)

    # ── in threads

    def _path(self, volume_id: str) -> Path:
        return self._directory / f"volume-{volume_id}"

    def _existing(self, volume_id: str) -> Path:
        path = self._path(volume_id)
        if not path.exists():
            raise not_found("Volume", volume_id, inside=f"no file {path}")
        return path

    def _ensure_volume(self, spec: VolumeSpec, source: ImageSource | None) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        with self._locked(spec.id):
            path = self._path(spec.id)
            if path.exists():
                return
            part = path.with_name(path.name + ".part")
            try:
                self._fill(spec, source, part)
                os.truncate(part, spec.size_gib * GIB)
                part.chmod(0o600)
                if self._owner is not None and os.geteuid() == 0:
                    os.chown(part, *self._owner)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    def _fill(self, spec: VolumeSpec, source: ImageSource | None, part: Path) -> None:
        size = spec.size_gib * GIB
        if spec.snapshot_id or spec.source_volume_id:
            other = self._existing(spec.source_volume_id) if spec.source_volume_id else self._kept(spec.snapshot_id)
            self._check_fits(spec, other.stat().st_size)
            _copy(other, part, lambda: self._require_room(other.stat().st_blocks * 512, spec.id))
        elif source is not None:
            self._check_fits(spec, source.virtual_size_bytes)
            self._require_room(min(size, source.virtual_size_bytes), spec.id)
            convert_disk(source.path, source.format, str(part), "raw", source.virtual_size_bytes)
        else:
            self._require_room(0, spec.id)
            part.touch(mode=0o600)

    def _check_fits(self, spec: VolumeSpec, bytes_: int) -> None:
        if bytes_ > spec.size_gib * GIB:
            raise invalid(
                f"Volume {spec.id} of {spec.size_gib} GiB is smaller than its source of {gib_up(bytes_)} GiB.",
                hint="Ask for a larger volume.",
            )

    def _require_room(self, bytes_: int, noun_id: str) -> None:
        free = shutil.disk_usage(self._directory).free - RESERVE_BYTES
        if bytes_ > free:
            raise no_capacity(
                f"Backend {self._name} has too little room for {noun_id}: "
                f"{bytes_ / GIB:.1f} GiB needed, {max(free, 0) / GIB:.1f} GiB free.",
                hint="Delete volumes that are not needed, or add storage.",
            )

    def _ensure_gone(self, volume_id: str) -> None:
        with self._locked(volume_id):
            if hosts := self._connections(volume_id):
                raise conflict(
                    f"Volume {volume_id} is connected to a host.",
                    hint="Detach the volume first.",
                    inside=f"connected to {hosts}",
                )
            self._path(volume_id).unlink(missing_ok=True)
            self._connections_path(volume_id).unlink(missing_ok=True)
        self._lock_path(volume_id).unlink(missing_ok=True)

    def _extend(self, volume_id: str, size_gib: int) -> None:
        path = self._existing(volume_id)
        with self._locked(volume_id):
            if size_gib * GIB < path.stat().st_size:
                raise invalid(f"Volume {volume_id} cannot shrink to {size_gib} GiB.")
            os.truncate(path, size_gib * GIB)

    # ── snapshots: files of their own, so that a volume and its snapshots may go in any order

    def _snapshot_path(self, snapshot_id: str) -> Path:
        return self._directory / f"snapshot-{snapshot_id}"

    def _kept(self, snapshot_id: str) -> Path:
        path = self._snapshot_path(snapshot_id)
        if not path.exists():
            raise not_found("Snapshot", snapshot_id, inside=f"no file {path}")
        return path

    def _ensure_snapshot(self, spec: SnapshotSpec) -> None:
        self._existing(spec.volume_id)
        with self._locked(spec.id, "snapshot"), self._locked(spec.volume_id):  # nobody connects meanwhile
            path = self._snapshot_path(spec.id)
            if path.exists():
                return
            volume = self._existing(spec.volume_id)
            part = path.with_name(path.name + ".part")
            try:
                _copy(volume, part, lambda: self._require_copy(spec, volume.stat().st_blocks * 512))
                os.truncate(part, spec.size_gib * GIB)
                part.chmod(0o600)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    def _require_copy(self, spec: SnapshotSpec, bytes_: int) -> None:
        """A copy takes time, in which nobody may write: and room."""
        if (hosts := self._connections(spec.volume_id)) and not spec.still:
            raise conflict(
                f"Volume {spec.volume_id} is connected to a host, and the file system of backend {self._name} shares "
                "no blocks.",
                hint="Detach the volume first.",
                inside=f"connected to {hosts}",
            )
        self._require_room(bytes_, spec.id)

    def _ensure_snapshot_gone(self, snapshot_id: str) -> None:
        with self._locked(snapshot_id, "snapshot"):
            self._snapshot_path(snapshot_id).unlink(missing_ok=True)
        self._lock_path(snapshot_id, "snapshot").unlink(missing_ok=True)

    def _connect(self, volume_id: str, connector: Connector) -> Connection:
        self._existing(volume_id)
        with self._locked(volume_id):
            path = self._existing(volume_id)  # not deleted while we waited
            self._write_connections(volume_id, sorted({*self._connections(volume_id), connector.host}))
        return Connection("file", {"path": str(path), "format": "raw"})

    def _disconnect(self, volume_id: str, connector: Connector) -> None:
        if not self._path(volume_id).exists():
            return
        with self._locked(volume_id):
            self._write_connections(volume_id, sorted(set(self._connections(volume_id)) - {connector.host}))

    def _named(self, noun: str) -> list[str]:
        if not self._directory.is_dir():
            return []
        names = [match for entry in os.scandir(self._directory) if (match := _NAME.match(entry.name))]
        return sorted(match[2] for match in names if match[1] == noun)

    def _capabilities(self) -> Capabilities:
        self._directory.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(self._directory)
        if self._shares_blocks is None:
            self._shares_blocks = _shares_blocks(self._directory)
        return Capabilities(
            backend=self._name,
            total_gib=round(usage.total / GIB, 2),
            free_gib=round(max(0, usage.free - RESERVE_BYTES) / GIB, 2),
            online_snapshots=self._shares_blocks,
        )

    # ── connections, and the lock that serialises hosts on one volume

    def _connections_path(self, volume_id: str) -> Path:
        return self._directory / f"volume-{volume_id}.connections"

    def _lock_path(self, noun_id: str, noun: str = "volume") -> Path:
        return self._directory / f"{noun}-{noun_id}.lock"

    def _connections(self, volume_id: str) -> list[str]:
        try:
            return msgspec.json.decode(self._connections_path(volume_id).read_bytes(), type=list[str])
        except FileNotFoundError:
            return []

    def _connected(self) -> list[Connected]:
        return [Connected(one, host) for one in self._named("volume") for host in self._connections(one)]

    def _write_connections(self, volume_id: str, hosts: list[str]) -> None:
        path = self._connections_path(volume_id)
        part = path.with_name(path.name + ".part")
        part.write_bytes(msgspec.json.encode(hosts))
        part.replace(path)

    @contextlib.contextmanager
    def _locked(self, noun_id: str, noun: str = "volume") -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with open(self._lock_path(noun_id, noun), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _shares_blocks(directory: Path) -> bool:
    """Whether a file there can be shared as it is at one moment."""
    with tempfile.TemporaryFile(dir=directory) as source, tempfile.TemporaryFile(dir=directory) as target:
        source.write(bytes(4096))
        source.flush()
        try:
            fcntl.ioctl(target, _FICLONE, source.fileno())
        except OSError:
            return False
        return True


def _copy(source: Path, target: Path, require_room: Callable[[], None]) -> None:
    """Share the blocks where the file system can, else copy what is not a hole."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        try:
            fcntl.ioctl(writer, _FICLONE, reader.fileno())
            return
        except OSError:
            require_room()
        end = reader.seek(0, os.SEEK_END)
        place = 0
        while place < end:
            try:
                start = os.lseek(reader.fileno(), place, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            place = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            while start < place:
                start += _copy_range(reader.fileno(), writer.fileno(), start, place - start)
        os.truncate(writer.fileno(), end)


def _copy_range(reader: int, writer: int, start: int, length: int) -> int:
    copied = os.copy_file_range(reader, writer, min(length, 64 * MIB), start, start)
    if not copied:
        raise OSError("the source volume shrank while it was copied")
    return copied
