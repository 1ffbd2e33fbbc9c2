"""The bus over RabbitMQ: quorum queues, publisher confirms, and what a broker's restart under traffic forces.

A publication is repeated until the broker confirms it or its deadline passes, so a message may arrive twice: receivers
drop ids they have seen. Replies wait in a durable queue. Work runs in tasks of our own, never in the library's
callbacks, which die with their channel. With several workers on one queue a call whose confirmation was lost can in
theory reach two of them; handlers of calls are therefore safe to run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, DeliveryMode
from aio_pika.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from kilonova.base.faults import Fault, busy, unavailable
from kilonova.base.world import World
from kilonova.bus.amqp_link import BROKEN, CONNECT_SECONDS, Access, Link, Session
from kilonova.bus.contract import CALL_TIMEOUT_SECONDS, Handler, Json, Message, Subscription, Target
from kilonova.bus.dispatch import CASTS_IN_FLIGHT, Dispatcher, is_late, log, sealed_reply
from kilonova.bus.envelope import WaitingCalls, participant, request
from kilonova.bus.rights import REPLIES_EXCHANGE, fanout_queue, reply_queue
from kilonova.bus.signing import KeyRing, kept_seconds
from kilonova.trace import metrics, spans

PUBLISH_SECONDS = 30.0  # how long a cast, fanout or serve waits for a broker
RETRY_SECONDS = 0.05
PERSISTENT = DeliveryMode.PERSISTENT.value


class AmqpBus:
    """A process' end of the broker at the first of `urls` that answers. `sender` is who it speaks as.

    `amqps://` is TLS, and the broker's name is checked.
    """

    def __init__(
        self, world: World, urls: Sequence[str], sender: str, keys: Mapping[str, bytes], access: Access | None = None
    ) -> None:
        self._world = world
        self._keys = KeyRing(sender, keys)
        self._link = Link(world, urls, f"kilonova {sender}", access or Access())
        self._calls = WaitingCalls(world)
        self._reply_queue = reply_queue(sender, world.ids.uuid())
        self._subscriptions: list[AmqpSubscription] = []
        self._replies_attached = asyncio.Lock()
        self._has_replies = False
        self._closed = False

    def connect(self) -> None:
        """Look for a broker now, in the background, not at the first message: who is not connected is not ready."""
        self._link.begin()

    @property
    def is_up(self) -> bool:
        """Whether a broker is connected now: for readiness and metrics."""
        return self._link.is_up

    async def call(
        self, to: Target, method: str, args: Mapping[str, Json], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Json:
        until = self._begin(timeout_seconds)
        with spans.span(participant(to.exchange, to.type), method, "call"):
            message = request(
                self._world, self._keys.sender, to, method, args, kind="call", deadline_seconds=timeout_seconds
            )
            message.reply_to = self._reply_queue
            frame = self._keys.seal(message)
            answer = self._calls.add(message.id, to, method, timeout_seconds)
            try:
                await self._listen_for_replies(until)
                await self._publish(frame, message, until, answer)
                return await answer
            finally:
                if answer.done() and not answer.cancelled():
                    answer.exception()  # seen: the caller may have left by another error
                answer.cancel()

    async def cast(self, to: Target, method: str, args: Mapping[str, Json], *, deadline_seconds: float = 0.0) -> None:
        until = self._begin(min(deadline_seconds or PUBLISH_SECONDS, PUBLISH_SECONDS))
        with spans.span(participant(to.exchange, to.type), method, "cast"):
            message = request(
                self._world, self._keys.sender, to, method, args, kind="cast", deadline_seconds=deadline_seconds
            )
            await self._publish(self._keys.seal(message), message, until)

    async def fanout(self, to: Target, method: str, args: Mapping[str, Json]) -> None:
        until = self._begin(PUBLISH_SECONDS)
        with spans.span(participant(to.exchange, to.type), method, "cast"):
            message = request(self._world, self._keys.sender, to, method, args, kind="fanout", deadline_seconds=0.0)
            await self._publish(self._keys.seal(message), message, until)

    async def serve(
        self, exchange: str, type_: str, host: str, handlers: Mapping[str, Handler], *, version: int = 1
    ) -> Subscription:
        until = self._begin(PUBLISH_SECONDS)
        dispatcher = Dispatcher(self._world, self._keys, (exchange, type_, host), handlers, version)
        subscription = AmqpSubscription(self._world, self._link, self, dispatcher)
        await self._link.attach(subscription.key, subscription.attach, until)
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._calls.fail_all(_closed())
        for subscription in self._subscriptions:
            await subscription.close()
        await self._link.close()

    async def answer(self, asked: Message, answer: dict[str, Json]) -> None:
        """Publish the reply to a call; given up at the call's deadline, when nobody waits any more."""
        message, frame = sealed_reply(self._world, self._keys, asked, answer)
        left = asked.deadline_at - self._world.clock.now().timestamp() if asked.deadline_at else PUBLISH_SECONDS
        try:
            await self._publish(frame, message, self._world.clock.monotonic() + left, queue=asked.reply_to)
        except Fault as fault:
            log.warning("the answer to %s of %s was not sent: %r", asked.method, asked.sender, fault)

    def _begin(self, seconds: float) -> float:
        if self._closed:
            raise _closed()
        return self._world.clock.monotonic() + seconds

    async def _listen_for_replies(self, until: float) -> None:
        if self._has_replies:
            return
        async with self._replies_attached:
            if not self._has_replies:
                await self._link.attach("replies", self._attach_replies, until)
                self._has_replies = True

    async def _attach_replies(self, session: Session) -> None:
        channel = await session.channel(prefetch=256)
        queue = await session.private_queue(channel, self._reply_queue, REPLIES_EXCHANGE, self._reply_queue)
        await queue.consume(self._on_reply)

    async def _on_reply(self, incoming: AbstractIncomingMessage) -> None:
        try:
            message = self._keys.unseal(incoming.body, self._world.clock)
        except Fault as fault:
            log.warning("refused a reply: %r", fault)
        else:
            if not self._calls.answer(message):
                log.debug("dropped an answer to %s that nobody waits for", message.method)
        await acknowledge(incoming)

    async def _publish(
        self,
        frame: bytes,
        message: Message,
        until: float,
        answer: asyncio.Future[Json] | None = None,
        queue: str = "",
    ) -> None:
        """Return when the broker holds the frame, or the call is answered (its first copy did arrive)."""
        exchange, key = (REPLIES_EXCHANGE, queue) if queue else (message.exchange, routing_key(message))
        wire = self._wire(message)
        while answer is None or not answer.done():
            session = await self._link.session(until)
            left = until - self._world.clock.monotonic()
            try:
                await session.publish(
                    frame, exchange, key, wire, mandatory=message.kind != "fanout", timeout_seconds=max(left, 0.01)
                )
                metrics.bus_message(message.type, message.kind, "sent")
                return
            except PublishError:
                if queue:
                    return  # the caller is gone, its queue with it
                await self._make_queue(session, message)
            except DeliveryError as error:
                raise busy(
                    f"The queue of {message.type} is full.",
                    hint="Check that its workers run.",
                    inside=f"{key}: {error}",
                ) from error
            except BROKEN as error:
                log.info("publishing %s again: %s", message.method, error)
                await self._world.clock.sleep(RETRY_SECONDS)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                await self._world.clock.sleep(RETRY_SECONDS)  # the library cancels what hung on a dead channel

    async def _make_queue(self, session: Session, message: Message) -> None:
        """The worker has not been here yet: make its queue, so that the message waits for it."""
        try:
            channel = await session.connection.channel(publisher_confirms=False)
            await session.shared_queue(channel, message.exchange, routing_key(message))
            await channel.close()
        except BROKEN as error:
            log.info("making the queue %s: %s", routing_key(message), error)
            await self._world.clock.sleep(RETRY_SECONDS)

    def _wire(self, message: Message) -> Basic.Properties:
        """What the broker needs to know of a message: it drops it once nobody may take it any more."""
        left = message.deadline_at - self._world.clock.now().timestamp() if message.deadline_at else None
        seconds = max(left if left is not None else kept_seconds(message), 0.001)
        return Basic.Properties(
            message_id=message.id,
            content_type="application/vnd.kilonova.signed+json",
            message_type=message.method,
            app_id=message.sender,
            expiration=str(int(seconds * 1000)),
            delivery_mode=PERSISTENT,
        )


class AmqpSubscription:
    """A worker that is serving: one channel on each session, consuming TYPE, TYPE.HOST and its fanout queue."""

    def __init__(self, world: World, link: Link, bus: AmqpBus, dispatcher: Dispatcher) -> None:
        self._world = world
        self._link = link
        self._bus = bus
        self._dispatcher = dispatcher
        self._fanout_queue = fanout_queue(dispatcher.type, dispatcher.host, world.ids.uuid())
        self.key = f"serve {self._fanout_queue}"
        self._session: Session | None = None
        self._channel: AbstractChannel | None = None
        self._shared_tag: tuple[Any, str] | None = None
        self._tags: list[tuple[Any, str]] = []
        self._stands_back = False
        self._unacknowledged: dict[str, AbstractIncomingMessage] = {}  # by message id: the copy to acknowledge
        self._tasks: set[asyncio.Task[Any]] = set()

    async def attach(self, session: Session) -> None:
        """Declare and consume on a new session."""
        at = self._dispatcher
        channel = await session.channel(CASTS_IN_FLIGHT)
        shared = await session.shared_queue(channel, at.exchange, at.type)
        queues = []
        if at.host:
            queues.append(await session.shared_queue(channel, at.exchange, f"{at.type}.{at.host}", own=True))
        fanout = await session.private_queue(channel, self._fanout_queue, at.exchange, f"{at.type}_fanout")
        self._session, self._channel = session, channel
        self._shared_tag = None if self._stands_back else (shared, await shared.consume(self._take))
        self._tags = [(queue, await queue.consume(self._take)) for queue in [*queues, fanout]]

    async def stand_back(self) -> None:
        if self._shared_tag is None or self._channel is None:
            return
        queue, tag = self._shared_tag
        try:
            now = await self._channel.declare_queue(queue.name, passive=True, timeout=CONNECT_SECONDS)
            if (now.declaration_result.consumer_count or 0) > 1:
                self._stands_back, self._shared_tag = True, None
                await queue.cancel(tag)
        except BROKEN as error:
            log.debug("standing back on a broken connection: %s", error)

    async def close(self) -> None:
        self._link.detach(self.key)
        session, channel = self._session, self._channel
        try:
            for queue, tag in [*([self._shared_tag] if self._shared_tag else []), *self._tags]:
                await queue.cancel(tag)
            running = [task for task in self._tasks if task is not asyncio.current_task()]
            await asyncio.gather(*running, return_exceptions=True)
            if session is not None and channel is not None:
                session.let_close(channel)
                await channel.queue_delete(self._fanout_queue)
                await channel.close()
        except BROKEN as error:
            log.debug("closing a subscription on a broken connection: %s", error)

    async def _take(self, incoming: AbstractIncomingMessage) -> None:
        """Called by the library: only hands over to a task of our own."""
        id_ = incoming.message_id or ""
        if id_ in self._unacknowledged:
            self._unacknowledged[id_] = incoming  # came again while its handler runs: that one acknowledges this copy
            return
        message = self._dispatcher.admit(incoming.body)
        if message is None:
            self._spawn(acknowledge(incoming), "refused")
        elif message.kind == "call":
            self._spawn(self._answer(message, incoming), message.method)
        else:
            self._unacknowledged[message.id] = incoming
            self._spawn(self._do(message), message.method).add_done_callback(partial(self._ended, message))

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._world.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, message: Message, incoming: AbstractIncomingMessage) -> None:
        if not await acknowledge(incoming):
            self._dispatcher.forget(message)  # the broker still has it and will hand it out again
            return
        answer = await self._dispatcher.answer(message)
        if not is_late(message, self._world.clock):
            await self._bus.answer(message, answer)

    async def _do(self, message: Message) -> None:
        await self._dispatcher.do(message)
        await acknowledge(self._unacknowledged[message.id])

    def _ended(self, message: Message, task: asyncio.Task[Any]) -> None:
        self._unacknowledged.pop(message.id, None)
        if task.cancelled():
            self._dispatcher.forget(message)


async def acknowledge(incoming: AbstractIncomingMessage) -> bool:
    """Tell the broker to forget a message; False when its connection is gone, and the broker will send it again."""
    try:
        await incoming.channel.basic_ack(incoming.delivery_tag or 0, wait=False)
    except BROKEN as error:
        log.debug("acknowledging %s: %s", incoming.message_id, error)
        return False
    return True


def routing_key(message: Message) -> str:
    """`conductor`, `compute.node3`, `l2_agent_fanout`."""
    if message.kind == "fanout":
        return f"{message.type}_fanout"
    return f"{message.type}.{message.host}" if message.host else message.type


def _closed() -> Fault:
    return unavailable("This process is leaving the message broker.", hint="Try again in a moment.")
