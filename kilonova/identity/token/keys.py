"""The keys that sign tokens: in identity's database, sealed by the deployment key: all copies rotate together."""

from __future__ import annotations

import asyncio
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Connection

from kilonova.base.faults import unauthenticated
from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.identity import store
from kilonova.identity.token import keys_store
from kilonova.saga.seal import Sealer

RELOAD_SECONDS = 1.0  # a forged token must not make us read the database at will


class KeyRing:
    """Signs with the newest key, opens with any that is kept."""

    def __init__(self, world: World, db: Database, sealer: Sealer, maximum: int) -> None:
        self._world = world
        self._db = db
        self._sealer = sealer
        self._maximum = maximum
        self._fernet: MultiFernet | None = None
        self._loaded_at = 0.0
        self._turn = asyncio.Lock()

    async def sign(self, payload: bytes) -> str:
        """The token that holds `payload`."""
        fernet = self._fernet or await self._load()
        moment = int(self._world.clock.now().timestamp())
        return fernet.encrypt_at_time(payload, moment).decode().rstrip("=")

    async def open(self, token: str) -> bytes:
        """What `sign` was given. UNAUTHENTICATED when we never signed it, or its key is gone."""
        fernet = self._fernet or await self._load()
        try:
            raw = (token + "=" * (-len(token) % 4)).encode("ascii")
        except UnicodeEncodeError:
            raise unauthenticated(inside="the token is not ASCII") from None
        try:
            return fernet.decrypt(raw)
        except InvalidToken:
            if self._world.clock.monotonic() - self._loaded_at < RELOAD_SECONDS:
                raise unauthenticated(inside="no key opens the token") from None
        try:  # another copy may have rotated the keys
            return (await self._load()).decrypt(raw)
        except InvalidToken:
            raise unauthenticated(inside="no key opens the token") from None

    def forget(self) -> None:
        """The keys may have been rotated: read them again before the next use."""
        self._fernet = None

    async def rotate(self) -> None:
        """Sign with a new key from now on; the oldest beyond the maximum go, and with them what they signed."""
        await self._add(replace=True)
        await self._load()

    async def _load(self) -> MultiFernet:
        async with self._turn:
            sealed = await self._db.read(keys_store.sealed_keys)
            if not sealed:
                await self._add(replace=False)
                sealed = await self._db.read(keys_store.sealed_keys)
            self._fernet = MultiFernet([Fernet(self._sealer.open(one)["key"]) for one in sealed])
            self._loaded_at = self._world.clock.monotonic()
            return self._fernet

    async def _add(self, *, replace: bool) -> None:
        sealed = self._sealer.seal({"key": Fernet.generate_key().decode()})
        await self._db.write(_add_key, sealed, self._world.clock.now(), self._maximum, replace)


def _add_key(connection: Connection, sealed: bytes, now: datetime, maximum: int, replace: bool) -> None:
    if replace or not keys_store.sealed_keys(connection):
        keys_store.insert_key(connection, sealed, now)
        keys_store.delete_beyond(connection, maximum)
        store.bump_version(connection)  # so that every copy signs with the new key within a second
