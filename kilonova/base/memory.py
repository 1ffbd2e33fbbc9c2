"""Memory that a long-running process gives back to the machine."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h of the GNU C library; others ignore it


def share_one_arena() -> None:
    """All threads take memory from one pool; call before the first thread starts.

    A password's hash takes 7 MiB for a moment. The C library keeps that for the next one: once for the process, not
    once for each thread that ever hashed, and where `give_back` reaches it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """What was needed only to start goes back to the machine, and what stays is looked through for garbage no more."""
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """What was used and freed, for a password's hash or a burst of requests, goes back to the machine."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
