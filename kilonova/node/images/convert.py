"""Disks from one format to another: written down, converted by a confined child, and read back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kilonova.base.faults import unavailable
from kilonova.base.units import GIB, MIB
from kilonova.base.world import World
from kilonova.node.confined import convert_disk, inspect_disk

RESERVE_BYTES = 1 * GIB
NAMES = {"vhd": "vpc"}  # of image formats, where QEMU's differ


class FileConverter:
    """Implements `image.contract.DiskConverter` with scratch files in a directory; one conversion at a time.

    Processes may share the directory: each has a folder of its own there, and holds its lock while it lives.
    """

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._turn = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        for lock in directory.glob("*.lock"):
            _clear_abandoned(lock)
        self._directory = directory / world.ids.uuid()
        self._lock = open(f"{self._directory}.lock", "w")  # noqa: SIM115 - held as long as the process lives
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._directory.mkdir()
        for path in (directory, self._directory):
            path.chmod(0o711)  # the child is nobody: it must reach its file

    async def convert(
        self, chunks: AsyncIterator[bytes], source_format: str, target_format: str, virtual_size_bytes: int
    ) -> AsyncIterator[bytes]:
        async with self._turn:
            name = self._world.ids.uuid()
            source, target = self._directory / f"{name}.in", self._directory / f"{name}.out"
            try:
                await self._write(chunks, source)
                await self._world.blocking(self._run, source, source_format, target, target_format, virtual_size_bytes)
                file: Any = await self._world.blocking(open, target, "rb")
                try:
                    while chunk := await self._world.blocking(file.read, MIB):
                        yield chunk
                finally:
                    await self._world.blocking(file.close)
            finally:
                await self._world.blocking(_remove, source, target)

    async def _write(self, chunks: AsyncIterator[bytes], path: Path) -> None:
        file: Any = await self._world.blocking(open, path, "wb")
        try:
            async for chunk in chunks:
                await self._world.blocking(file.write, chunk)
        finally:
            await self._world.blocking(file.close)
        await self._world.blocking(path.chmod, 0o644)

    def _run(self, source: Path, source_format: str, target: Path, target_format: str, size_bytes: int) -> None:
        usage = os.statvfs(self._directory)
        if size_bytes + RESERVE_BYTES > usage.f_bavail * usage.f_frsize:
            raise unavailable(
                "There is no room to convert an image of this size.", hint="The operator must free disk space."
            )
        if source_format != "raw":  # a second opinion before anything reads it: QEMU's own, in a child as well
            inspect_disk(str(source))
        names = [NAMES.get(one, one) for one in (source_format, target_format)]
        convert_disk(str(source), names[0], str(target), names[1], size_bytes)


def _clear_abandoned(lock: Path) -> None:
    """What a process that died left of its conversions is gone."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink()


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
