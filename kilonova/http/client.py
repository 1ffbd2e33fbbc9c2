"""Client: how services ask each other over REST. One client, two transports: HTTP, or a direct in-process ASGI call.

Both pass token, policy and types on the other side; error answers come back as Faults of the same kind.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import httpcore
import msgspec

from kilonova.base.faults import Fault, Kind
from kilonova.base.patience import AWAY, away
from kilonova.trace import spans

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

_KINDS = {
    400: Kind.INVALID,
    401: Kind.UNAUTHENTICATED,
    403: Kind.FORBIDDEN,
    404: Kind.NOT_FOUND,
    409: Kind.CONFLICT,
    413: Kind.TOO_LARGE,
    429: Kind.BUSY,
    500: Kind.BUG,
}
KEPT_SECONDS = 5.0  # how long a connection that nobody uses stays open
_AS_IS = "/?%:=&~#+!$,;'@()*[]|"  # in a request's target, beside letters and digits; what else it holds is quoted
_SILENCES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


class Reply(msgspec.Struct):
    """A successful answer."""

    status: int
    headers: dict[str, str]  # lower-case names
    content: bytes

    def json(self) -> Any:
        """The body as JSON; None when empty."""
        return msgspec.json.decode(self.content) if self.content else None


class Transport(Protocol):
    """Sends one request."""

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply: ...

    def stream(self, method: str, target: str, headers: Mapping[str, str]) -> AsyncIterator[Reply | bytes]:
        """First a Reply without content, then chunks."""
        ...

    async def upload(self, method: str, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Reply:
        """Like `send`, with a body that is sent as it comes."""
        ...

    async def close(self) -> None: ...


class Client:
    """Speaks to one service. `token` may be given per call; the trace goes along."""

    def __init__(self, transport: Transport, *, service_token: Callable[[], Awaitable[str]] | None = None) -> None:
        self._transport = transport
        self._service_token = service_token

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        json: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str = "",
    ) -> Reply:
        """The answer when it is 2xx or 300; otherwise a Fault of the matching kind with the peer's sentence."""
        sent = await self._headers(token, headers, idempotency_key)
        body = b""
        if json is not None:
            body = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        target = f"{path}?{urlencode(query)}" if query else path
        reply = await self._transport.send(method, target, sent, body)
        if reply.status > 300:
            raise fault_from(reply, f"{method} {path}")
        return reply

    async def send_bytes(
        self, method: str, path: str, data: bytes, *, token: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Like `request`, for a body that is not JSON; `headers` say its content type."""
        reply = await self._transport.send(method, path, await self._headers(token, headers, ""), data)
        if reply.status > 300:
            raise fault_from(reply, f"{method} {path}")
        return reply

    async def upload(self, path: str, chunks: AsyncIterator[bytes], *, token: str = "") -> Reply:
        """The answer to a PUT of bytes that are sent as they come."""
        headers = await self._headers(token, {"content-type": "application/octet-stream"}, "")
        reply = await self._transport.upload("PUT", path, headers, chunks)
        if reply.status > 300:
            raise fault_from(reply, f"PUT {path}")
        return reply

    async def stream(self, path: str, *, token: str = "") -> AsyncIterator[bytes]:
        """The body of a GET in chunks."""
        first = True
        async for part in self._transport.stream("GET", path, await self._headers(token, None, "")):
            if first:
                first = False
                if isinstance(part, Reply) and part.status > 300:
                    raise fault_from(part, f"GET {path}")
            elif isinstance(part, bytes):
                yield part

    async def _headers(self, token: str, headers: Mapping[str, str] | None, idempotency_key: str) -> dict[str, str]:
        sent = {"accept": "application/json", **(headers or {})}
        if token:
            sent["x-auth-token"] = token
        if idempotency_key:
            sent["idempotency-key"] = idempotency_key
        if self._service_token is not None and token:
            sent["x-service-token"] = await self._service_token()
        if context := spans.current():
            sent["traceparent"] = context.traceparent
            sent["x-kilonova-participant"] = context.participant
        return sent

    async def close(self) -> None:
        """Let go of connections."""
        await self._transport.close()


def fault_from(reply: Reply, asked: str) -> Fault:
    """The Fault that an error answer of any of the services stands for."""
    message, code = f"{asked} answered {reply.status}", ""
    try:
        body = reply.json()
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict):
        message, code = _sentence(body, message)
    kind = _KINDS.get(reply.status, Kind.UNAVAILABLE if reply.status in (502, 503, 504) else Kind.BUG)
    if kind is Kind.UNAVAILABLE:
        code = AWAY
    if kind is Kind.FORBIDDEN and message.startswith("Quota exceeded"):
        kind = Kind.OVER_QUOTA
    return Fault(
        kind, message, code=code, inside=f"{asked} answered {reply.status}", data={"peer_status": reply.status}
    )


def _sentence(body: dict[str, Any], otherwise: str) -> tuple[str, str]:
    if isinstance(errors := body.get("errors"), list) and errors:
        return str(errors[0].get("detail", otherwise)), str(errors[0].get("code", ""))
    if isinstance(body.get("message"), str):
        return body["message"], ""
    for value in body.values():
        if isinstance(value, dict) and "message" in value:
            return str(value["message"]), str(value.get("type", ""))
    return otherwise, ""


class AsgiTransport:
    """Calls an application in this process; `prefix` is where it is mounted (for the links it makes)."""

    def __init__(self, app: Asgi, *, origin: str = "http://localhost", prefix: str = "") -> None:
        self._app = app
        self._host = urlsplit(origin).netloc.encode()
        self._scheme = urlsplit(origin).scheme
        self._prefix = prefix

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._ask(self._scope(method, target, headers, len(body)), receive)

    async def upload(self, method: str, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Reply:
        async def receive() -> MutableMapping[str, Any]:
            chunk = await anext(chunks, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        return await self._ask(self._scope(method, target, headers, None), receive)

    async def _ask(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]]) -> Reply:
        status, got, parts = 500, {}, []

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, got
            if message["type"] == "http.response.start":
                status = message["status"]
                got = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
            elif chunk := message.get("body"):
                parts.append(chunk)

        await self._app(scope, receive, send)
        return Reply(status, got, parts[0] if len(parts) == 1 else b"".join(parts))

    async def stream(self, method: str, target: str, headers: Mapping[str, str]) -> AsyncIterator[Reply | bytes]:
        pipe: asyncio.Queue[Reply | bytes | None] = asyncio.Queue(4)
        refusal: list[Reply] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                got = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
                reply = Reply(message["status"], got, b"")
                if reply.status > 300:
                    refusal.append(reply)
                else:
                    await pipe.put(reply)
            elif (chunk := message.get("body")) and refusal:
                refusal[0].content += chunk
            elif chunk:
                await pipe.put(chunk)

        async def run() -> None:
            try:
                await self._app(self._scope(method, target, headers, 0), receive, send)
                if refusal:
                    await pipe.put(refusal[0])
            finally:
                await pipe.put(None)

        work = asyncio.get_running_loop().create_task(run())
        try:
            while (part := await pipe.get()) is not None:
                yield part
            await work
        finally:
            work.cancel()

    def _scope(self, method: str, target: str, headers: Mapping[str, str], length: int | None) -> dict[str, Any]:
        path, _, query = target.partition("?")
        raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()]
        sized = [] if length is None else [(b"content-length", str(length).encode())]
        return {
            "type": "http",
            "method": method,
            "path": self._prefix + path,
            "root_path": self._prefix,
            "query_string": query.encode(),
            "scheme": self._scheme,
            "headers": [*raw, (b"host", self._host), *sized],
        }

    async def close(self) -> None:
        """Nothing is open."""


class HttpTransport:
    """Speaks HTTP to a service elsewhere. `verify`: an SSL context; True is the machine's usual authorities."""

    def __init__(self, base_url: str, *, timeout_seconds: float = 60.0, verify: ssl.SSLContext | bool = True) -> None:
        self._base_url = base_url.rstrip("/")
        parts = urlsplit(self._base_url)
        self._path = parts.path
        self._origin = (parts.scheme.encode(), (parts.hostname or "").encode(), parts.port)
        self._host = parts.netloc.rpartition("@")[2].encode()
        self._timeout = dict.fromkeys(("connect", "read", "write", "pool"), timeout_seconds)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify if isinstance(verify, ssl.SSLContext) else None,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=KEPT_SECONDS,
        )

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        sized = body or method in ("POST", "PUT", "PATCH")  # with a length, be it 0
        return await self._send(method, target, headers, body if sized else None, self._timeout)

    async def upload(self, method: str, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Reply:
        return await self._send(method, target, headers, chunks, {})

    async def _send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
        timeout: dict[str, float],
    ) -> Reply:
        about: Any = {"timeout": timeout}
        sent = self._headers(headers)
        try:
            answer = await self._pool.request(method, self._url(target), headers=sent, content=body, extensions=about)
        except _SILENCES as error:
            raise self._silent(error) from error
        return Reply(answer.status, _named(answer.headers), answer.content)

    async def stream(self, method: str, target: str, headers: Mapping[str, str]) -> AsyncIterator[Reply | bytes]:
        about: Any = {"timeout": self._timeout}
        asked = self._pool.stream(method, self._url(target), headers=self._headers(headers), extensions=about)
        try:
            async with asked as answer:
                if answer.status > 300:
                    yield Reply(answer.status, _named(answer.headers), await answer.aread())
                    return
                yield Reply(answer.status, _named(answer.headers), b"")
                async for chunk in answer.aiter_stream():
                    yield chunk
        except _SILENCES as error:
            raise self._silent(error) from error

    def _url(self, target: str) -> httpcore.URL:
        scheme, host, port = self._origin
        return httpcore.URL(scheme=scheme, host=host, port=port, target=quote(self._path + target, _AS_IS).encode())

    def _headers(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        return [(b"host", self._host), *((k.encode(), v.encode("latin-1")) for k, v in headers.items())]

    def _silent(self, error: Exception) -> Fault:
        return away("A service that this request needs does not answer.", inside=f"{self._base_url}: {error!r}")

    async def close(self) -> None:
        await self._pool.aclose()


def _named(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By lower-case name; what came several times is one line, as HTTP lets it."""
    named: dict[str, str] = {}
    for key, value in headers:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        named[name] = f"{named[name]}, {text}" if name in named else text
    return named
