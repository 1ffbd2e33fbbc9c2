"""Processes that convert images in one directory leave each other's work alone."""

from __future__ import annotations

from pathlib import Path

from kilonova.base.world import LiveWorld
from kilonova.node.images.convert import FileConverter


async def test_only_what_a_dead_process_left_is_cleared(tmp_path: Path) -> None:
    world = LiveWorld("convert")
    first = FileConverter(world, tmp_path)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "busy.in").write_bytes(b"a disk that is being converted")
    second = FileConverter(world, tmp_path)
    assert (folder / "busy.in").exists()
    first._lock.close()  # as the kernel does when a process dies
    FileConverter(world, tmp_path)
    assert not folder.exists()
    assert second._directory.exists()
    await world.close()
