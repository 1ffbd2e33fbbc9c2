"""New ids, passed in so that a simulation can replay them."""

from __future__ import annotations

import os
import random
import re
import secrets
import uuid
from typing import Protocol

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


_IDS_AT_ONCE = 64
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


class Ids(Protocol):
    """Where new ids and secrets come from."""

    def uuid(self) -> str:
        """A UUID4 with dashes: servers, ports, volumes, images, requests."""
        ...

    def hex32(self) -> str:
        """A UUID4 as 32 hex digits: users, projects, roles."""
        ...

    def secret(self, bytes_: int = 32) -> str:
        """A URL-safe random secret of `bytes_` bytes of entropy."""
        ...


class SystemIds:
    """Ids from the operating system's randomness; fetched many at a time, for each fetch is a system call."""

    def __init__(self) -> None:
        self._supply: list[str] = []

    def uuid(self) -> str:
        try:
            text = self._supply.pop()
        except IndexError:
            fresh = os.urandom(16 * _IDS_AT_ONCE).hex()
            self._supply = [fresh[at : at + 32] for at in range(32, len(fresh), 32)]
            text = fresh[:32]
        variant = _VARIANT[text[16]]  # RFC 9562, 5.4: version 4, variant 10
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"

    def hex32(self) -> str:
        return self.uuid().replace("-", "")

    def secret(self, bytes_: int = 32) -> str:
        return secrets.token_urlsafe(bytes_)


class SeededIds:
    """Ids from a seeded generator: the same seed gives the same ids. Only for simulation and tests."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def hex32(self) -> str:
        return uuid.UUID(int=self._random.getrandbits(128), version=4).hex

    def secret(self, bytes_: int = 32) -> str:
        return f"{self._random.getrandbits(bytes_ * 8):x}"


def is_uuid(text: str) -> bool:
    """Whether `text` is a lower-case UUID with dashes."""
    return bool(_UUID.match(text))
