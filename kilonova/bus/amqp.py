"""The bus over RabbitMQ: quorum queues, publisher confirms, and what a broker's restart under traffic forces.

A publication is repeated until the broker confirms it or its deadline passes, so a message may arrive twice: receivers
drop ids they have seen. Replies wait in a durable queue. Work runs in tasks of its own, which outlive the
channel that brought it. With several workers on one queue a call whose confirmation was lost can in
theory reach two of them; handlers of calls are therefore safe to run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from pamqp.commands import Basic, Queue

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.bus.amqp_channel import BROKEN, Channel, Delivery
from kilonova.bus.amqp_link import Access, Link, Session
from kilonova.bus.amqp_post import Letter, Post, always, wire_properties
from kilonova.bus.contract import CALL_TIMEOUT_SECONDS, Handler, Json, Message, Subscription, Target
from kilonova.bus.dispatch import CASTS_IN_FLIGHT, Dispatcher, is_late, log, sealed_reply
from kilonova.bus.envelope import WaitingCalls, participant, request
from kilonova.bus.rights import REPLIES_EXCHANGE, fanout_queue, reply_queue
from kilonova.bus.signing import KeyRing
from kilonova.trace import spans

PUBLISH_SECONDS = 30.0  # how long a cast, fanout or serve waits for a broker
REPLIES_IN_FLIGHT = 256


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
        self._post = Post(world, self._link)
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
                if not self._has_replies:
                    await self._listen_for_replies(until)
                letter = self._letter(message, frame, until, answer)
                self._post.send(letter, partial(_fail, answer))
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
            await self._post.deliver(self._letter(message, self._keys.seal(message), until))

    async def fanout(self, to: Target, method: str, args: Mapping[str, Json]) -> None:
        until = self._begin(PUBLISH_SECONDS)
        with spans.span(participant(to.exchange, to.type), method, "cast"):
            message = request(self._world, self._keys.sender, to, method, args, kind="fanout", deadline_seconds=0.0)
            await self._post.deliver(self._letter(message, self._keys.seal(message), until))

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
        await self._post.close()
        await self._link.close()

    def answer(self, asked: Message, answer: dict[str, Json]) -> None:
        """Publish the reply to a call; given up at the call's deadline, when nobody waits any more."""
        message, frame = sealed_reply(self._world, self._keys, asked, answer)
        left = asked.deadline_at - self._world.clock.now().timestamp() if asked.deadline_at else PUBLISH_SECONDS
        until = self._world.clock.monotonic() + left
        wire = wire_properties(message, left)
        letter = Letter(message, frame, REPLIES_EXCHANGE, asked.reply_to, wire, until)
        self._post.send(letter, partial(_not_answered, asked))

    def _begin(self, seconds: float) -> float:
        if self._closed:
            raise _closed()
        return self._world.clock.monotonic() + seconds

    def _letter(
        self, message: Message, frame: bytes, until: float, answer: asyncio.Future[Json] | None = None
    ) -> Letter:
        """A call is wanted until it is answered: then its first copy did arrive."""
        left = message.deadline_at - message.sent_at if message.deadline_at else None
        wire = wire_properties(message, left)
        wanted = always if answer is None else partial(_is_waiting, answer)
        return Letter(message, frame, message.exchange, routing_key(message), wire, until, wanted)

    async def _listen_for_replies(self, until: float) -> None:
        async with self._replies_attached:
            if not self._has_replies:
                await self._link.attach("replies", self._attach_replies, until)
                self._has_replies = True

    async def _attach_replies(self, session: Session) -> None:
        channel = await session.channel(REPLIES_IN_FLIGHT)
        queue = await session.private_queue(channel, self._reply_queue, REPLIES_EXCHANGE, self._reply_queue)
        await channel.consume(queue, self._on_reply)

    def _on_reply(self, incoming: Delivery) -> None:
        try:
            message = self._keys.unseal(incoming.body, self._world.clock)
        except Fault as fault:
            log.warning("refused a reply: %r", fault)
        else:
            if not self._calls.answer(message):
                log.debug("dropped an answer to %s that nobody waits for", message.method)
        incoming.acknowledge()


class AmqpSubscription:
    """A worker that is serving: one channel on each session, consuming TYPE, TYPE.HOST and its fanout queue."""

    def __init__(self, world: World, link: Link, bus: AmqpBus, dispatcher: Dispatcher) -> None:
        self._world = world
        self._link = link
        self._bus = bus
        self._dispatcher = dispatcher
        self._fanout_queue = fanout_queue(dispatcher.type, dispatcher.host, world.ids.uuid())
        self.key = f"serve {self._fanout_queue}"
        self._channel: Channel | None = None
        self._shared_tag = ""  # of the consumer of what any worker may take; "" when it stands back
        self._tags: list[str] = []
        self._stands_back = False
        self._unacknowledged: dict[str, Delivery] = {}  # by message id: the copy to acknowledge
        self._tasks: set[asyncio.Task[Any]] = set()

    async def attach(self, session: Session) -> None:
        """Declare and consume on a new session."""
        at = self._dispatcher
        channel = await session.channel(CASTS_IN_FLIGHT)
        shared = await session.shared_queue(channel, at.exchange, at.type)
        queues = []
        if at.host:
            queues.append(await session.shared_queue(channel, at.exchange, f"{at.type}.{at.host}", own=True))
        queues.append(await session.private_queue(channel, self._fanout_queue, at.exchange, f"{at.type}_fanout"))
        self._channel = channel
        self._shared_tag = "" if self._stands_back else await channel.consume(shared, self._take)
        self._tags = [await channel.consume(queue, self._take) for queue in queues]

    async def stand_back(self) -> None:
        if not self._shared_tag or self._channel is None:
            return
        tag = self._shared_tag
        try:
            now = await self._channel.ask(Queue.Declare(queue=self._dispatcher.type, passive=True))
            if (now.consumer_count or 0) > 1:
                self._stands_back, self._shared_tag = True, ""
                await self._channel.ask(Basic.Cancel(consumer_tag=tag))
        except BROKEN as error:
            log.debug("standing back on a broken connection: %s", error)

    async def close(self) -> None:
        self._link.detach(self.key)
        channel = self._channel
        try:
            if channel is not None:
                for tag in [*([self._shared_tag] if self._shared_tag else []), *self._tags]:
                    await channel.ask(Basic.Cancel(consumer_tag=tag))
            await self._end_work()
            if channel is not None:
                await channel.ask(Queue.Delete(queue=self._fanout_queue))
                await channel.close()
        except BROKEN as error:
            log.debug("closing a subscription on a broken connection: %s", error)
        await self._end_work()

    async def _end_work(self) -> None:
        running = [task for task in self._tasks if task is not asyncio.current_task()]
        await asyncio.gather(*running, return_exceptions=True)

    def _take(self, incoming: Delivery) -> None:
        """Called by the connection: only hands over to a task."""
        message = self._dispatcher.opened(incoming.body)
        if message is None:
            incoming.acknowledge()
        elif message.id in self._unacknowledged:
            self._unacknowledged[message.id] = incoming  # came again while its handler runs: that one acknowledges it
        elif not self._dispatcher.is_new(message):
            incoming.acknowledge()
        elif message.kind == "call":
            # Before its work. The broker that cannot be told still has it and will hand it out again.
            if incoming.acknowledge():
                self._spawn(self._answer(message), message.method)
            else:
                self._dispatcher.forget(message)
        else:
            self._unacknowledged[message.id] = incoming
            self._spawn(self._do(message), message.method).add_done_callback(partial(self._ended, message))

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._world.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, message: Message) -> None:
        answer = await self._dispatcher.answer(message)
        if not is_late(message, self._world.clock):
            self._bus.answer(message, answer)

    async def _do(self, message: Message) -> None:
        await self._dispatcher.do(message)
        self._unacknowledged[message.id].acknowledge()

    def _ended(self, message: Message, task: asyncio.Task[Any]) -> None:
        self._unacknowledged.pop(message.id, None)
        if task.cancelled():
            self._dispatcher.forget(message)


def routing_key(message: Message) -> str:
    """`conductor`, `compute.node3`, `l2_agent_fanout`."""
    if message.kind == "fanout":
        return f"{message.type}_fanout"
    return f"{message.type}.{message.host}" if message.host else message.type


def _is_waiting(answer: asyncio.Future[Json]) -> bool:
    return not answer.done()


def _fail(answer: asyncio.Future[Json], fault: Fault) -> None:
    if not answer.done():
        answer.set_exception(fault)


def _not_answered(asked: Message, fault: Fault) -> None:
    log.warning("the answer to %s of %s was not sent: %r", asked.method, asked.sender, fault)


def _closed() -> Fault:
    return unavailable("This process is leaving the message broker.", hint="Try again in a moment.")
