"""The noVNC proxy: serves the console page, and joins a browser's websocket to a guest's VNC on its host.

A console URL is `BASE/vnc_lite.html?path=PREFIX/websockify%3Ftoken%3DTOKEN`, where PREFIX is empty unless the app is
mounted below a path. The token is the credential: it is checked and used up by conductor when the websocket opens, so
serve this app without an access log, and with `ws_max_size=MAX_FRAME_BYTES`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import mimetypes
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.base.world import World
from kilonova.compute.contract import ComputeAgent, Conductor, Screen

log = logging.getLogger(__name__)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, Screen], Awaitable[Stream]]  # (host, its guest's screen)

MAX_FRAME_BYTES = 1 << 20  # a browser sends keys, mouse moves and the clipboard
READ_BYTES = 64 << 10
SOCKET_PATHS = ("/websockify", "/")  # ours, and the one that older console URLs name
PAGE_SUFFIXES = {".html", ".js", ".css", ".svg", ".png", ".json", ".ttf", ".woff", ".oga", ".mp3"}
STATUS = {Kind.NOT_FOUND: 404, Kind.CONFLICT: 409, Kind.FORBIDDEN: 403, Kind.UNAVAILABLE: 503, Kind.BUSY: 503}
# RFC 6455 §7.4.1
CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_NOT_BINARY, CLOSE_TOO_BIG = 1000, 1001, 1003, 1009


@dataclass(frozen=True)
class Page:
    """A file of the noVNC page, as it is answered."""

    body: bytes
    media_type: str
    policy: str


@dataclass(frozen=True)
class ConsoleProxySettings:
    """`allowed_hosts`: host names a browser's page may come from; empty means the one it asked for.

    `framed_by`: origins that may show a console in a frame, besides our own. `session_seconds`: a session ends after
    that, 0 never.
    """

    allowed_hosts: tuple[str, ...] = ()
    framed_by: tuple[str, ...] = ()
    sessions: int = 200
    session_seconds: float = 0
    connect_seconds: float = 10


def content_policy(html: str, framed_by: Collection[str]) -> str:
    """A Content-Security-Policy under which exactly the page's own inline scripts run, and it talks to us only."""
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", html, re.DOTALL | re.IGNORECASE)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts if script]
    allowed = " ".join(["'self'", *(f"'sha256-{value}'" for value in hashes)])
    framing = " ".join(["'self'", *framed_by])
    return (
        f"default-src 'self'; script-src {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        f"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors {framing}"
    )


def read_pages(directory: Path, framed_by: Collection[str] = ()) -> dict[str, Page]:
    """Every servable file below `directory`, by URL path. Read once, so no request can name any other file."""
    if not (directory / "vnc_lite.html").is_file():
        raise unavailable(f"The noVNC page is not in {directory}.", hint="Run scripts/setup, or set its directory.")
    pages = {}
    for path in sorted(directory.rglob("*")):
        if path.suffix in PAGE_SUFFIXES and path.is_file():
            body = path.read_bytes()
            kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
            html = body.decode(errors="replace") if path.suffix == ".html" else ""
            key = f"/{path.relative_to(directory).as_posix()}"
            pages[key] = Page(body, kind or "application/octet-stream", content_policy(html, framed_by))
    return pages


@dataclass(eq=False)
class Session:
    """One open console."""

    server_id: str
    ended: asyncio.Event


class ConsoleProxy:
    """The ASGI app. `agent(host)` reaches a host's compute agent; `connect` opens a stream to a screen of a host."""

    def __init__(
        self,
        world: World,
        conductor: Conductor,
        agent: Callable[[str], ComputeAgent],
        connect: Connect,
        pages: Mapping[str, Page],
        settings: ConsoleProxySettings | None = None,
    ) -> None:
        self._world = world
        self._conductor = conductor
        self._agent = agent
        self._connect = connect
        self._pages = pages
        self._settings = settings or ConsoleProxySettings()
        self._sessions: set[Session] = set()
        self._opening = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a page request or run a console session."""
        if scope["type"] == "http":
            await self._page(scope)(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._console(WebSocket(scope, receive, send))

    def sessions(self) -> int:
        """How many consoles are open or opening."""
        return len(self._sessions) + self._opening

    def end_sessions(self, server_id: str) -> int:
        """Close the open consoles of a server (deleted, migrated, tokens withdrawn); answers how many there were."""
        ending = [session for session in self._sessions if session.server_id == server_id]
        for session in ending:
            session.ended.set()
        return len(ending)

    # ── the page

    def _page(self, scope: Scope) -> Response:
        page = self._pages.get(_path(scope))
        if page is None:
            return PlainTextResponse("Not found.\n", 404, headers=_safe("default-src 'none'"))
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET.\n", 405, headers={"allow": "GET, HEAD", **_safe("default-src 'none'")})
        return Response(page.body, media_type=page.media_type, headers=_safe(page.policy))

    # ── the websocket

    async def _console(self, socket: WebSocket) -> None:
        refused = self._refusal(socket)
        if refused:
            await _deny(socket, *refused)
            return
        self._opening += 1
        try:
            server_id, (reader, writer) = await self._open(_token(socket))
        except Fault as fault:
            log.info("console refused: %s", fault)
            await _deny(socket, STATUS.get(fault.kind, 502), fault.told)
            return
        finally:
            self._opening -= 1
        session = Session(server_id, asyncio.Event())
        self._sessions.add(session)
        log.info("console of server %s opened", server_id)
        try:
            await socket.accept("binary" if "binary" in socket.scope.get("subprotocols", ()) else None)
            await _close(socket, await self._join(socket, reader, writer, session))
        finally:
            self._sessions.discard(session)
            writer.close()
            log.info("console of server %s closed", server_id)

    def _refusal(self, socket: WebSocket) -> tuple[int, str] | None:
        """Status and text when the request is wrong before its token is looked at (and so is not used up)."""
        if _path(socket.scope) not in SOCKET_PATHS:
            return 404, "Not found."
        if not self._origin_allowed(socket.headers.get("origin"), socket.headers.get("host", "")):
            return 403, "A page from that origin may not open consoles here."
        if self.sessions() >= self._settings.sessions:
            return 503, "Too many consoles are open. Close one, or try again later."
        if not _token(socket):
            return 403, "The console URL has no token. Ask for a new one."
        return None

    def _origin_allowed(self, origin: str | None, host: str) -> bool:
        """Browsers always send their page's origin; other clients have none, and the token speaks for them."""
        if origin is None:
            return True
        try:
            page = urlsplit(origin)
            allowed = self._settings.allowed_hosts or (urlsplit(f"//{host}").hostname or "",)
        except ValueError:
            return False
        return page.scheme in ("http", "https") and bool(page.hostname) and page.hostname in allowed

    async def _open(self, token: str) -> tuple[str, Stream]:
        """(server id, stream to its VNC). FORBIDDEN for a token that is unknown, expired or used."""
        opened = await self._conductor.check_console(token)
        if opened is None:
            raise Fault(Kind.FORBIDDEN, "The console token is unknown, expired or used.", hint="Ask for a new console.")
        server_id, host = opened
        screen = await self._agent(host).get_vnc_console(server_id)
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                reader, writer = await self._connect(host, screen)
                if screen.ticket:
                    writer.write(f"{screen.ticket}\n".encode())
                return server_id, (reader, writer)
        except (OSError, TimeoutError) as error:
            inside = f"{host} {screen.address}:{screen.port}: {error or type(error).__name__}"
            raise unavailable("The server's console does not answer.", hint="Is it running?", inside=inside) from error

    async def _join(
        self, socket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session
    ) -> int:
        """Pump both ways until either end closes, the session is ended or its time is up; answers the close code."""
        async with asyncio.TaskGroup() as group:
            ends = [
                group.create_task(_to_browser(reader, socket)),
                group.create_task(_to_guest(socket, writer)),
                group.create_task(self._until_ended(session)),
            ]
            done, running = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                task.cancel()
        return min(task.result() for task in done)

    async def _until_ended(self, session: Session) -> int:
        if not self._settings.session_seconds:
            await session.ended.wait()
            return CLOSE_GOING_AWAY
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._world.clock.sleep(self._settings.session_seconds))
            ended = group.create_task(session.ended.wait())
            _, running = await asyncio.wait([timer, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                task.cancel()
        return CLOSE_GOING_AWAY


async def _to_browser(reader: asyncio.StreamReader, socket: WebSocket) -> int:
    """Each read is sent before the next one: a slow browser slows the guest's VNC, nothing piles up here."""
    try:
        while data := await reader.read(READ_BYTES):
            await socket.send_bytes(data)
    except (OSError, WebSocketDisconnect, RuntimeError):
        return CLOSE_GOING_AWAY
    return CLOSE_NORMAL


async def _to_guest(socket: WebSocket, writer: asyncio.StreamWriter) -> int:
    try:
        while (message := await socket.receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            if data is None:
                return CLOSE_NOT_BINARY
            if len(data) > MAX_FRAME_BYTES:
                return CLOSE_TOO_BIG
            writer.write(data)
            await writer.drain()
    except OSError:
        return CLOSE_GOING_AWAY
    return CLOSE_NORMAL


def _path(scope: Scope) -> str:
    """The request's path below the place where this app is mounted."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def _token(socket: WebSocket) -> str:
    query = parse_qs(socket.scope.get("query_string", b"").decode("latin-1"))
    return str(query.get("token", [""])[0])


def _safe(policy: str) -> dict[str, str]:
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",  # the page's own URL carries the token
        "cache-control": "no-cache",
    }


async def _deny(socket: WebSocket, status: int, text: str) -> None:
    """Refuse before the handshake; a server without the denial extension answers 403 by itself."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(PlainTextResponse(f"{text}\n", status, headers=_safe("default-src 'none'")))
    else:
        await socket.close()


async def _close(socket: WebSocket, code: int) -> None:
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    try:
        await socket.close(code)
    except (OSError, RuntimeError, WebSocketDisconnect):
        log.debug("browser was gone first")
