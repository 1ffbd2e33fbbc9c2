"""AMQP 0-9-1 over one socket, as much of it as the bus needs, without a task or a wait between socket and handler.

What the broker sends is read frame by frame as it arrives and handed on at once; what is sent during one turn of the
event loop leaves in one write, acknowledgements first.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import pamqp.frame
from pamqp.commands import Basic, Confirm
from pamqp.commands import Channel as Ch
from pamqp.commands import Connection as Co
from pamqp.common import FieldTable
from pamqp.exceptions import PAMQPException

from kilonova.base.faults import invalid
from kilonova.bus import amqp_frames as frames
from kilonova.bus.amqp_channel import ANSWER_SECONDS, Channel, Cut, Refused

log = logging.getLogger("kilonova.bus")
HEARTBEAT_SECONDS: Final = 10
SILENT_BEATS: Final = 4  # half-heartbeats without a byte, after which the broker is gone
FRAME_LIMIT: Final = 131_072
UNSENT_LIMIT: Final = 16 * 1024 * 1024  # bytes; a broker that is out of memory or disk stops reading
_TLS_PORT, _PLAIN_PORT = 5671, 5672


@dataclass(frozen=True)
class Address:
    """Where a broker is, and who we are there: `amqp://user:password@host:port/vhost`, `amqps://` for TLS."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """INVALID when it is no such URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise invalid("A broker's URL is malformed.", hint='For example "amqps://user:PASSWORD@mq1.example/".')
        tls = parts.scheme == "amqps"
        return cls(
            host=parts.hostname,
            port=port or (_TLS_PORT if tls else _PLAIN_PORT),
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            vhost=unquote(parts.path[1:]) or "/",
            tls=tls,
        )


class Connection(asyncio.Protocol):
    """A connection to one broker, made by `connect`."""

    def __init__(self, address: Address, name: str, heartbeat_seconds: float) -> None:
        self._address = address
        self._name = name
        self._heartbeat_seconds = heartbeat_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._channels: dict[int, Channel] = {}
        self._rest = b""  # the beginning of a frame whose end is still to come
        self._out: list[bytes] = []
        self._acknowledging: list[Channel] = []
        self._flushing = False
        self._heard, self._silent_beats = True, 0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._why: Exception | None = None
        self.is_stalled = False
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.frame_limit = FRAME_LIMIT
        self.on_end: Callable[[], None] | None = None

    async def channel(self, *, prefetch: int = 0, confirms: bool = False) -> Channel:
        """A new channel. `prefetch`: how many messages it may have unacknowledged; `confirms`: it publishes."""
        if self._why is not None:
            raise Cut("the connection is closed") from self._why
        number = next(n for n in range(1, len(self._channels) + 2) if n not in self._channels)
        made = self._channels[number] = Channel(self, number)
        await made.ask(Ch.Open())
        if prefetch:
            await made.ask(Basic.Qos(prefetch_count=prefetch))
        if confirms:
            await made.ask(Confirm.Select())
        return made

    async def close(self) -> None:
        """Leave the broker, in its knowledge when it still listens."""
        if self._why is None:
            self.send(pamqp.frame.marshal(Co.Close(reply_code=200, reply_text="", class_id=0, method_id=0), 0))
            await asyncio.wait([self._closed], timeout=ANSWER_SECONDS)
        self.abort("closed")

    def abort(self, why: str) -> None:
        """Leave at once."""
        self._end(Cut(why))
        if self._transport is not None:
            self._transport.abort()

    def send(self, *parts: bytes) -> None:
        """Have frames written at the end of this turn."""
        self._out += parts
        self._flush_soon()

    def acknowledges(self, channel: Channel) -> None:
        """Have the channel's acknowledgements written at the end of this turn."""
        self._acknowledging.append(channel)
        self._flush_soon()

    def forget(self, number: int) -> None:
        """The channel of that number is over."""
        self._channels.pop(number, None)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        acknowledged = [frame for channel in self._acknowledging for frame in channel.acknowledgements()]
        out = b"".join((*acknowledged, *self._out))
        self._acknowledging.clear()
        self._out.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(out)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast(asyncio.Transport, transport)  # uvloop's is of no class of asyncio's
        made.set_write_buffer_limits(high=UNSENT_LIMIT)
        made.write(b"AMQP\x00\x00\x09\x01")

    def pause_writing(self) -> None:
        self.is_stalled = True

    def resume_writing(self) -> None:
        self.is_stalled = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Cut(f"the broker's connection was lost: {exc or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= frames.FRAME_OVERHEAD:
            kind, number, length = frames.frame_start.unpack_from(data, at)
            stop = at + 7 + length
            if stop >= size and length <= self.frame_limit:
                break
            if length > self.frame_limit or data[stop] != frames.END:
                self.abort("what came is no AMQP frame")
                return
            try:
                self._take(kind, number, data, at + 7, stop)
            except (PAMQPException, ValueError, IndexError, struct.error) as error:
                log.warning("the broker sent what cannot be read: %r", error)
                self.abort("what came is not understood")
                return
            at = stop + 1
        self._rest = data[at:]

    def _take(self, kind: int, number: int, data: bytes, at: int, stop: int) -> None:
        if kind == frames.HEARTBEAT:
            return
        if number == 0:
            self._handshake(frames.read(data[at - 7 : stop + 1]))
            return
        channel = self._channels.get(number)
        if channel is None:
            return  # closed meanwhile
        if kind == frames.METHOD:
            (method,) = frames.method_id.unpack_from(data, at)
            channel.take_method(method, data, at + 4, stop)
        elif kind == frames.HEADER:
            channel.take_header(data, at, stop)
        elif kind == frames.BODY:
            channel.take_body(data[at:stop])

    def _handshake(self, method: Any) -> None:
        if isinstance(method, Co.Start):
            secret = f"\0{self._address.user}\0{self._address.password}"
            told = Co.StartOk(client_properties=self._properties(), mechanism="PLAIN", response=secret, locale="en_US")
            self.send(pamqp.frame.marshal(told, 0))
        elif isinstance(method, Co.Tune):
            self.frame_limit = min(method.frame_max or FRAME_LIMIT, FRAME_LIMIT)
            agreed = Co.TuneOk(method.channel_max, self.frame_limit, ceil(self._heartbeat_seconds))
            self.send(pamqp.frame.marshal(agreed, 0), pamqp.frame.marshal(Co.Open(self._address.vhost), 0))
        elif isinstance(method, Co.OpenOk):
            self._beat()
            if not self.opened.done():
                self.opened.set_result(None)
        elif isinstance(method, Co.Close):
            self.send(pamqp.frame.marshal(Co.CloseOk(), 0))
            self._flush()
            self._end(Refused(method.reply_code, method.reply_text))
        elif isinstance(method, Co.CloseOk):
            self._end(Cut("closed"))

    def _properties(self) -> FieldTable:
        return {
            "product": "kilonova",
            "platform": f"Python {platform.python_version()}",
            "connection_name": self._name,
            "capabilities": {
                "authentication_failure_close": True,
                "basic.nack": True,
                "consumer_cancel_notify": True,
                "publisher_confirms": True,
            },
        }

    def _beat(self) -> None:
        """Say that we live, and see that the broker does; counted in beats, which a process that was stopped is not
        behind with."""
        self._silent_beats = 0 if self._heard else self._silent_beats + 1
        self._heard = False
        if self._silent_beats >= SILENT_BEATS:
            self.abort(f"the broker was silent for {SILENT_BEATS * self._heartbeat_seconds / 2:g} s")
            return
        self.send(frames.HEARTBEAT_FRAME)
        self._beat_timer = self._loop.call_later(self._heartbeat_seconds / 2, self._beat)

    def _end(self, error: Exception) -> None:
        if self._why is not None:
            return
        self._why = error
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if not self.opened.done():
            self.opened.set_exception(error)
        if not self._closed.done():
            self._closed.set_result(None)
        for channel in list(self._channels.values()):
            channel.end(error)
        if self.on_end is not None:
            self.on_end()
        if self._transport is not None:
            self._transport.close()


async def connect(
    address: Address, name: str, tls: ssl.SSLContext | None, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Connection:
    """A connection that is open. `tls`: whom we trust, None: whom the system trusts. BROKEN: nobody there, or refused.

    `name` is what operators see in the broker's list of connections. Either side takes the other for dead when it has
    heard nothing for twice `heartbeat_seconds`.
    """
    loop = asyncio.get_running_loop()
    context: ssl.SSLContext | bool | None = (tls or True) if address.tls else None
    async with asyncio.timeout(ANSWER_SECONDS):
        _, connection = await loop.create_connection(
            lambda: Connection(address, name, heartbeat_seconds), address.host, address.port, ssl=context
        )
        try:
            await connection.opened
        except BaseException:
            connection.abort("not opened")
            raise
    return connection
