"""A process' admin port on loopback: /healthz, /readyz, /metrics and /status, one question for each connection.

Every process of a cluster has one, also those that serve no API: an HTTP server with all that it loads would be 3 MiB
in each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec

from kilonova.cli.state import refuse_port_in_use
from kilonova.trace import metrics

Describe = Callable[[], Awaitable[dict[str, Any]]]
Problems = Callable[[], Awaitable[list[str]]]
Answer = tuple[HTTPStatus, str, bytes]  # status, content type, body

HEAD_BYTES = 8192
ASK_SECONDS = 5.0  # how long a question may take to arrive


class AdminPort:
    """Listens from `start` to `close`. CONFLICT when another program has the port."""

    def __init__(self, port: int, describe: Describe, problems: Problems) -> None:
        self._port = port
        self._describe = describe
        self._problems = problems
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listening when it returns."""
        refuse_port_in_use("127.0.0.1", self._port)
        metrics.watch("descriptors", lambda: len(os.listdir("/proc/self/fd")))
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=HEAD_BYTES)

    async def close(self) -> None:
        """Listening no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_written(head, await self._answer(head)))
            await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # whoever asked left, or asks too slowly or too much
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> Answer:
        method, path = asked(head)
        if not path:
            return _text(HTTPStatus.BAD_REQUEST, "This is no HTTP request.")
        if method not in ("GET", "HEAD"):
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is answered here.")
        if path == "/healthz":
            return _text(HTTPStatus.OK, "ok")
        if path == "/readyz":
            wrong = await self._problems()
            status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
            return _json(status, {"ready": not wrong, "problems": wrong})
        if path == "/status":
            return _json(HTTPStatus.OK, await self._describe())
        if path == "/metrics":
            return HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition()
        return _text(HTTPStatus.NOT_FOUND, "There are /healthz, /readyz, /status and /metrics.")


def asked(head: bytes) -> tuple[str, str]:
    """(method, path without its query) of a request's head; ("", "") when its first line is none of HTTP/1."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return "", ""
    return words[0], words[1].partition("?")[0]


def _written(head: bytes, answer: Answer) -> bytes:
    status, kind, body = answer
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close\r\n\r\n",
    )
    return "\r\n".join(lines).encode() + (b"" if head.startswith(b"HEAD ") else body)


def _text(status: HTTPStatus, sentence: str) -> Answer:
    return status, "text/plain; charset=utf-8", f"{sentence}\n".encode()


def _json(status: HTTPStatus, body: Any) -> Answer:
    return status, "application/json", msgspec.json.encode(body)
