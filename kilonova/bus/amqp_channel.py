"""A channel of AMQP 0-9-1: what the bus asks, consumes, acknowledges and publishes on a connection.

When the broker or the network ends it, all that hangs on it is told: questions fail, publications are settled with
the error, `on_end` is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final, Protocol

import pamqp.frame
from pamqp.base import Frame
from pamqp.commands import Basic
from pamqp.commands import Channel as Ch
from pamqp.header import ContentHeader

from kilonova.bus import amqp_frames as frames

log = logging.getLogger("kilonova.bus")
ANSWER_SECONDS: Final = 5.0  # for the broker's answer to a question


class Refused(Exception):
    """The broker closed a channel or the connection, and said why."""

    def __init__(self, code: int | None, text: str | None) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Cut(ConnectionError):
    """The connection or channel is gone; whether the broker has what was last sent is not known."""


class Stalled(ConnectionError):
    """The broker takes nothing for now: what was sent to it before has not left yet."""


class Returned(Exception):
    """No queue takes the publication."""


class Nacked(Exception):
    """The broker did not take the publication: its queue is full."""


BROKEN = (OSError, Refused)  # Cut, timeouts and TLS errors are OSErrors
Settle = Callable[[Exception | None], None]  # called once: None when the broker holds the publication


class Wire(Protocol):
    """The connection, as its channels see it."""

    frame_limit: int
    is_stalled: bool

    def send(self, *parts: bytes) -> None:
        """Have frames written at the end of this turn."""
        ...

    def acknowledges(self, channel: Channel) -> None:
        """Have the channel's acknowledgements written at the end of this turn, before the rest."""
        ...

    def forget(self, number: int) -> None:
        """The channel of that number is over."""
        ...

    def abort(self, why: str) -> None:
        """Leave at once."""
        ...


class Delivery:
    """A message from a queue."""

    __slots__ = ("_channel", "_tag", "body")

    def __init__(self, channel: Channel, tag: int, body: bytes) -> None:
        self._channel = channel
        self._tag = tag
        self.body = body

    def acknowledge(self) -> bool:
        """Let the broker forget it; False when the channel is gone, and the broker will hand it out again."""
        return self._channel.acknowledge(self._tag)


Take = Callable[[Delivery], None]


class Channel:
    """Declares, consumes, acknowledges and publishes. `on_end` is called once, when it ends unasked."""

    def __init__(self, connection: Wire, number: int) -> None:
        self._connection = connection
        self._number = number
        self._asked: deque[asyncio.Future[Frame]] = deque()
        self._consumers: dict[bytes, Take] = {}
        self._open_tags: dict[int, None] = {}  # delivered and not acknowledged, oldest first
        self._done_tags: set[int] = set()  # to be acknowledged at the end of this turn
        self._published = 0
        self._unconfirmed: dict[int, tuple[str, Settle]] = {}  # by number, oldest first
        self._content: tuple[int, Any] | None = None  # of the message that is arriving: (method, its consumer and tag)
        self._returned: ContentHeader | None = None
        self._missing = 0  # bytes of its body that are still to come
        self._pieces: list[bytes] = []
        self._ended: Exception | None = None
        self.on_end: Callable[[], None] | None = None

    @property
    def unconfirmed(self) -> int:
        """How many publications the broker has not confirmed yet."""
        return len(self._unconfirmed)

    async def ask(self, method: Frame) -> Any:
        """The broker's answer to a synchronous method. BROKEN: refused, or no answer: then the connection is over."""
        if self._ended is not None:
            raise Cut("the channel is closed") from self._ended
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._connection.send(pamqp.frame.marshal(method, self._number))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            self._connection.abort(f"no answer to {method.name}")
            raise

    async def consume(self, queue: str, take: Take) -> str:
        """Have `take` called with each message of the queue; the consumer's tag."""
        tag = f"{queue[-200:]}-{len(self._consumers)}"
        self._consumers[tag.encode()] = take
        await self.ask(Basic.Consume(queue=queue, consumer_tag=tag))
        return tag

    async def close(self) -> None:
        """End it, in the knowledge of the broker."""
        self.on_end = None
        await self.ask(Ch.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
        self.end(Cut("the channel is closed"))

    def acknowledge(self, tag: int) -> bool:
        """See `Delivery.acknowledge`."""
        if self._ended is not None:
            return False
        if not self._done_tags:
            self._connection.acknowledges(self)
        self._done_tags.add(tag)
        return True

    def acknowledgements(self) -> list[bytes]:
        """The frames for what was acknowledged during this turn: one for all that are open up to some message."""
        done, open_ = self._done_tags, self._open_tags
        run = list(takewhile(done.__contains__, open_))
        made = [frames.acknowledgement(self._number, run[-1], multiple=len(run) > 1)] if run else []
        done.difference_update(run)
        made += [frames.acknowledgement(self._number, tag, multiple=False) for tag in sorted(done)]
        for tag in (*run, *done):
            open_.pop(tag, None)
        done.clear()
        return made

    def publish(self, begin: tuple[str, str, bool], wire: bytes, body: bytes, id_: str, settle: Settle) -> None:
        """Send a message to (exchange, key, whether it must reach a queue). Cut, Stalled: nothing was sent."""
        if self._ended is not None:
            raise Cut("the channel is closed") from self._ended
        if self._connection.is_stalled:
            raise Stalled("the broker takes nothing for now")
        self._published += 1
        self._unconfirmed[self._published] = (id_, settle)
        first = frames.publish(self._number, *begin)
        self._connection.send(first, *frames.content(self._number, wire, body, self._connection.frame_limit))

    def end(self, error: Exception) -> None:
        """Tell all that wait; idempotent."""
        if self._ended is not None:
            return
        self._ended = error
        self._connection.forget(self._number)
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(error)
        for _, settle in list(self._unconfirmed.values()):
            settle(error)
        self._unconfirmed.clear()
        self._consumers.clear()
        if self.on_end is not None:
            self.on_end()

    def take_method(self, id_: int, data: bytes, at: int, stop: int) -> None:
        """A method frame for this channel: `data[at:stop]` is its payload after the method's id."""
        if id_ == frames.DELIVER:
            tag_at = at + 1 + data[at]
            (tag,) = frames.long_long.unpack_from(data, tag_at)
            self._open_tags[tag] = None
            self._content = (id_, (self._consumers.get(data[at + 1 : tag_at]), tag))
        elif id_ in (frames.ACK, frames.NACK):
            (tag,) = frames.long_long.unpack_from(data, at)
            self._confirmed(tag, bool(data[at + 8] & 1), None if id_ == frames.ACK else Nacked())
        elif id_ == frames.RETURN:
            self._content = (id_, None)
        else:
            self._take_rare(frames.read(data[at - 11 : stop + 1]))

    def take_header(self, data: bytes, at: int, stop: int) -> None:
        """The header of the message that is arriving."""
        (self._missing,) = frames.long_long.unpack_from(data, at + 4)
        if self._content is not None and self._content[0] == frames.RETURN:
            self._returned = frames.read(data[at - 7 : stop + 1])
        if not self._missing:
            self._arrived(b"")

    def take_body(self, piece: bytes) -> None:
        """A part of its body."""
        self._missing -= len(piece)
        if self._missing > 0:
            self._pieces.append(piece)
        elif self._pieces:
            body = b"".join((*self._pieces, piece))
            self._pieces.clear()
            self._arrived(body)
        else:
            self._arrived(piece)

    def _arrived(self, body: bytes) -> None:
        content, self._content = self._content, None
        if content is None:
            return
        if content[0] == frames.RETURN:
            self._came_back()
            return
        take, tag = content[1]
        if take is None:
            return  # its consumer is gone; the broker hands it to another once this channel is closed
        try:
            take(Delivery(self, tag, body))
        except Exception:  # edge: one message that is not understood must not end the connection for all others
            log.exception("a message could not be taken; it stays with the broker")

    def _came_back(self) -> None:
        header, self._returned = self._returned, None
        id_ = header.properties.message_id if header is not None else None
        for number, (published, settle) in self._unconfirmed.items():
            if published == id_:
                del self._unconfirmed[number]
                settle(Returned())
                return

    def _confirmed(self, number: int, multiple: bool, error: Exception | None) -> None:
        numbers = list(takewhile(lambda one: one <= number, self._unconfirmed)) if multiple else [number]
        for one in numbers:
            entry = self._unconfirmed.pop(one, None)
            if entry is not None:
                entry[1](error)

    def _take_rare(self, method: Any) -> None:
        if isinstance(method, Ch.Close):
            self._connection.send(pamqp.frame.marshal(Ch.CloseOk(), self._number))
            self.end(Refused(method.reply_code, method.reply_text))
        elif isinstance(method, Basic.Cancel):
            self.end(Cut(f"the broker ended consumer {method.consumer_tag}: its queue is gone"))
        elif self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(method)
