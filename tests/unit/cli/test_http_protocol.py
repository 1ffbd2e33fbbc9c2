"""One connection as a client sees it: answers whole and in pieces, several requests, and what must not get through."""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from kilonova.cli.http_protocol import Protocol
from kilonova.cli.long_body import PIECE_BYTES
from tests.fake_cloud import free_port

IDLE_SECONDS = 1
LONG = random.Random(5).randbytes(2 * PIECE_BYTES + 12_345)
LEFT: asyncio.Queue[int] = asyncio.Queue()  # how much of a body had come when its client left


async def _application(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    body = b""
    if scope["method"] == "POST" and path != "/early":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                LEFT.put_nowait(len(body))
                return
            body, more = body + message["body"], message["more_body"]
    told = b"%b %b?%b %b" % (scope["method"].encode(), path.encode(), scope["query_string"], body)
    headers = [(b"content-type", b"text/plain")]
    if path in ("/whole", "/a b", "/short", "/slow"):
        headers.append((b"content-length", str(len(told) + (3 if path == "/short" else 0)).encode()))
    if path == "/inject":
        headers.append((b"x-name", b"you\r\nset-cookie: me"))
    if path == "/leave":
        headers.append((b"connection", b"close"))
    if path == "/slow":
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 204 if path == "/nothing" else 200, "headers": headers})
    if path == "/nothing":
        await send({"type": "http.response.body", "body": b""})
        return
    if path == "/pieces":
        for piece in (b"one,", b"two,", b""):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": told})


@asynccontextmanager
async def _serving() -> AsyncIterator[int]:
    port = free_port()
    config = uvicorn.Config(
        _application,
        port=port,
        http=Protocol,
        log_config=None,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE_SECONDS,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    async with asyncio.timeout(5):
        while True:
            await asyncio.sleep(0.01)
            if server.started:
                break
    try:
        yield port
    finally:
        server.should_exit = True
        await task


Ask = Callable[[bytes], Awaitable[tuple[bytes, bytes]]]


async def _answer(reader: StreamReader, method: bytes) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return head, body
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
    return head, b"" if method == b"HEAD" else await reader.readexactly(length)


@asynccontextmanager
async def _connection() -> AsyncIterator[tuple[Ask, StreamReader, StreamWriter]]:
    async with _serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(request: bytes) -> tuple[bytes, bytes]:
            writer.write(request)
            return await asyncio.wait_for(_answer(reader, request.split()[0]), 5)

        yield ask, reader, writer
        writer.close()


def _get(path: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return b"%b %b HTTP/%b\r\nHost: here\r\n\r\n" % (method, path, version)


async def test_one_connection_answers_again_and_again() -> None:
    async with _connection() as (ask, _, _):
        for _ in range(3):
            head, body = await ask(_get(b"/whole?x=1"))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection" not in head
            assert body == b"GET /whole?x=1 "
        assert (await ask(_get(b"/a%20b")))[1] == b"GET /a b? "
        assert (await ask(_get(b"/pieces")))[1] == b"one,two,GET /pieces? "
        assert (await ask(_get(b"/chosen")))[1] == b"GET /chosen? "
        head, body = await ask(_get(b"/whole", b"HEAD"))
        assert b"content-length: 13" in head and body == b""
        head, body = await ask(_get(b"/nothing"))
        assert head.startswith(b"HTTP/1.1 204") and b"chunked" not in head and body == b""
        posted = b"POST /whole HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello"
        assert (await ask(posted))[1] == b"POST /whole? hello"


async def test_requests_that_do_not_wait_are_answered_in_order() -> None:
    async with _connection() as (ask, reader, writer):
        writer.write(_get(b"/slow?1") + _get(b"/whole?2") + _get(b"/pieces?3"))
        bodies = [(await asyncio.wait_for(_answer(reader, b"GET"), 5))[1] for _ in range(3)]
        assert bodies == [b"GET /slow?1 ", b"GET /whole?2 ", b"one,two,GET /pieces?3 "]
        assert (await ask(_get(b"/whole?4")))[1] == b"GET /whole?4 "


@pytest.mark.parametrize("request_", [_get(b"/leave"), _get(b"/whole", version=b"1.0")])
async def test_a_connection_ends_when_either_side_asks(request_: bytes) -> None:
    async with _connection() as (ask, reader, _):
        head, body = await ask(request_)
        assert head.count(b"connection: close") == 1 and body.startswith(b"GET /")
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_value_cannot_bring_a_header_of_its_own() -> None:
    async with _connection() as (_, reader, writer):
        writer.write(_get(b"/inject"))
        assert b"set-cookie" not in await asyncio.wait_for(reader.read(), 5)


async def test_a_body_that_is_shorter_than_promised_ends_the_connection() -> None:
    async with _connection() as (_, reader, writer):
        writer.write(_get(b"/short"))
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_who_asks_nothing_for_long_is_let_go_and_who_asks_stays() -> None:
    async with _connection() as (ask, reader, _):
        began = time.monotonic()
        for _ in range(6):  # longer in all than one may be idle
            await ask(_get(b"/whole"))
            await asyncio.sleep(IDLE_SECONDS / 4)
        assert not reader.at_eof()
        idle_since = time.monotonic()
        assert idle_since - began > IDLE_SECONDS
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert time.monotonic() - idle_since > IDLE_SECONDS / 2


async def test_what_is_not_http_is_refused() -> None:
    async with _connection() as (_, reader, writer):
        writer.write(b"hello there\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")


def _post(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


@pytest.mark.parametrize("cut", [40, 150, 70_000, PIECE_BYTES, PIECE_BYTES + 100_000, 2 * PIECE_BYTES + 12_400])
async def test_a_long_body_comes_whole_however_it_is_cut_and_the_next_request_is_its_own(cut: int) -> None:
    async with _connection() as (ask, reader, writer):
        sent = _post(b"/whole", LONG) + _get(b"/whole?next") + _post(b"/whole", LONG[5:]) + _post(b"/whole", b"x")
        for start in range(0, len(sent), cut):
            writer.write(sent[start : start + cut])
            if cut > 1000 or start < 500:
                await asyncio.sleep(0.001)
        bodies = [(await asyncio.wait_for(_answer(reader, b"POST"), 20))[1] for _ in range(4)]
        assert bodies == [b"POST /whole? " + LONG, b"GET /whole?next ", b"POST /whole? " + LONG[5:], b"POST /whole? x"]
        assert (await ask(_get(b"/whole?after")))[1] == b"GET /whole?after "


async def test_who_is_answered_before_the_end_of_a_long_body_may_send_the_rest_and_ask_again() -> None:
    async with _connection() as (ask, reader, writer):
        sent = _post(b"/early", LONG)
        writer.write(sent[:1000])
        assert (await asyncio.wait_for(_answer(reader, b"POST"), 5))[1] == b"POST /early? "
        writer.write(sent[1000:])
        assert (await ask(_get(b"/whole?after")))[1] == b"GET /whole?after "


async def test_a_client_that_leaves_amid_a_long_body_is_noticed() -> None:
    async with _connection() as (_, _, writer):
        writer.write(_post(b"/whole", LONG)[: 2 * PIECE_BYTES])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        assert 0 < await asyncio.wait_for(LEFT.get(), 5) < len(LONG)
