"""Units, so that a number's meaning never has to be guessed."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


def gib_up(bytes_: int) -> int:
    """How many whole GiB hold `bytes_`."""
    return -(-bytes_ // GIB)
