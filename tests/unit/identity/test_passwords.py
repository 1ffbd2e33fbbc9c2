"""Which stored hashes are a password's, and how little of the machine one from elsewhere may ask for."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher, Type

from kilonova.base.world import LiveWorld
from kilonova.identity.passwords import Passwords

_SALT_AND_HASH = "c29tZSBzYWx0IGhlcmUhIQ$Kk1vAqnqUDXrmTcTbgWmIL4ZxYuhGc8rFRUuYTfPO7M"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    world = LiveWorld("test")
    yield Passwords(world, 2)
    await world.close()


@pytest.mark.parametrize(
    "password",
    ["", "x", "a\0b", "a\0c", "é" * 4096, "\U0001f511" * 4096],
    ids=["empty", "one", "zero byte", "another after it", "two bytes each", "four bytes each"],
)
async def test_a_password_matches_what_was_written_for_it_and_nothing_else(passwords: Passwords, password: str) -> None:
    stored = await passwords.hash(password)
    assert stored.startswith("$argon2id$v=19$m=7168,t=5,p=1$") and not passwords.outdated(stored)
    assert await passwords.matches(password, stored)
    assert not await passwords.matches(password[:-1] + "?", stored)
    assert not await passwords.matches(password + "\0", stored)
    assert PasswordHasher().verify(stored, password)  # another reader of the same format agrees
    assert stored != await passwords.hash(password)


@pytest.mark.parametrize(
    ("memory", "passes", "lanes", "kind"),
    [
        (19 * 1024, 2, 1, Type.ID),
        (65536, 3, 4, Type.ID),
        (128, 1, 16, Type.ID),
        (8, 1, 1, Type.ID),
        (7168, 5, 1, Type.I),
    ],
)
async def test_hashes_from_elsewhere_are_accepted_and_outdated(
    passwords: Passwords, memory: int, passes: int, lanes: int, kind: Type
) -> None:
    stored = PasswordHasher(passes, memory, lanes, type=kind).hash("long ago")
    assert await passwords.matches("long ago", stored)
    assert not await passwords.matches("long agO", stored)
    assert passwords.outdated(stored)


@pytest.mark.parametrize(
    "stored",
    [
        f"$argon2id$v=19$m=4194304,t=1,p=1${_SALT_AND_HASH}",  # 4 GiB
        f"$argon2id$v=19$m=99999999999999,t=5,p=1${_SALT_AND_HASH}",
        f"$argon2id$v=19$m=262144,t=999,p=1${_SALT_AND_HASH}",  # minutes
        f"$argon2id$v=19$m=0,t=0,p=0${_SALT_AND_HASH}",
        f"$argon2id$v=16$m=7168,t=5,p=1${_SALT_AND_HASH}",
        f"$argon2d$v=19$m=7168,t=5,p=1${_SALT_AND_HASH}",
        f"$argon2id$v=19$m=7168,t=5,p=1${_SALT_AND_HASH}{'A' * 100}",
        f"$argon2id$v=19$m=٧,t=5,p=1${_SALT_AND_HASH}",
        f"$argon2id$v=19$m=7168,t=5,p=1${_SALT_AND_HASH}\0",
        "$argon2id$",
        "$argon2id$v=19$m=7168,t=5,p=1$é$é",
        "",
        "plain text",
    ],
    ids=ascii,
)
async def test_what_is_no_hash_or_asks_too_much_is_nobodys_and_takes_no_memory(
    passwords: Passwords, stored: str
) -> None:
    await passwords.matches("", stored)  # the threads are there
    most_before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert not await passwords.matches("plain text", stored)
    assert not await passwords.matches("", stored)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most_before < 64 * 1024
    assert time.process_time() - began < 1
