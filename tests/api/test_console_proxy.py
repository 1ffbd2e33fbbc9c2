"""The console proxy as a browser meets it: a page, a websocket, one token for one session. VNC is a loopback echo."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kilonova.base.faults import Fault, conflict
from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Screen
from kilonova.node.console_proxy import MAX_FRAME_BYTES, ConsoleProxy, ConsoleProxySettings, Page, read_pages

SCRIPT = "console.log('page');"
GREETING = b"RFB 003.008\n"


@dataclass
class Vnc:
    """A VNC server that greets and then sends back what it is sent."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(GREETING)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        self.hung_up.set()
        writer.close()


@dataclass
class Cloud:
    """Conductor and compute agent, as far as consoles go."""

    port: int = 0
    tokens: dict[str, tuple[str, str]] = field(default_factory=lambda: {"good": ("server-1", "node1")})
    refuses: Fault | None = None
    asked_hosts: list[str] = field(default_factory=list)

    async def check_console(self, token: str) -> tuple[str, str] | None:
        return self.tokens.pop(token, None)

    async def get_vnc_console(self, server_id: str) -> Screen:
        assert server_id == "server-1"
        if self.refuses:
            raise self.refuses
        return Screen("127.0.0.1", self.port)

    def agent(self, host: str) -> Any:
        self.asked_hosts.append(host)
        return self

    async def connect(self, host: str, screen: Screen) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert host == "node1"
        return await asyncio.open_connection(screen.address, screen.port)


@dataclass
class Served:
    """A running proxy."""

    address: str
    proxy: ConsoleProxy
    cloud: Cloud
    vnc: Vnc

    def socket(self, token: str = "good", **options: Any) -> connect:
        return connect(f"ws://{self.address}/websockify?token={token}", max_size=None, proxy=None, **options)


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Page]:
    (tmp_path / "core").mkdir()
    (tmp_path / "vnc_lite.html").write_text(
        f"<html><script src='a.js'></script><script type='module'>{SCRIPT}</script></html>"
    )
    (tmp_path / "core/rfb.js").write_text("export default 1;")
    (tmp_path / "novnc_proxy").write_text("not for browsers")
    return read_pages(tmp_path, ["https://dashboard.example"])


@pytest.fixture
def settings() -> ConsoleProxySettings:
    return ConsoleProxySettings(sessions=2)


@pytest.fixture
async def served(pages: dict[str, Page], settings: ConsoleProxySettings) -> AsyncIterator[Served]:
    vnc, cloud, world = Vnc(), Cloud(), LiveWorld("console-test")
    guest = await asyncio.start_server(vnc.serve, "127.0.0.1", 0)
    cloud.port = guest.sockets[0].getsockname()[1]
    proxy = ConsoleProxy(world, cloud, cloud.agent, cloud.connect, pages, settings)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(proxy, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield Served(f"127.0.0.1:{listener.getsockname()[1]}", proxy, cloud, vnc)
    server.should_exit = True
    await running
    guest.close()
    await world.close()


async def denied(opening: connect) -> int:
    """The HTTP status with which a websocket is refused."""
    with pytest.raises(InvalidStatus) as refusal:
        async with asyncio.timeout(5), opening:
            pass
    return refusal.value.response.status_code


async def test_bytes_pass_both_ways_and_in_order(served: Served) -> None:
    async with asyncio.timeout(10), served.socket(subprotocols=["binary"]) as browser:
        assert browser.subprotocol == "binary"
        assert await browser.recv() == GREETING
        sent = bytes(range(256)) * 1024
        for start in range(0, len(sent), 8192):
            await browser.send(sent[start : start + 8192])
        came = b""
        while len(came) < len(sent):
            came += await browser.recv()
        assert came == sent
    assert served.cloud.asked_hosts == ["node1"]


async def test_a_token_opens_once(served: Served) -> None:
    async with served.socket() as browser:
        assert await browser.recv() == GREETING
    assert await denied(served.socket()) == 403
    assert await denied(served.socket("guessed")) == 403
    assert await denied(served.socket("")) == 403


async def test_older_urls_open_at_the_root(served: Served) -> None:
    async with connect(f"ws://{served.address}/?token=good", proxy=None) as browser:
        assert await browser.recv() == GREETING


async def test_a_foreign_page_is_refused_and_the_token_not_used_up(served: Served) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "file://127.0.0.1", "http://[bad"):
        assert await denied(served.socket(additional_headers={"Origin": origin})) == 403
    async with served.socket(origin="http://127.0.0.1") as browser:
        assert await browser.recv() == GREETING


async def test_closing_the_page_hangs_up_the_guest(served: Served) -> None:
    async with served.socket() as browser:
        await browser.recv()
        assert served.proxy.sessions() == 1
    async with asyncio.timeout(5):
        await served.vnc.hung_up.wait()
        while served.proxy.sessions():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_guest_that_goes_away_closes_the_page(served: Served) -> None:
    async with asyncio.timeout(5), served.socket() as browser:
        await browser.recv()
        served.vnc.writers[0].close()
        with pytest.raises(ConnectionClosed) as closed:
            await browser.recv()
    assert closed.value.rcvd and closed.value.rcvd.code == 1000


async def test_a_deleted_servers_consoles_are_ended(served: Served) -> None:
    async with asyncio.timeout(5), served.socket() as browser:
        await browser.recv()
        assert served.proxy.end_sessions("another") == 0
        assert served.proxy.end_sessions("server-1") == 1
        with pytest.raises(ConnectionClosed):
            await browser.recv()
        await served.vnc.hung_up.wait()


@pytest.mark.parametrize("settings", [ConsoleProxySettings(session_seconds=0.2)])
async def test_a_session_ends_with_its_time(served: Served) -> None:
    async with asyncio.timeout(5), served.socket() as browser:
        await browser.recv()
        with pytest.raises(ConnectionClosed):
            await browser.recv()


@pytest.mark.parametrize(("frame", "code"), [("text", 1003), (b"x" * (MAX_FRAME_BYTES + 1), 1009)])
async def test_what_no_vnc_client_sends_ends_the_session(served: Served, frame: str | bytes, code: int) -> None:
    async with asyncio.timeout(5), served.socket() as browser:
        await browser.recv()
        await browser.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await browser.recv()
    assert closed.value.rcvd and closed.value.rcvd.code == code


async def test_too_many_sessions_are_refused(served: Served) -> None:
    served.cloud.tokens |= {"second": ("server-1", "node1"), "third": ("server-1", "node1")}
    async with served.socket(), served.socket("second"):
        assert await denied(served.socket("third")) == 503
    assert "third" in served.cloud.tokens


async def test_a_guest_that_does_not_run_or_answer(served: Served) -> None:
    served.cloud.refuses = conflict("Server server-1 is not running.")
    assert await denied(served.socket()) == 409
    served.cloud.refuses, served.cloud.tokens["again"] = None, ("server-1", "node1")
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        served.cloud.port = closed_soon.getsockname()[1]
    assert await denied(served.socket("again")) == 503
    assert served.proxy.sessions() == 0


async def test_the_page_runs_its_own_script_only(served: Served) -> None:
    async with httpx.AsyncClient(base_url=f"http://{served.address}", trust_env=False) as browser:
        page = await browser.get("/vnc_lite.html?path=websockify%3Ftoken%3Dgood")
        script = await browser.get("/core/rfb.js")
    assert page.status_code == 200 and SCRIPT in page.text
    policy = page.headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "frame-ancestors 'self' https://dashboard.example" in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert script.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path",
    ["//evil.example/%2f..", "/core", "/core/", "/", "/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/novnc_proxy",
             "/core//rfb.js", "/\\evil.example", "/websockify"],
)  # fmt: skip
async def test_no_other_path_is_served_or_redirected(served: Served, path: str) -> None:
    host, port = served.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {served.address}\r\nConnection: close\r\n\r\n".encode())
    answer = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 404")
    assert "location:" not in answer.lower()


def test_a_missing_page_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(Fault) as fault:
        read_pages(tmp_path)
    assert "scripts/setup" in fault.value.hint
