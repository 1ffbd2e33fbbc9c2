"""uvicorn's protocol for HTTP/1.1 with less to do per request: it is what every request of the cloud passes.

A whole answer goes out in one write, its head is looked through for control characters once and not header by header,
and a connection that stays open has one timer, not a new one after each request. Bodies are handed over as they came,
and what is missing of a long one comes by a way of its own (long_body.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kilonova.cli.long_body import PIECE_BYTES, LongBody

# a line that a header's value brought along would be a header, or an answer, of whoever chose the value
_CONTROLS = bytes({*range(32), 127} - {ord("\t")})


class Server(uvicorn.Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Protocol(HttpToolsProtocol):
    """One connection."""

    _answered_at: float | None = None  # by the loop's clock; None while a request is under way
    _missing: int | None = None  # bytes of the body under way; None before its first piece

    def on_headers_complete(self) -> None:
        """A request's head is there: its application starts."""
        self._missing = None
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        if (version := self.parser.get_http_version()) != "1.1":
            scope["http_version"] = version
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = _Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # the client did not wait for the answer before
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def data_received(self, data: bytes) -> None:
        """What the client sent, for the parser; what is missing of a long body comes without it."""
        super().data_received(data)
        if self._missing and self._missing >= PIECE_BYTES and not self.transport.is_closing():
            self._speak_by(LongBody(self, self._missing))
            self._missing = None

    def long_body_ended(self) -> None:
        """A long body is whole: what comes now is the next request, of which a new parser knows the beginning."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._speak_by(self)
        self.on_message_complete()

    def _speak_by(self, protocol: asyncio.BaseProtocol) -> None:
        """Have what comes from now on told to `protocol`: a transport asks how when it begins to read."""
        reading = self.transport.is_reading()
        self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if reading:
            self.transport.resume_reading()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, kept as it is: uvicorn copies every byte into a buffer, and once more out of it."""
        if self._missing is None:
            self._missing = _length(self.headers)
        self._missing -= len(body)
        if not self.cycle.body:
            self.cycle.body, body = body, b""  # type: ignore[assignment]
        elif isinstance(self.cycle.body, bytes):  # more came before anybody took it
            self.cycle.body = bytearray(self.cycle.body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """An answer is out: the next request that came meanwhile, or the wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_next(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        """Something came. The timer stays: it looks, when its time comes, how long nothing did."""
        self._answered_at = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nobody asked anything for as long as one may be idle."""
        self.timeout_keep_alive_task = None
        if self._answered_at is None or self.transport.is_closing():
            return
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._wait_for_next(left)
        else:
            self.transport.close()

    def _wait_for_next(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """How long the head says that the body is; 0 when its end is found otherwise. The parser has refused what is no
    number, and a length beside an encoding."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    _head = b""  # goes out with the first bytes of the body, as ASGI asks for

    async def send(self, message: Any) -> None:
        """What the application says: first the head, then the body in one piece or many."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started and message["type"] == "http.response.start":
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._head_of(message["status"], message.get("headers", ()))
        elif self.response_started and not self.response_complete and message["type"] == "http.response.body":
            self._write(message.get("body", b""), last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is out of turn")

    def _head_of(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * len(lines):  # more than the ends of our lines
            raise RuntimeError("a header of the answer holds a control character")
        return head

    def _write(self, body: bytes, *, last: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if last else b"")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (last and self.expected_content_length):
                raise RuntimeError("the answer's body is not as long as its head says")
        if head and body:
            self.transport.writelines((head, body))
        elif head or body:
            self.transport.write(head or body)
        if not last:
            return
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
