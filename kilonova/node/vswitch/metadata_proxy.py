"""The metadata proxy: takes a guest's request inside a namespace, says who the guest is, asks the metadata API outside.

The guest is known by its source address, which anti-spoofing rules vouch for. Headers that carry identity are
stripped from what the guest sends and set from what `find` says; the instance id is signed with a secret that the
metadata API shares (https://docs.openstack.org/nova/latest/admin/metadata-service.html). One request per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httptools
import httpx

from kilonova.base.faults import Fault

log = logging.getLogger(__name__)

Find = Callable[[str, str, str], Awaitable[tuple[str, str] | None]]  # (network id, router id, address)
Headers = list[tuple[str, str]]

BODY_LIMIT_BYTES: Final = 1 << 20
HEAD_LIMIT_BYTES: Final = 32 << 10
REQUEST_TIMEOUT_SECONDS: Final = 30.0
CONNECTION_LIMIT: Final = 256  # per namespace
_OURS: Final = ("x-instance-id", "x-tenant-id", "x-forwarded-for", "x-real-ip", "x-metadata-provider")
_HOP: Final = ("connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "proxy-connection")
_REASONS: Final = {400: "Bad Request", 404: "Not Found", 413: "Content Too Large", 502: "Bad Gateway"}


@dataclass
class MetadataRequest:
    """What a guest asked, as it is sent on."""

    method: str
    path: str
    headers: Headers = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True)
class MetadataAnswer:
    """What the metadata API said."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


Forward = Callable[[MetadataRequest], Awaitable[MetadataAnswer]]


def sign(secret: str, server_id: str) -> str:
    """The X-Instance-ID-Signature of a server: HMAC-SHA256 of its id, in hex."""
    return hmac.new(secret.encode(), server_id.encode(), hashlib.sha256).hexdigest()


def forward_to(base_url: str, *, unix_socket: str = "", verify: Any = True) -> Forward:
    """Sends requests on to the metadata API at `base_url`, from the namespace of the event loop's thread.

    `verify` is the TLS context for `https://`.
    """
    transport = httpx.AsyncHTTPTransport(uds=unix_socket or None, retries=0, verify=verify)
    client = httpx.AsyncClient(base_url=base_url, transport=transport, timeout=REQUEST_TIMEOUT_SECONDS)

    async def forward(request: MetadataRequest) -> MetadataAnswer:
        answer = await client.request(
            request.method, request.path, headers=request.headers, content=request.body, follow_redirects=False
        )
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() != "content-encoding"]
        return MetadataAnswer(answer.status_code, headers, answer.content)

    return forward


class MetadataProxy:
    """Serves any number of namespaces; each listening socket belongs to one network or one router."""

    def __init__(self, forward: Forward, secret: str, find: Find | None = None) -> None:
        self.find = find
        self._forward, self._secret = forward, secret
        self._servers: dict[str, asyncio.Server] = {}

    def listens(self, namespace: str) -> bool:
        """Whether this process serves `namespace`."""
        return namespace in self._servers

    async def listen(
        self, namespace: str, listener: socket.socket, *, network_id: str = "", router_id: str = ""
    ) -> None:
        """Serve the requests that reach `listener`, a listening socket made inside `namespace`."""
        await self.forget(namespace)
        open_connections = asyncio.Semaphore(CONNECTION_LIMIT)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if not open_connections.locked():
                    async with open_connections, asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                        await self._serve(reader, writer, network_id, router_id)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass  # the guest went away, or was too slow: it tries again
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        self._servers[namespace] = await asyncio.start_server(connected, sock=listener)

    async def forget(self, namespace: str) -> None:
        """Serve `namespace` no more."""
        if server := self._servers.pop(namespace, None):
            server.close()

    async def close(self) -> None:
        """Serve nobody any more."""
        for namespace in list(self._servers):
            await self.forget(namespace)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, network_id: str, router_id: str
    ) -> None:
        ip = writer.get_extra_info("peername")[0]
        request = await _read(reader)
        if isinstance(request, int):
            answer = MetadataAnswer(request)
        else:
            answer = await self._answer(request, network_id, router_id, ip)
        _write(writer, answer)
        await writer.drain()

    async def _answer(self, request: MetadataRequest, network_id: str, router_id: str, ip: str) -> MetadataAnswer:
        try:
            found = await self.find(network_id, router_id, ip) if self.find else None
            if found is None:
                return MetadataAnswer(404)
            server_id, project_id = found
            request.headers = [pair for pair in request.headers if not _claims_identity(pair[0])] + [
                ("X-Instance-ID", server_id),
                ("X-Tenant-ID", project_id),
                ("X-Instance-ID-Signature", sign(self._secret, server_id)),
                ("X-Forwarded-For", ip),
            ]
            return await self._forward(request)
        except (Fault, httpx.HTTPError, OSError) as error:
            log.warning("metadata for %s failed: %r", ip, error)
            return MetadataAnswer(502)


def _claims_identity(name: str) -> bool:
    lowered = name.lower().replace("_", "-")
    return lowered.startswith(_OURS) or lowered in _HOP or lowered == "forwarded"


class _Parsed:
    """Callbacks of the parser."""

    def __init__(self) -> None:
        self.path = ""
        self.headers: Headers = []
        self.body = bytearray()
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def _read(reader: asyncio.StreamReader) -> MetadataRequest | int:
    """The guest's request, or the status that refuses it."""
    parsed, seen = _Parsed(), 0
    parser = httptools.HttpRequestParser(parsed)
    try:
        while not parsed.complete:
            data = await reader.read(16384)
            seen += len(data)
            if not data:
                return 400
            parser.feed_data(data)
            if len(parsed.body) > BODY_LIMIT_BYTES or seen - len(parsed.body) > HEAD_LIMIT_BYTES:
                return 413
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return 400
    path = parsed.path if parsed.path.startswith("/") else "/" + parsed.path.split("://", 1)[-1].partition("/")[2]
    return MetadataRequest(parser.get_method().decode(), path, parsed.headers, bytes(parsed.body))


def _write(writer: asyncio.StreamWriter, answer: MetadataAnswer) -> None:
    body = answer.body or (b"" if answer.status < 400 else _REASONS.get(answer.status, "Error").encode())
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'OK' if answer.status < 400 else 'Error')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in _HOP]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + body)
