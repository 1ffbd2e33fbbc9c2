"""Client: how services ask each other over REST. One client, two transports: HTTP, or a direct in-process ASGI call.

Both pass token, policy and types on the other side; error answers come back as Faults of the same kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from kilonova.base.faults import Fault, Kind, unavailable
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
    """Speaks HTTP to a service elsewhere."""

    def __init__(self, base_url: str, *, timeout_seconds: float = 60.0, verify: Any = True) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        plain = urlsplit(base_url).scheme == "http"  # nothing to check; what would check it takes 2 MB for each client
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            timeout=timeout_seconds,
            limits=limits,
            verify=False if plain else verify,
            trust_env=False,
        )
        self._base_url = base_url

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            answer = await self._http.request(method, target, headers=dict(headers), content=body)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        return Reply(answer.status_code, dict(answer.headers), answer.content)

    async def upload(self, method: str, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Reply:
        try:
            answer = await self._http.request(method, target, headers=dict(headers), content=chunks, timeout=None)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        return Reply(answer.status_code, dict(answer.headers), answer.content)

    async def stream(self, method: str, target: str, headers: Mapping[str, str]) -> AsyncIterator[Reply | bytes]:
        try:
            async with self._http.stream(method, target, headers=dict(headers)) as answer:
                if answer.status_code > 300:
                    yield Reply(answer.status_code, dict(answer.headers), await answer.aread())
                    return
                yield Reply(answer.status_code, dict(answer.headers), b"")
                async for chunk in answer.aiter_bytes():
                    yield chunk
        except httpx.HTTPError as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> Fault:
        return unavailable("A service that this request needs does not answer.", inside=f"{self._base_url}: {error!r}")

    async def close(self) -> None:
        await self._http.aclose()
