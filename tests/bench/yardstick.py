"""How fast this machine is: two pieces of work that never change, beside what they took where the promises were made.

bcrypt stays in a processor's nearest cache, argon2 does not: the first tells of its clock, the second of its memory.
Nothing of Kilonova hashes with argon2-cffi: it is here so that no change of ours moves the second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import bcrypt
from argon2.low_level import Type, hash_secret_raw

BCRYPT_THERE, ARGON2_THERE = 226, 22  # CPU ms


def words() -> str:
    """A sentence for the head of a table: the least of a few times, in CPU milliseconds."""
    salt = bcrypt.gensalt(12)
    quick = _least(3, lambda: bcrypt.hashpw(b"yardstick", salt))
    wide = _least(9, lambda: hash_secret_raw(b"yardstick", b"sixteen bytes..!", 2, 19 * 1024, 1, 32, Type.ID))
    return (
        f"Yardsticks, in CPU ms and in brackets where the promises were made: bcrypt of 12 rounds {quick:.0f} "
        f"({BCRYPT_THERE}), argon2id of 19 MiB and 2 passes {wide:.0f} ({ARGON2_THERE})."
    )


def _least(times: int, work: Callable[[], object]) -> float:
    took = []
    for _ in range(times):
        began = time.thread_time()
        work()
        took.append((time.thread_time() - began) * 1000)
    return min(took)
