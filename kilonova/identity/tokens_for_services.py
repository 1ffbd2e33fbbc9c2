"""ServiceTokens: the token with which a service speaks in its own name, got when needed and renewed in time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec

from kilonova.base.world import World
from kilonova.http.client import Client
from kilonova.identity.contract import TokenBody

RENEW_BEFORE_SECONDS = 600.0
_decode = msgspec.json.Decoder(TokenBody).decode


class ServiceUser(msgspec.Struct, frozen=True):
    """Who a service is: a user with a password, or an application credential (then user and project say nothing)."""

    name: str = ""
    secret: str = ""
    project: str = "service"
    domain_id: str = "default"
    application_credential_id: str = ""

    def __repr__(self) -> str:
        return f"ServiceUser({self.name or self.application_credential_id})"


class ServiceTokens:
    """`Client(…, service_token=tokens.token)`, or `await tokens.token()` in a loop."""

    def __init__(self, world: World, identity: Client, user: ServiceUser, *, path: str = "/v3") -> None:
        self._world = world
        self._identity = identity
        self._user = user
        self._path = path
        self._token = ""
        self._renew_at = 0.0
        self._turn = asyncio.Lock()

    async def token(self) -> str:
        """A token that lives long enough for what is begun now."""
        if self._token and self._world.clock.monotonic() < self._renew_at:
            return self._token
        async with self._turn:
            if not self._token or self._world.clock.monotonic() >= self._renew_at:
                await self._log_in()
        return self._token

    def forget(self) -> None:
        """The token was refused: get another when asked again."""
        self._token = ""

    async def _log_in(self) -> None:
        reply = await self._identity.request(
            "POST", f"{self._path}/auth/tokens", json={"auth": _login(self._user)}, query={"nocatalog": "1"}
        )
        expires_at = datetime.fromisoformat(_decode(reply.content).token.expires_at)
        left = (expires_at - self._world.clock.now()).total_seconds()
        self._token = reply.headers["x-subject-token"]
        self._renew_at = self._world.clock.monotonic() + max(left - RENEW_BEFORE_SECONDS, left / 2)


def _login(user: ServiceUser) -> dict[str, Any]:
    if user.application_credential_id:
        credential = {"id": user.application_credential_id, "secret": user.secret}
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    domain = {"id": user.domain_id}
    who = {"name": user.name, "domain": domain, "password": user.secret}
    return {
        "identity": {"methods": ["password"], "password": {"user": who}},
        "scope": {"project": {"name": user.project, "domain": domain}},
    }
