"""How simulated processes ask each other over REST: late, and with an answer only while the other process lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, unauthenticated
from kilonova.base.patience import away
from kilonova.http.client import AsgiTransport, Reply
from kilonova.sim.world import SimWorld

LATENCY_SECONDS = 0.02
USER_PROJECT = "11111111111111111111111111111111"
SERVICE_PROJECT = "44444444444444444444444444444444"
SERVICES = ("nova", "neutron", "cinder", "glance", "agent")
_ADMIN = ("admin", "manager", "member", "reader")


@dataclass
class Door:
    """An API process: its application, and its world."""

    world: SimWorld
    app: Any


class Wire:
    """A Transport from one process to the API that is mounted under a name now."""

    def __init__(self, caller: SimWorld, find: Callable[[], Door | None]) -> None:
        self._caller = caller
        self._find = find

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer; UNAVAILABLE when the process is down, or dies before it has answered."""
        await self._caller.clock.sleep(self._caller.random.random() * LATENCY_SECONDS)
        door = self._find()
        if door is None or door.world.dead:
            raise _down()
        work = door.world.spawn(AsgiTransport(door.app).send(method, target, headers, body), f"{method} {target}")
        died = door.world.died
        await asyncio.wait({work, died}, return_when=asyncio.FIRST_COMPLETED)
        await self._caller.seam()
        if not work.done() or died.done():
            raise _down()
        reply: Reply = work.result()
        return reply

    async def upload(self, method: str, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Reply:
        """The body at once."""
        return await self.send(method, target, headers, b"".join([chunk async for chunk in chunks]))

    async def stream(self, method: str, target: str, headers: Mapping[str, str]) -> AsyncIterator[Reply | bytes]:
        """The whole answer as one chunk."""
        reply = await self.send(method, target, headers, b"")
        yield reply
        yield reply.content

    async def close(self) -> None:
        """Nothing is open."""


def _down() -> Fault:
    return away("A service that this request needs does not answer.", inside="its process is down")


class Tokens:
    """An Authenticator: tokens are the names of their holders. `member` is a user, `nova` a service."""

    def __init__(self) -> None:
        made = [_caller("member", USER_PROJECT, ("member", "reader")), _caller("admin", SERVICE_PROJECT, _ADMIN)]
        made += [_caller(name, SERVICE_PROJECT, ("service",)) for name in ("glance", "agent")]
        made += [_caller(name, SERVICE_PROJECT, ("service", *_ADMIN)) for name in ("nova", "neutron", "cinder")]
        self._callers = {one.token: one for one in made}

    async def authenticate(self, token: str, service_token: str) -> Caller:
        """The holder; with the service's role beside when a service's token came along."""
        if token not in self._callers:
            raise unauthenticated()
        caller = self._callers[token]
        return replace(caller, service_roles=("service",)) if service_token in SERVICES else caller


def _caller(name: str, project_id: str, roles: tuple[str, ...]) -> Caller:
    return Caller(
        user_id=f"user-{name}",
        user_name=name,
        user_domain_id="default",
        user_domain_name="Default",
        project_id=project_id,
        project_name=f"project {project_id[:1]}",
        project_domain_id="default",
        project_domain_name="Default",
        roles=roles,
        token=name,
        token_expires_at="2030-01-01T00:00:00.000000Z",
    )
