"""The rest of a long body, read from the socket in large pieces: its length is known, so no parser needs to see it.

An upload is a gigabyte of bytes that mean nothing to HTTP. Through uvicorn and its parser each 256 KB of them was read,
copied twice, and had reading stopped and begun again: a second of CPU for each gigabyte.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kilonova.cli.http_protocol import Protocol

PIECE_BYTES: Final = 1 << 20


class LongBody(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until as many bytes as are missing have come."""

    def __init__(self, connection: Protocol, missing_bytes: int) -> None:
        self._connection = connection
        self._cycle = connection.cycle
        self._missing = missing_bytes
        self._buffer = memoryview(bytearray(min(PIECE_BYTES, missing_bytes)))
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for what comes; never for more than the body."""
        return self._buffer[self._filled : min(len(self._buffer), self._filled + self._missing)]

    def buffer_updated(self, nbytes: int) -> None:
        """So much came into that room."""
        self._filled += nbytes
        self._missing -= nbytes
        if self._filled == len(self._buffer) or not self._missing:
            self._hand_over()
        if not self._missing:
            self._connection.long_body_ended()

    def _hand_over(self) -> None:
        """To the application, unless it has answered already. It takes one piece at a time, and calls for the next."""
        if not self._cycle.response_complete:
            before: bytes | bytearray = self._cycle.body
            piece = bytes(self._buffer[: self._filled])
            self._cycle.body = before + piece if before else piece  # type: ignore[assignment]
            self._cycle.message_event.set()
            self._connection.flow.pause_reading()
        self._filled = 0

    def eof_received(self) -> None:
        """The client sends no more: the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing more of its answer at present."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It takes more."""
        self._connection.resume_writing()
