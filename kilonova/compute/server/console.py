"""Consoles: the guest's console log, and a URL with a token that opens its screen once, for a short time."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from kilonova.base.faults import conflict, invalid
from kilonova.compute.core import Compute
from kilonova.compute.server import console_store, states
from kilonova.compute.server.begin import ADMIN, load
from kilonova.compute.server.store import Server
from kilonova.http.request import Request
from kilonova.http.route import Route
from kilonova.policy.personas import PROJECT_MEMBER_OR_ADMIN
from kilonova.policy.rules import Rule


class Length(msgspec.Struct, forbid_unknown_fields=True):
    """The argument of os-getConsoleOutput: how many lines from the end; none or -1: all."""

    length: int | str | None = None


class VncType(msgspec.Struct, forbid_unknown_fields=True):
    """The argument of os-getVNCConsole."""

    type: str


class RemoteConsole(msgspec.Struct, forbid_unknown_fields=True):
    """{"remote_console": {…}} of POST remote-consoles."""

    protocol: str
    type: str


async def output(compute: Compute, request: Request[Length]) -> dict[str, Any]:
    """POST action os-getConsoleOutput."""
    server = await load(compute, request)
    length = _length(request.body)
    if not server.host:
        raise conflict(f"Instance {server.id} is not ready", hint="Wait until it is on a host.")
    text = await compute.agent(server.host).get_console_output(server.id, length)
    return {"output": "".join(one for one in text if one in "\t\n\r" or ord(one) >= 32)}


def _length(body: Length | None) -> int | None:
    length = body.length if body else None
    if length is None or length == "":
        return None
    text = str(length)
    if not (text.lstrip("-").isascii() and text.lstrip("-").isdigit()) or int(text) < -1 or len(text) > 12:
        raise invalid(f"Invalid input for field os-getConsoleOutput.length: {text[:20]!r} is not a number of lines.")
    return None if int(text) == -1 else int(text)


async def vnc(compute: Compute, request: Request[VncType]) -> dict[str, Any]:
    """POST action os-getVNCConsole (up to 2.5)."""
    server = await load(compute, request)
    url = await _vnc_url(compute, request, server, request.body.type)
    return {"console": {"type": request.body.type, "url": url}}


async def remote(compute: Compute, request: Request[RemoteConsole]) -> dict[str, Any]:
    """POST /servers/{id}/remote-consoles (from 2.6)."""
    server = await load(compute, request)
    body = request.body
    if body.protocol != "vnc":
        raise invalid(f"Invalid input for field protocol: {body.protocol[:20]!r} is not offered here.", hint="Use vnc.")
    url = await _vnc_url(compute, request, server, body.type)
    return {"remote_console": {"protocol": "vnc", "type": body.type, "url": url}}


async def _vnc_url(compute: Compute, request: Request[Any], server: Server, kind: str) -> str:
    if kind != "novnc":
        raise invalid(f"Invalid input for field type: {kind[:20]!r} is not offered here.", hint="Use novnc.")
    states.check("console", server.now(), admin=request.allows(ADMIN))
    token = compute.world.ids.secret()
    expires_at = compute.world.clock.now() + timedelta(seconds=compute.settings.console_seconds)
    hashed = hashlib.sha256(token.encode()).hexdigest()
    await compute.db.write(console_store.insert, hashed, (server.id, server.host), kind, expires_at)
    base = compute.settings.console_base.rstrip("/")
    mounted = urlsplit(base).path.lstrip("/")  # noVNC resolves its path against the server's root
    path = quote(f"{mounted}/websockify?token={token}".lstrip("/"), safe="")
    return f"{base}/vnc_lite.html?path={path}"


_OUTPUT = "os_compute_api:os-console-output"
_REMOTE = "os_compute_api:os-remote-consoles"
_ACTION = "/servers/{server_id}/action"
_CONSOLES = "/servers/{server_id}/remote-consoles"
ROUTES = (
    Route(method="POST", path=_ACTION, handler=output, policy=_OUTPUT, action="os-getConsoleOutput", body=Length),
    Route(
        method="POST", path=_ACTION, handler=vnc, policy=_REMOTE, action="os-getVNCConsole", body=VncType, until="2.5"
    ),
    Route(
        method="POST",
        path=_CONSOLES,
        handler=remote,
        policy=_REMOTE,
        body=RemoteConsole,
        envelope="remote_console",
        since="2.6",
    ),
)
RULES = (
    Rule(_OUTPUT, PROJECT_MEMBER_OR_ADMIN, "Show a server's console log", (("POST", _ACTION),)),
    Rule(_REMOTE, PROJECT_MEMBER_OR_ADMIN, "Open a server's console", (("POST", _CONSOLES),)),
)
