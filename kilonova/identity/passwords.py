"""Passwords: argon2id written, bcrypt accepted; machine-made secrets by sha256.

Parameters (7 MiB, 5 passes, 1 lane) are one of the sets that OWASP's Password Storage Cheat Sheet calls equally strong,
and the one that costs the least processor time (docs/decisions/0031); libsodium computes them (0033). Hashing runs in
threads, few at once. Whoever is not known costs as much time as whoever mistypes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re

import bcrypt
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from kilonova.base.faults import invalid
from kilonova.base.world import World

_MEMORY_KIB = 7 * 1024
_PASSES = 5
_WRITTEN = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1$"
# of no password: only there to be compared with, for as long as one that is written today
_NOBODYS = _WRITTEN + "c29tZSBzYWx0IGhlcmUhIQ$Kk1vAqnqUDXrmTcTbgWmIL4ZxYuhGc8rFRUuYTfPO7M"
# What a stored hash may ask of us: one from elsewhere may be costlier than ours, but not take the machine's memory.
_READABLE = re.compile(r"\$argon2id?\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=\d{1,3}\$[\w+/]+\$[\w+/]+", re.ASCII)
_MOST_MEMORY_KIB, _MOST_PASSES, _MOST_BYTES = 256 * 1024, 64, 127
MAXIMUM_CHARACTERS = 4096
_SECRET = "sha256$"
_MACHINE_SECRET_CHARACTERS = 43  # 256 bits in base 64


def sha256_hex(secret: str) -> str:
    """The hash of a secret with so much chance in it that nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Passwords:
    """Hashes and compares passwords off the event loop."""

    def __init__(self, world: World, at_once: int) -> None:
        self._world = world
        self._turn = asyncio.Semaphore(at_once)

    def check_length(self, password: str, field: str) -> None:
        """INVALID for a password that is longer than any: nobody makes us hash megabytes."""
        if len(password) > MAXIMUM_CHARACTERS:
            raise invalid(f"Invalid input for field {field}: it is longer than {MAXIMUM_CHARACTERS} characters.")

    async def hash(self, password: str) -> str:
        """What to store for a person's password."""
        self.check_length(password, "password")
        async with self._turn:
            return await self._world.blocking(_hash, password)

    def hash_machine_secret(self, secret: str) -> str:
        """What to store for a service user's secret; at least 256 random bits, or it must be hashed slowly."""
        if len(secret) < _MACHINE_SECRET_CHARACTERS:
            raise invalid("A machine's secret must hold 256 random bits.", hint="Use world.ids.secret(32).")
        return _SECRET + sha256_hex(secret)

    async def hash_secret(self, secret: str) -> str:
        """What to store for a program's secret: quick when it is as long as those we make, slow when a person's."""
        if len(secret) >= _MACHINE_SECRET_CHARACTERS:
            return self.hash_machine_secret(secret)
        return await self.hash(secret)

    async def matches(self, password: str, stored: str) -> bool:
        """Whether `password` is the one behind `stored`; "" is nobody's, and takes as long."""
        if len(password) > MAXIMUM_CHARACTERS:
            return False
        if stored.startswith(_SECRET) and hmac.compare_digest(stored, _SECRET + sha256_hex(password)):
            return True
        async with self._turn:
            return await self._world.blocking(_matches, password, stored)

    def outdated(self, stored: str) -> bool:
        """Whether it should be hashed anew, now that the password is known."""
        return not stored.startswith((_SECRET, _WRITTEN))


def _hash(password: str) -> str:
    return argon2id.str(password.encode(), opslimit=_PASSES, memlimit=_MEMORY_KIB * 1024).decode()


def _matches(password: str, stored: str) -> bool:
    if stored.startswith(("$2a$", "$2b$", "$2y$")):
        # bcrypt reads 72 bytes; what Keystone wrote was cut there too
        try:
            return bcrypt.checkpw(password.encode()[:72], stored.encode())
        except ValueError:  # not a hash that bcrypt can read
            return False
    readable = _readable(stored)
    try:
        return argon2id.verify((stored if readable else _NOBODYS).encode(), password.encode()) and readable
    except CryptoError:  # another password
        return False


def _readable(stored: str) -> bool:
    """Whether libsodium can read it, and within bounds: told from the text, before any memory is taken for it."""
    asks = _READABLE.fullmatch(stored)
    if asks is None or len(stored) > _MOST_BYTES:
        return False
    return int(asks[1]) <= _MOST_MEMORY_KIB and int(asks[2]) <= _MOST_PASSES
