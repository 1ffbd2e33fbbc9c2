"""Files of any size that are written once, from the beginning to the end, and read in large pieces.

The kernel keeps what passes in its page cache: each byte is copied once more, into a page that must be found, and what
guests and databases had there goes. A gigabyte costs a second of CPU that way, a third of it without. So what is large
goes to the disk and comes from it directly (decision 39). What is small, and the beginning of what is large, stays in
the cache: most images are read soon after they came.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kilonova.base.units import MIB

ALLOCATED_BYTES: Final = 64 * MIB  # asked of the file system at once: to find room page by page costs it twice as much
CACHED_BYTES: Final = 64 * MIB  # what comes after these goes past the page cache
ROOM_BYTES: Final = 4 * MIB  # written at once, from memory that begins at a page as the disk wants it
PIECE_BYTES: Final = 1 * MIB  # read at once


class NewFile:
    """An open file that nobody else writes. Its methods wait for the disk: call them in a thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._room = memoryview(mmap.mmap(-1, ROOM_BYTES))
        self._filled = 0  # bytes of the room
        self._written = 0  # bytes before them
        self._allocated = 0

    def has_room(self, more_bytes: int) -> bool:
        """Whether so much can be written without asking the file system for more."""
        return self._written + self._filled + more_bytes <= self._allocated

    def make_room(self) -> None:
        """ALLOCATED_BYTES more; OSError when the disk has none."""
        os.posix_fallocate(self._file, self._allocated, ALLOCATED_BYTES)
        self._allocated += ALLOCATED_BYTES

    def write(self, chunks: Iterable[bytes]) -> None:
        """What comes next."""
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                size = min(len(left), ROOM_BYTES - self._filled)
                self._room[self._filled : self._filled + size] = left[:size]
                self._filled += size
                left = left[size:]
                if self._filled == ROOM_BYTES:
                    self._empty()
                    if self._written == CACHED_BYTES:
                        _past_the_cache(self._file, True)

    def keep(self) -> None:
        """It ends here; all of it is on the disk."""
        _past_the_cache(self._file, False)  # the end is no whole number of blocks
        self._empty()
        os.ftruncate(self._file, self._written)
        os.fsync(self._file)

    def close(self) -> None:
        """Let go of it. What was not kept may be there or not."""
        os.close(self._file)

    def _empty(self) -> None:
        left = self._room[: self._filled]
        while left:
            left = left[os.write(self._file, left) :]
        self._written += self._filled
        self._filled = 0


class KeptFile:
    """A file that nobody writes any more. `read` waits for the disk: call it in a thread."""

    def __init__(self, path: Path) -> None:
        """FileNotFoundError when it is not there."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._room: mmap.mmap | None = None  # what is read directly comes here

    def read(self, start: int, end: int) -> bytes:
        """At most PIECE_BYTES from `start`, none from `end` on; nothing when the file ends before `start`."""
        wanted = min(end - start, PIECE_BYTES - start % PIECE_BYTES)
        if start < CACHED_BYTES or start % PIECE_BYTES:
            if self._room is not None:
                self._room = None
                _past_the_cache(self._file, False)
            return os.pread(self._file, max(wanted, 0), start)
        if self._room is None:
            self._room = mmap.mmap(-1, PIECE_BYTES)
            _past_the_cache(self._file, True)
        came = os.preadv(self._file, [self._room], start)
        return self._room[: min(came, wanted)]

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def _past_the_cache(file: int, on: bool) -> None:
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError:  # this file system has no other way than its cache
        if not on:
            raise
