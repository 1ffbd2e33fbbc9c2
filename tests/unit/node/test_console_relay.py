"""The console relay: encrypted, for one ticket's holder, to one guest's screen, for half a minute."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.world import LiveWorld
from kilonova.compute.contract import Screen
from kilonova.node import console_relay
from kilonova.node.console_relay import ConsoleRelay
from kilonova.pki.authority import issue_for_host, new_authority
from kilonova.pki.contexts import Tls, trusting

NOW = datetime.now(UTC)
AUTHORITY = new_authority("cluster", NOW)
GREETING = b"RFB 003.008\n"


class Clock:
    """The world's clock, some seconds ahead."""

    def __init__(self, world: LiveWorld) -> None:
        self._clock, self.ahead = world.clock, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.ahead


def server_context(directory: Path, name: str) -> ssl.SSLContext:
    issued = issue_for_host(AUTHORITY, [name], NOW)
    (directory / "pem").write_text(issued.certificate)
    (directory / "key").write_text(issued.key)
    (directory / "key").chmod(0o600)
    made = Tls("", str(directory / "pem"), str(directory / "key")).server
    assert made is not None
    return made


class Rig:
    """A guest's VNC that greets and echoes, and the relay in front of it."""

    def __init__(self, relay: ConsoleRelay, guest: tuple[str, int], clock: Clock) -> None:
        self.relay, self.guest, self.clock = relay, guest, clock

    def screen(self) -> Screen:
        return self.relay.admit(*self.guest)

    async def open(self, screen: Screen, name: str = "node1", trust: str = "") -> Any:
        tls = trusting(trust or AUTHORITY.certificate)
        return await asyncio.open_connection(screen.address, screen.port, ssl=tls, server_hostname=name)

    async def heard(self, screen: Screen, ticket: str) -> bytes:
        """What comes first after this ticket; b"" when the relay hangs up."""
        reader, writer = await self.open(screen)
        writer.write(f"{ticket}\n".encode())
        try:
            return bytes(await asyncio.wait_for(reader.read(64), 10))
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def made(directory: Path) -> AsyncIterator[Rig]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    world = LiveWorld("relay")
    clock = Clock(world)
    world.clock = clock  # type: ignore[assignment]
    vnc = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay = ConsoleRelay(world, "127.0.0.1", server_context(directory, "node1"))
    await relay.start()
    try:
        yield Rig(relay, vnc.sockets[0].getsockname()[:2], clock)
    finally:
        await relay.close()
        vnc.close()
        await world.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with made(tmp_path) as rig:
        yield rig


async def test_bytes_pass_both_ways_once_the_ticket_is_shown(rig: Rig) -> None:
    screen = rig.screen()
    reader, writer = await rig.open(screen)
    writer.write(f"{screen.ticket}\n".encode() + b"hello")
    assert await reader.readexactly(len(GREETING) + 5) == GREETING + b"hello"
    big = bytes(range(256)) * 4096
    writer.write(big)
    assert await reader.readexactly(len(big)) == big
    writer.close()


async def test_a_ticket_works_once_and_for_half_a_minute(rig: Rig) -> None:
    first, second = rig.screen(), rig.screen()
    assert await rig.heard(first, first.ticket) == GREETING
    assert await rig.heard(first, first.ticket) == b""
    rig.clock.ahead += console_relay.TICKET_SECONDS + 1
    assert await rig.heard(second, second.ticket) == b""


@pytest.mark.parametrize("said", ["", "x" * 43, "GET / HTTP/1.1", "x" * 100_000])
async def test_whoever_has_no_ticket_hears_nothing(rig: Rig, said: str) -> None:
    assert await rig.heard(rig.screen(), said) == b""


async def test_another_hosts_certificate_and_a_strangers_are_refused(rig: Rig) -> None:
    screen = rig.screen()
    with pytest.raises(ssl.SSLCertVerificationError):
        await rig.open(screen, "node2")
    with pytest.raises(ssl.SSLCertVerificationError):
        await rig.open(screen, trust=new_authority("stranger", NOW).certificate)
    assert await rig.heard(screen, screen.ticket) == GREETING, "a ticket that was not shown still counts"


async def test_plain_text_is_not_spoken(rig: Rig) -> None:
    screen = rig.screen()
    reader, writer = await asyncio.open_connection(screen.address, screen.port)
    writer.write(f"{screen.ticket}\n".encode())
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(len(GREETING)), 10)
    writer.close()


async def test_tickets_do_not_pile_up(rig: Rig) -> None:
    screens = [rig.screen() for _ in range(console_relay.TICKETS + 5)]
    assert await rig.heard(screens[0], screens[0].ticket) == b""
    assert await rig.heard(screens[-1], screens[-1].ticket) == GREETING
    assert screens[0].ticket not in repr(screens[0])
