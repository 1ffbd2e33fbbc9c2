"""TokenValidator: the Authenticator of every service's door. Asks identity once per token, then remembers.

What is remembered is dropped when identity's `token_version` goes up, which is asked for at most every 0.4 s: a revoked
token is refused everywhere within a second.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

import msgspec

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind, unauthenticated
from kilonova.base.world import World
from kilonova.http.client import Client
from kilonova.identity.callers import SERVICE_ROLE, beside_service, caller_of
from kilonova.identity.contract import ACCESS_RULES_HEADER, ACCESS_RULES_VERSION, VERSION_HEADER, TokenBody
from kilonova.identity.lru import Lru
from kilonova.trace import spans

POLL_SECONDS = 0.4
GRACE_SECONDS = 5.0  # how long remembered tokens count when identity does not answer
REMEMBERED = 10_000
REFUSED_REMEMBERED = 1_000
_decode = msgspec.json.Decoder(TokenBody).decode


class _Known(msgspec.Struct):
    caller: Caller
    expires_at: datetime


class TokenValidator:
    """Turns tokens into callers. `identity` speaks to identity's API; `path` is where its version 3 is."""

    def __init__(
        self, world: World, identity: Client, *, path: str = "/v3", poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._world = world
        self._identity = identity
        self._path = path
        self._poll_seconds = poll_seconds
        self._known: Lru[bytes, _Known] = Lru(REMEMBERED)
        self._refused: Lru[bytes, Fault] = Lru(REFUSED_REMEMBERED)
        self._beside: Lru[tuple[bytes, bytes], Caller] = Lru(REMEMBERED)
        self._version = -1
        self._asked_at = self._heard_at = float("-inf")
        self._turn = asyncio.Lock()

    async def authenticate(self, token: str, service_token: str) -> Caller:
        """The token's holder. UNAUTHENTICATED when unknown, expired or revoked; an expired token counts for 48 h
        beside a token of a user with the role `service`."""
        if not token:
            raise unauthenticated()
        if self._world.clock.monotonic() - self._asked_at >= self._poll_seconds:
            await self._refresh()
        if not service_token:
            return (await self._validated(token, _key(token))).caller
        service_key = _key(service_token)
        service = (await self._validated(service_token, service_key, noted=False)).caller
        if SERVICE_ROLE not in service.roles:
            return beside_service((await self._validated(token, _key(token))).caller, service)
        both = (_key(token), service_key)
        caller = (await self._validated(token, both[0], service_token)).caller
        together = self._beside.get(both)
        if together is None or together.token_expires_at != caller.token_expires_at:
            together = beside_service(caller, service)
            self._beside.put(both, together)
        return together

    async def _validated(self, token: str, key: bytes, service_token: str = "", *, noted: bool = True) -> _Known:
        known = self._known.get(key)
        if known is not None and self._world.clock.now() < known.expires_at:
            if noted:  # one of the two tokens of a request is enough to say
                spans.note("token validated (cache)")
            return known
        if not service_token and (refused := self._refused.get(key)) is not None:
            raise unauthenticated(inside=refused.inside)
        version = self._version
        try:
            known, told_at = await self._ask(token, service_token)
        except Fault as fault:
            if fault.kind not in (Kind.UNAUTHENTICATED, Kind.NOT_FOUND):
                raise
            if not service_token:
                self._refused.put(key, fault)
            raise unauthenticated(inside=fault.inside) from None
        # a copy of identity that has not heard of a change yet may be believed, but not remembered
        if version == self._version <= told_at and self._world.clock.now() < known.expires_at:
            self._known.put(key, known)
        return known

    async def _ask(self, token: str, service_token: str) -> tuple[_Known, int]:
        """Identity's answer, and the version it was true at.

        A token may ask about itself; about an expired one the service's token asks.
        """
        query = {"nocatalog": "1"} | ({"allow_expired": "1"} if service_token else {})
        reply = await self._identity.request(
            "GET",
            f"{self._path}/auth/tokens",
            token=service_token or token,
            query=query,
            headers={"x-subject-token": token, ACCESS_RULES_HEADER: str(ACCESS_RULES_VERSION)},
        )
        info = _decode(reply.content).token
        known = _Known(caller_of(info, token), datetime.fromisoformat(info.expires_at))
        return known, int(reply.headers.get(VERSION_HEADER, "-1"))

    async def _refresh(self) -> None:
        """Ask identity whether anything changed; whoever comes meanwhile waits for the answer."""
        async with self._turn:
            now = self._world.clock.monotonic()
            if now - self._asked_at < self._poll_seconds:
                return
            try:
                with spans.within(None):
                    reply = await self._identity.request("GET", f"{self._path}/kilonova/token_version")
            except Fault:
                if now - self._heard_at > GRACE_SECONDS:
                    raise
                self._asked_at = now
                return
            self._asked_at = self._heard_at = now
            if (version := int(reply.json()["version"])) != self._version:
                self._known.clear()
                self._refused.clear()
                self._beside.clear()
                self._version = version


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
