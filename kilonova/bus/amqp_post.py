"""Publications, repeated until the broker holds them or their time is over.

The first try costs no task and no wait: who waits for the answer to a call need not wait for the confirmation too.
Only when it fails does a task go on trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kilonova.base.faults import Fault, busy
from kilonova.base.world import World
from kilonova.bus import amqp_frames
from kilonova.bus.amqp_channel import BROKEN, Nacked, Returned
from kilonova.bus.amqp_link import SETTLING_SECONDS, Link, Session
from kilonova.bus.contract import Message
from kilonova.bus.dispatch import log
from kilonova.bus.signing import kept_seconds
from kilonova.trace import metrics

RETRY_SECONDS = 0.05
CALLER_SECONDS = 0.25  # between looks for the queue of a caller


def always() -> bool:
    """Until its time is over."""
    return True


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way to an exchange. `until`: monotonic; `is_wanted`: False once it need not arrive any more."""

    message: Message
    frame: bytes
    exchange: str
    key: str
    wire: bytes
    until: float
    is_wanted: Callable[[], bool] = always


class Post:
    """What one process publishes, on whatever session its link has."""

    def __init__(self, world: World, link: Link) -> None:
        self._world = world
        self._link = link
        self._trying: dict[asyncio.Task[Any], Letter] = {}

    def send(self, letter: Letter, failed: Callable[[Fault], None]) -> None:
        """Publish it; when that cannot be done in time, `failed` is called with the reason."""
        session = self._link.live
        if session is None or letter.exchange not in session.exchanges:
            self._try_again(letter, failed)
            return
        try:
            publish(session, letter, partial(self._settled, letter, failed))
        except BROKEN:
            self._try_again(letter, failed)

    async def deliver(self, letter: Letter) -> None:
        """Return when the broker holds it, or nobody wants it any more. UNAVAILABLE: no broker in time; BUSY."""
        while letter.is_wanted():
            session = await self._link.session(letter.until)
            try:
                await session.exchange(letter.exchange)
                await self._confirmed(session, letter)
                metrics.bus_message(letter.message.type, letter.message.kind, "sent")
                return
            except Returned:
                if letter.message.kind != "reply":
                    await self._make_queue(session, letter)
                elif not await self._caller_is_back(letter):
                    return
            except Nacked as error:
                raise busy(
                    f"The queue of {letter.message.type} is full.",
                    hint="Check that its workers run.",
                    inside=letter.key,
                ) from error
            except BROKEN as error:
                log.info("publishing %s again: %s", letter.message.method, error)
                await self._world.clock.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Wait some seconds for what is still wanted."""
        for task, letter in self._trying.items():
            if not letter.is_wanted():
                task.cancel()
        if self._trying:
            await asyncio.wait(list(self._trying), timeout=SETTLING_SECONDS)
        for task in self._trying:
            task.cancel()

    def _settled(self, letter: Letter, failed: Callable[[Fault], None], error: Exception | None) -> None:
        if error is None:
            metrics.bus_message(letter.message.type, letter.message.kind, "sent")
        elif letter.is_wanted():
            self._try_again(letter, failed)

    def _try_again(self, letter: Letter, failed: Callable[[Fault], None]) -> None:
        async def go_on() -> None:
            try:
                await self.deliver(letter)
            except Fault as fault:
                failed(fault)

        task = self._world.spawn(go_on(), f"publish-{letter.message.method}")
        self._trying[task] = letter
        task.add_done_callback(self._trying.pop)

    async def _confirmed(self, session: Session, letter: Letter) -> None:
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if settled.done():
                return  # nobody waits any more
            if error is None:
                settled.set_result(None)
            else:
                settled.set_exception(error)

        publish(session, letter, settle)
        async with asyncio.timeout(max(letter.until - self._world.clock.monotonic(), 0.01)):
            await settled

    async def _caller_is_back(self, letter: Letter) -> bool:
        """Whether to look again for the queue of who waits for this reply; False when nobody waits any more.

        A broker that was killed forgets a queue that was new, and the worker may be back before the caller, which makes
        it again.
        """
        await self._world.clock.sleep(CALLER_SECONDS)
        return self._world.clock.monotonic() < letter.until

    async def _make_queue(self, session: Session, letter: Letter) -> None:
        """The worker has not been here yet: make its queue, so that the message waits for it."""
        try:
            channel = await session.connection.channel()
            await session.shared_queue(channel, letter.exchange, letter.key)
            await channel.close()
        except BROKEN as error:
            log.info("making the queue %s: %s", letter.key, error)
            await self._world.clock.sleep(RETRY_SECONDS)


def publish(session: Session, letter: Letter, settle: Callable[[Exception | None], None]) -> None:
    """Send it on this session. A fanout may reach nobody; all else must reach a queue."""
    begin = (letter.exchange, letter.key, letter.message.kind != "fanout")
    session.publishing.publish(begin, letter.wire, letter.frame, letter.message.id, settle)


def wire_properties(message: Message, left_seconds: float | None) -> bytes:
    """What the broker needs to know of a message: it drops it once nobody may take it any more."""
    seconds = max(left_seconds if left_seconds is not None else kept_seconds(message), 0.001)
    return amqp_frames.properties(message.id, message.method, message.sender, int(seconds * 1000))
