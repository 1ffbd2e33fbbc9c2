"""New ids, passed in so that a simulation can replay them."""

from __future__ import annotations

import random
import re
import secrets
import uuid
from typing import Protocol

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


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
    """Ids from the operating system's randomness."""

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def hex32(self) -> str:
        return uuid.uuid4().hex

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
