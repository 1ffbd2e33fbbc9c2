"""The keys that sign tokens: in identity's database, sealed by the deployment key: all copies rotate together."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Literal

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Connection

from kilonova.base.faults import unauthenticated
from kilonova.base.world import World
from kilonova.db.database import Database
from kilonova.identity import store
from kilonova.identity.token import keys_store
from kilonova.identity.token.jws import JwsKeys, new_key
from kilonova.saga.seal import Sealer

Provider = Literal["fernet", "jws"]
RELOAD_SECONDS = 1.0  # a forged token must not make us read the database at will


class _Keys(msgspec.Struct):
    """As they were read: every rank has a key of each kind, so that the operator may choose another kind any time."""

    fernet: MultiFernet
    jws: JwsKeys | None

    def sign(self, provider: Provider, payload: bytes, moment: datetime) -> str:
        if provider == "jws" and self.jws is not None:
            return self.jws.sign(payload)
        return self.fernet.encrypt_at_time(payload, int(moment.timestamp())).decode().rstrip("=")

    def open(self, token: str) -> bytes:
        if "." not in token:
            return self.fernet.decrypt((token + "=" * (-len(token) % 4)).encode())
        if self.jws is None:
            raise InvalidToken
        return self.jws.open(token)


class KeyRing:
    """Signs with the newest key, opens with any that is kept, of either kind."""

    def __init__(self, world: World, db: Database, sealer: Sealer, maximum: int, provider: Provider = "fernet") -> None:
        self._world = world
        self._db = db
        self._sealer = sealer
        self._maximum = maximum
        self._provider = provider
        self._keys: _Keys | None = None
        self._loaded_at = 0.0
        self._turn = asyncio.Lock()

    async def sign(self, payload: bytes) -> str:
        """The token that holds `payload`."""
        keys = self._keys or await self._load()
        return keys.sign(self._provider, payload, self._world.clock.now())

    async def open(self, token: str) -> bytes:
        """What `sign` was given. UNAUTHENTICATED when we never signed it, or its key is gone."""
        keys = self._keys or await self._load()
        if not token.isascii():
            raise unauthenticated(inside="the token is not ASCII")
        try:
            return keys.open(token)
        except InvalidToken:
            if self._world.clock.monotonic() - self._loaded_at < RELOAD_SECONDS:
                raise unauthenticated(inside="no key opens the token") from None
        try:  # another copy may have rotated the keys
            return (await self._load()).open(token)
        except InvalidToken:
            raise unauthenticated(inside="no key opens the token") from None

    def forget(self) -> None:
        """The keys may have been rotated: read them again before the next use."""
        self._keys = None

    async def rotate(self) -> None:
        """Sign with a new key from now on; the oldest beyond the maximum go, and with them what they signed."""
        await self._add(replace=True)
        await self._load()

    async def _load(self) -> _Keys:
        async with self._turn:
            found = await self._read()
            if not found or (self._provider == "jws" and "jws" not in found[0]):
                await self._add(replace=bool(found))  # keys of an earlier release are Fernet's alone
                found = await self._read()
            pems = [one["jws"] for one in found if "jws" in one]
            self._keys = _Keys(MultiFernet([Fernet(one["key"]) for one in found]), JwsKeys(pems) if pems else None)
            self._loaded_at = self._world.clock.monotonic()
            return self._keys

    async def _read(self) -> list[dict[str, str]]:
        return [self._sealer.open(one) for one in await self._db.read(keys_store.sealed_keys)]

    async def _add(self, *, replace: bool) -> None:
        sealed = self._sealer.seal({"key": Fernet.generate_key().decode(), "jws": new_key()})
        await self._db.write(_add_key, sealed, self._world.clock.now(), self._maximum, replace)


def _add_key(connection: Connection, sealed: bytes, now: datetime, maximum: int, replace: bool) -> None:
    if replace or not keys_store.sealed_keys(connection):
        keys_store.insert_key(connection, sealed, now)
        keys_store.delete_beyond(connection, maximum)
        store.bump_version(connection)  # so that every copy signs with the new key within a second
