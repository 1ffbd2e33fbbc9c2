"""For API tests: callers by token name, and a client that goes through the ASGI door in process."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from kilonova.base.caller import Caller
from kilonova.base.faults import unauthenticated
from kilonova.http.client import AsgiTransport, Reply

PROJECT = "11111111111111111111111111111111"
OTHER_PROJECT = "22222222222222222222222222222222"
ADMIN_PROJECT = "33333333333333333333333333333333"
SERVICE_PROJECT = "44444444444444444444444444444444"
_MEMBER_ROLES = {"manager": ("manager", "member", "reader"), "member": ("member", "reader"), "reader": ("reader",)}


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


CALLERS = {
    "admin": _caller("admin", ADMIN_PROJECT, ("admin", "manager", "member", "reader")),
    "service": _caller("service", SERVICE_PROJECT, ("service", "admin", "manager", "member", "reader")),
    **{persona: _caller(persona, PROJECT, roles) for persona, roles in _MEMBER_ROLES.items()},
    "other": _caller("other", OTHER_PROJECT, ("member", "reader")),
    "other-reader": _caller("other-reader", OTHER_PROJECT, ("reader",)),
    # agents of a host that joined: in their own name, and beside the member's token
    **{
        f"agent-{host}": dataclasses.replace(
            _caller(f"agent-{host}", SERVICE_PROJECT, ("service",)), agent_host=host, is_agent=True
        )
        for host in ("node1", "node2")
    },
    "member-by-agent-node2": dataclasses.replace(
        _caller("member", PROJECT, _MEMBER_ROLES["member"]), service_roles=("service",), agent_host="node2"
    ),
}


class FakeAuthenticator:
    """Knows callers by the names of their tokens: `member` is the token of the member persona."""

    def __init__(self, callers: dict[str, Caller] | None = None) -> None:
        self.callers = dict(callers or CALLERS)

    async def authenticate(self, token: str, service_token: str) -> Caller:
        try:
            return self.callers[token]
        except KeyError:
            raise unauthenticated() from None


class ApiClient:
    """Requests through the door; answers as they are, errors too."""

    def __init__(self, app: Any, token: str = "member", headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._transport = AsgiTransport(app)
        self._token = token
        self._headers = headers or {}

    def as_(self, token: str, **headers: str) -> ApiClient:
        """The same door for another persona."""
        return ApiClient(self._app, token, {**self._headers, **headers})

    def at(self, service_and_version: str) -> ApiClient:
        """The same door at a microversion: `compute 2.90`."""
        return ApiClient(self._app, self._token, {**self._headers, "openstack-api-version": service_and_version})

    async def send(self, method: str, target: str, json: Any = None, **headers: str) -> Reply:
        """The answer, whatever its status."""
        sent = {**self._headers, **{key.replace("_", "-"): value for key, value in headers.items()}}
        if self._token:
            sent["x-auth-token"] = self._token
        if json is not None:
            sent.setdefault("content-type", "application/json")
        body = b"" if json is None else json if isinstance(json, bytes) else msgspec.json.encode(json)
        return await self._transport.send(method, target, sent, body)

    async def get(self, target: str, status: int = 200) -> Any:
        """The JSON body of a GET that must answer `status`."""
        return await self._expect("GET", target, None, status)

    async def post(self, target: str, json: Any, status: int) -> Any:
        return await self._expect("POST", target, json, status)

    async def put(self, target: str, json: Any, status: int = 200) -> Any:
        return await self._expect("PUT", target, json, status)

    async def patch(self, target: str, json: Any, status: int = 200) -> Any:
        return await self._expect("PATCH", target, json, status)

    async def delete(self, target: str, status: int = 204) -> Any:
        return await self._expect("DELETE", target, None, status)

    async def _expect(self, method: str, target: str, json: Any, status: int) -> Any:
        reply = await self.send(method, target, json)
        assert reply.status == status, f"{method} {target} answered {reply.status}: {reply.content[:600]!r}"
        is_json = reply.headers.get("content-type", "").startswith("application/json")
        return reply.json() if is_json else reply.content


def api_client(app: Any, token: str = "member") -> ApiClient:
    """A client of `app` that speaks with the persona `token`."""
    return ApiClient(app, token)
