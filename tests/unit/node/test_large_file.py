"""What is written to a new file is what is read from it, in the page cache and past it, on any file system."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.units import MIB
from kilonova.node.images.large_file import CACHED_BYTES, KeptFile, NewFile

NOISE = random.Random(1).randbytes(3 * MIB + 17)


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="kn-new-file-") as made:
        yield Path(made)


@pytest.mark.parametrize("size", [0, 17, 4 * MIB, CACHED_BYTES, CACHED_BYTES + 1, CACHED_BYTES + 9 * MIB + 511])
def test_what_is_written_is_read(directory: Path, size: int) -> None:
    path, expected, left = directory / "image", hashlib.sha256(), size
    file = NewFile(path)
    while left:
        chunk = NOISE[:left]
        if not file.has_room(len(chunk)):
            file.make_room()
        file.write([chunk[: MIB + 3], chunk[MIB + 3 :]])
        expected.update(chunk)
        left -= len(chunk)
    file.keep()
    file.close()
    with path.open("rb") as written:
        assert hashlib.file_digest(written, "sha256").hexdigest() == expected.hexdigest()
    assert path.stat().st_size == size
    kept, seen, at = KeptFile(path), hashlib.sha256(), 0
    while piece := kept.read(at, size):
        seen.update(piece)
        at += len(piece)
    kept.close()
    assert (at, seen.hexdigest()) == (size, expected.hexdigest())


@pytest.mark.parametrize("start", [0, 1, MIB - 1, CACHED_BYTES - 5, CACHED_BYTES, CACHED_BYTES + 3, CACHED_BYTES + MIB])
@pytest.mark.parametrize("length", [1, 4096, MIB, 3 * MIB + 7, 10 * MIB])
def test_any_range_is_read(directory: Path, start: int, length: int) -> None:
    path = directory / "image"
    with path.open("wb") as file:
        file.truncate(CACHED_BYTES - MIB)
        file.seek(CACHED_BYTES - MIB)
        file.write(NOISE * 2)
    kept, end, got = KeptFile(path), start + length, b""
    while piece := kept.read(start + len(got), end):
        got += piece
    again = kept.read(start, end)
    kept.close()
    with path.open("rb") as file:
        file.seek(start)
        assert got == file.read(length)
    assert again and got.startswith(again)


def test_what_is_large_goes_past_the_cache(tmp_path: Path) -> None:
    """Where the file system can: the next open file description tells."""
    probe = os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.fcntl(probe, fcntl.F_SETFL, os.O_DIRECT)
    except OSError:
        pytest.skip("this file system has nothing but its cache")
    finally:
        os.close(probe)
    path = tmp_path / "image"
    file = NewFile(path)
    (handle,) = [one for one in map(int, os.listdir("/proc/self/fd")) if _is(one, path)]
    direct = []
    for _ in range(CACHED_BYTES // (4 * MIB) + 2):
        file.write([bytes(4 * MIB)])
        direct.append(bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT))
    file.close()
    assert direct == [False] * (CACHED_BYTES // (4 * MIB) - 1) + [True, True, True]


def _is(handle: int, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{handle}") == str(path)
    except FileNotFoundError:  # of the listing itself
        return False
