"""The console relay of a host: the one way to its guests' screens, encrypted, for who was given a ticket.

Guests' VNC listens on loopback only and knows no passwords. The console proxy asks the host's agent over the signed bus
where a screen is, and gets the relay's address with a ticket. It connects, TLS with the host's name checked, and says
the ticket; from then on the bytes of RFB pass both ways. Tickets work once, for half a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from dataclasses import dataclass

from kilonova.base.world import World
from kilonova.compute.contract import Screen

log = logging.getLogger(__name__)
TICKET_SECONDS = 30.0
TICKETS = 1_000
TICKET_BYTES = 32
LINE_LIMIT_BYTES = 128
READ_BYTES = 64 << 10
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class _Waiting:
    """A screen that somebody may open, and until when by the monotonic clock."""

    address: str
    port: int
    until: float


class ConsoleRelay:
    """Listens on `address`, any free port; `tls` None is for loopback. Close it with the agent: open consoles end."""

    def __init__(self, world: World, address: str, tls: ssl.SSLContext | None = None) -> None:
        self._world = world
        self._address, self._tls = address, tls
        self._waiting: dict[str, _Waiting] = {}  # by the ticket's hash
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listening when it returns."""
        self._server = await asyncio.start_server(
            self._serve, self._address, 0, ssl=self._tls, limit=LINE_LIMIT_BYTES * 64
        )

    async def close(self) -> None:
        """End all consoles, listen no more."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.close()

    def admit(self, address: str, port: int) -> Screen:
        """Where the screen at (address, port) of this host is reached, once."""
        assert self._server is not None
        self._forget_old()
        ticket = self._world.ids.secret(TICKET_BYTES)
        until = self._world.clock.monotonic() + TICKET_SECONDS
        self._waiting[_key(ticket)] = _Waiting(address, port, until)
        listening = self._server.sockets[0].getsockname()[1]
        return Screen(self._address, listening, ticket, self._tls is not None)

    def _forget_old(self) -> None:
        now = self._world.clock.monotonic()
        self._waiting = {key: one for key, one in self._waiting.items() if one.until > now}
        while len(self._waiting) >= TICKETS:
            del self._waiting[next(iter(self._waiting))]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            screen = await self._shown(reader)
            if screen is not None:
                await self._join(reader, writer, screen)
        except (OSError, TimeoutError) as error:
            log.info("a console ended: %s", error or type(error).__name__)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _shown(self, reader: asyncio.StreamReader) -> _Waiting | None:
        """The screen whose ticket is shown; None for any other, without a word."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                line = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        self._forget_old()
        found = self._waiting.pop(_key(line.strip().decode("latin-1")), None)
        if found is None:
            log.warning("refused: a console ticket that is unknown, used or too old")
        return found

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, screen: _Waiting) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            guest_reader, guest_writer = await asyncio.open_connection(screen.address, screen.port)
        self._open.add(guest_writer)
        try:
            ways = [
                self._world.spawn(_pump(reader, guest_writer), "console to guest"),
                self._world.spawn(_pump(guest_reader, writer), "console from guest"),
            ]
            _, running = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in running:
                way.cancel()
        finally:
            self._open.discard(guest_writer)
            guest_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each read is sent before the next one: who is slow slows the other end, nothing piles up here."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError as error:
        log.debug("a console's connection broke: %s", error)


def _key(ticket: str) -> str:
    """Tickets are looked up by their hash: how long that takes says nothing about any of them."""
    return hashlib.sha256(ticket.encode()).hexdigest()
