"""The console proxy in front of QEMU's own VNC server: a whole RFB handshake, as noVNC does it (RFC 6143 §7.1-7.3)."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect

from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Screen
from kilonova.node.console_proxy import ConsoleProxy

QEMU = shutil.which("qemu-system-x86_64")


class OneGuest:
    """Conductor and agent of a cloud with one guest, whose VNC is a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def check_console(self, token: str) -> tuple[str, str] | None:
        return ("server-1", "node1") if token == "good" else None

    async def get_vnc_console(self, server_id: str) -> Screen:
        return Screen(str(self.path), 0)

    async def connect(self, host: str, screen: Screen) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(screen.address)


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[OneGuest]:
    if QEMU is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    path = tmp_path / "vnc"
    options = ["-machine", "none", "-nodefaults", "-name", "console-guest", "-vnc", f"unix:{path}", "-serial", "none"]
    qemu = await asyncio.create_subprocess_exec(QEMU, *options)
    async with asyncio.timeout(20):
        while not path.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    yield OneGuest(path)
    qemu.kill()
    await qemu.wait()


@pytest.fixture
async def address(guest: OneGuest) -> AsyncIterator[str]:
    world = LiveWorld("console-test")
    parts: Any = guest
    proxy = ConsoleProxy(world, parts, lambda host: parts, guest.connect, {})
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(proxy, log_level="warning", access_log=False, lifespan="off"))
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await running
    await world.close()


async def test_a_viewer_gets_the_guests_screen(address: str) -> None:
    url = f"ws://{address}/websockify?token=good"
    async with asyncio.timeout(20), connect(url, subprotocols=["binary"], proxy=None) as viewer:  # type: ignore[list-item]
        assert await viewer.recv() == b"RFB 003.008\n"
        await viewer.send(b"RFB 003.008\n")
        assert await viewer.recv() == b"\x01\x01"  # one security type: none
        await viewer.send(b"\x01")
        assert await viewer.recv() == struct.pack(">I", 0)
        await viewer.send(b"\x01")  # shared
        hello = await viewer.recv()
        assert isinstance(hello, bytes)
        width, height = struct.unpack(">HH", hello[:4])
        assert width >= 320 and height >= 200
        assert b"console-guest" in hello
