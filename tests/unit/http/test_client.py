"""One client over two transports: in this process, and over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import AsgiTransport, Client, HttpTransport
from tests.unit.http.door import door


@pytest.fixture(params=["asgi", "http"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "asgi":
        yield Client(AsgiTransport(door()))
        return
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(door(), log_level="error", lifespan="off"))
    serving = asyncio.ensure_future(server.serve([listening]))
    made = Client(HttpTransport(f"http://127.0.0.1:{listening.getsockname()[1]}"))
    try:
        yield made
    finally:
        await made.close()
        server.should_exit = True
        await serving
        listening.close()


async def test_an_answer(client: Client) -> None:
    reply = await client.request("POST", "/lamps", token="alice", json={"lamp": {"name": "Tür"}})
    assert reply.status == 201
    assert reply.json()["lamp"]["name"] == "Tür"


async def test_no_content_is_none(client: Client) -> None:
    reply = await client.request("DELETE", "/lamps/1", token="alice")
    assert (reply.status, reply.json()) == (204, None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/candles", Kind.NOT_FOUND), ("/forbidden", Kind.FORBIDDEN), ("/clash", Kind.CONFLICT), ("/explode", Kind.BUG)],
)
async def test_a_refusal_is_a_fault_of_the_same_kind(client: Client, path: str, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        await client.request("GET", path, token="alice")
    assert caught.value.kind is kind
    if kind is Kind.CONFLICT:
        assert caught.value.message == "The lamp is locked. Unlock it."


async def test_no_token_is_unauthenticated(client: Client) -> None:
    with pytest.raises(Fault) as caught:
        await client.request("GET", "/lamps/1")
    assert caught.value.kind is Kind.UNAUTHENTICATED


async def test_a_stream_arrives_whole_and_in_order(client: Client) -> None:
    got = b"".join([chunk async for chunk in client.stream("/files/a/b", token="alice")])
    assert got == b"".join(bytes([number]) * 10_000 for number in range(50))


async def test_a_stream_that_is_refused_is_a_fault_with_the_peers_sentence(client: Client) -> None:
    with pytest.raises(Fault, match="locked") as caught:
        async for _ in client.stream("/clash", token="alice"):
            raise AssertionError("nothing was to come")
    assert caught.value.kind is Kind.CONFLICT


async def test_leaving_a_stream_early_leaves_the_client_usable(client: Client) -> None:
    stream = client.stream("/files/a", token="alice")
    assert await anext(aiter(stream))
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await client.request("GET", "/lamps/1", token="alice")).status == 200


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(HttpTransport(f"http://127.0.0.1:{port}"))
    with pytest.raises(Fault) as caught:
        await client.request("GET", "/lamps")
    await client.close()
    assert caught.value.kind is Kind.UNAVAILABLE
    assert str(port) not in caught.value.told
    assert str(port) in caught.value.inside


async def test_what_goes_over_the_wire() -> None:
    """A target that no request line could hold is quoted, what is quoted stays; an empty body has a length too."""
    heads = list[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 204 No Content\r\nX-Seen: 1\r\nx-seen: 2\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}/volume/v3/")
    reply = await transport.send("POST", "/a b/Tür/c%2Fd?name=x%20y&z=[1]", {"x-auth-token": "t"}, b"")
    assert reply.headers["x-seen"] == "1, 2"
    await transport.send("GET", "/", {}, b"")
    await transport.close()
    server.close()
    post, get = heads
    assert post.startswith("POST /volume/v3/a%20b/T%C3%BCr/c%2Fd?name=x%20y&z=[1] HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}\r\n" in post and "Content-Length: 0\r\n" in post and "x-auth-token: t" in post
    assert get.startswith("GET /volume/v3/ HTTP/1.1\r\n") and "ontent-" not in get
