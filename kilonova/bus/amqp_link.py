"""One connection to the first broker that answers, made again whenever it breaks, with everything that hung on it.

No part is repaired alone: when the connection or any of its channels dies, the whole session is thrown away and the
next one, to the next broker of the list, declares and consumes anew. Callers wait for a session until their deadline.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import Channel
from pamqp.commands import Basic
from pamqp.common import FieldTable
from yarl import URL

from kilonova.base.faults import unavailable
from kilonova.base.world import World

log = logging.getLogger("kilonova.bus")
CONNECT_SECONDS = 5.0
HEARTBEAT_SECONDS = 10
PAUSE_SECONDS = (0.1, 2.0)  # between attempts: from, doubling, to
QUEUE_EXPIRES_MILLISECONDS = 600_000  # private queues go when their owner has been away for this long
SHARED_QUEUE: FieldTable = {"x-queue-type": "quorum", "x-max-length": 10_000, "x-overflow": "reject-publish"}
BROKEN = (*CONNECTION_EXCEPTIONS, TimeoutError)


@dataclass(frozen=True)
class Access:
    """How a process is known at the broker.

    `as_host`: by a host's own user, with a host's rights: it declares its own queues, and waits for those of others.
    `tls`: whom it trusts at `amqps://`; None: those that the system trusts.
    """

    as_host: bool = False
    tls: ssl.SSLContext | None = None


class Session:
    """A live connection: a channel for publishing, exchanges, and whatever channels the subscriptions open.

    `as_host`: exchanges and the queues of others are there or not yet; only the control plane makes them.
    """

    def __init__(self, connection: AbstractConnection, publishing: AbstractChannel, *, as_host: bool) -> None:
        self.connection = connection
        self.publishing = publishing
        self._as_host = as_host
        self.broken = asyncio.Event()
        self._exchanges: set[str] = set()
        self._declaring = asyncio.Lock()
        connection.close_callbacks.add(self._on_close)
        publishing.close_callbacks.add(self._on_close)

    def _on_close(self, *_: Any) -> None:
        self.broken.set()

    async def channel(self, prefetch: int) -> AbstractChannel:
        """A channel for consuming; the session ends when the broker closes it."""
        channel = await self.connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=prefetch, timeout=CONNECT_SECONDS)
        channel.close_callbacks.add(self._on_close)
        return channel

    def let_close(self, channel: AbstractChannel) -> None:
        """From now on the end of `channel` is not the end of the session."""
        channel.close_callbacks.discard(self._on_close)

    async def publish(
        self, body: bytes, exchange: str, key: str, wire: Basic.Properties, *, mandatory: bool, timeout_seconds: float
    ) -> None:
        """Return when the broker has confirmed it. PublishError: no queue takes it; DeliveryError: one refused it.

        It goes to the library's lower layer, which need not wait until a frame is written before it takes the next:
        the confirmation says that and more, and frames that come together are written together.
        """
        if exchange not in self._exchanges:
            await self.exchange(exchange)
        channel = await self.publishing.get_underlay_channel()
        assert isinstance(channel, Channel)
        await channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            properties=wire,
            mandatory=mandatory,
            timeout=timeout_seconds,
            wait=False,
        )

    async def exchange(self, name: str) -> None:
        """A service's topic exchange, or the one for replies, is there."""
        async with self._declaring:
            if name not in self._exchanges:
                await self.publishing.declare_exchange(
                    name,
                    aio_pika.ExchangeType.TOPIC,
                    durable=True,
                    passive=self._as_host,
                    timeout=CONNECT_SECONDS,
                )
                self._exchanges.add(name)

    async def shared_queue(
        self, channel: AbstractChannel, exchange: str, name: str, *, own: bool = False
    ) -> AbstractQueue:
        """The replicated queue `name` of a service, bound; what is in it survives the broker's death.

        `own`: it is this worker's alone, TYPE.HOST.
        """
        await self.exchange(exchange)
        if self._as_host and not own:
            return await channel.declare_queue(name, passive=True, timeout=CONNECT_SECONDS)
        queue = await channel.declare_queue(name, durable=True, arguments=SHARED_QUEUE, timeout=CONNECT_SECONDS)
        await queue.bind(exchange, routing_key=name, timeout=CONNECT_SECONDS)
        return queue

    async def private_queue(self, channel: AbstractChannel, name: str, exchange: str, key: str) -> AbstractQueue:
        """A queue of one process, bound. It is durable, so that a broker's restart keeps what is on its way."""
        await self.exchange(exchange)
        arguments: FieldTable = {"x-expires": QUEUE_EXPIRES_MILLISECONDS}
        queue = await channel.declare_queue(name, durable=True, arguments=arguments, timeout=CONNECT_SECONDS)
        await queue.bind(exchange, routing_key=key, timeout=CONNECT_SECONDS)
        return queue

    async def close(self) -> None:
        """Leave the broker; a connection that is broken already is fine."""
        try:
            await asyncio.wait_for(self.connection.close(), CONNECT_SECONDS)
        except BROKEN as error:
            log.debug("closing a broken broker connection: %s", error)


Attach = Callable[[Session], Awaitable[None]]


class Link:
    """Keeps a session up. `attach` functions run on each new session before anyone may publish on it."""

    def __init__(self, world: World, urls: Sequence[str], name: str, access: Access) -> None:
        self._world = world
        self._access = access
        self._urls = [URL(url).update_query(heartbeat=HEARTBEAT_SECONDS) for url in urls]
        self._name = name
        self._attached: dict[str, Attach] = {}
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._attaching = asyncio.Lock()
        self._keeper: asyncio.Task[Any] | None = None

    @property
    def is_up(self) -> bool:
        """Whether a broker is connected now."""
        return self._up.is_set()

    def begin(self) -> None:
        """Connect, and stay connected, in the background."""
        if self._keeper is None:
            self._keeper = contextvars.Context().run(self._world.spawn, self._keep(), "broker-link")

    async def session(self, until: float) -> Session:
        """The live session, waiting for one until the monotonic time `until`; then UNAVAILABLE."""
        self.begin()
        left = until - self._world.clock.monotonic()
        if left > 0 and self._session is not None and self._up.is_set():
            return self._session
        try:
            if left <= 0:
                raise TimeoutError
            async with asyncio.timeout(left):
                await self._up.wait()
        except TimeoutError:
            raise unavailable(
                "The message broker does not answer.",
                hint="Check that RabbitMQ runs and can be reached; nothing was sent.",
                inside=", ".join(f"{url.host}:{url.port}" for url in self._urls),
            ) from None
        assert self._session is not None
        return self._session

    async def attach(self, key: str, attach: Attach, until: float) -> None:
        """Run `attach` on the present session and on every later one, until `detach`."""
        while True:
            session = await self.session(until)
            try:
                async with self._attaching:
                    await attach(session)
                    self._attached[key] = attach
                    return
            except BROKEN as error:
                log.warning("could not attach to the broker: %s", error)
                session.broken.set()
                self._up.clear()
                await self._world.clock.sleep(PAUSE_SECONDS[0])

    def detach(self, key: str) -> None:
        """Leave it out of later sessions."""
        self._attached.pop(key, None)

    async def close(self) -> None:
        """Disconnect for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _keep(self) -> None:
        turn = self._world.random.randrange(len(self._urls))
        pause = PAUSE_SECONDS[0]
        while True:
            url = self._urls[turn % len(self._urls)]
            try:
                self._session = await self._open(url)
            except BROKEN as error:
                log.warning("no broker at %s:%s: %s", url.host, url.port, error)
                await self._world.clock.sleep(pause * (0.5 + self._world.random.random() / 2))
                pause, turn = min(pause * 2, PAUSE_SECONDS[1]), turn + 1
                continue
            pause = PAUSE_SECONDS[0]
            self._up.set()
            await self._session.broken.wait()
            self._up.clear()
            log.warning("the broker connection of %s broke; connecting again", self._name)
            await self._session.close()

    async def _open(self, url: URL) -> Session:
        connection = await aio_pika.connect(
            url,
            timeout=CONNECT_SECONDS,
            client_properties={"connection_name": self._name},
            ssl_context=self._access.tls,
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS * 4), self._attaching:
                publishing = await connection.channel(on_return_raises=True)
                session = Session(connection, publishing, as_host=self._access.as_host)
                for attach in list(self._attached.values()):
                    await attach(session)
                return session
        except BaseException:
            await connection.close()
            raise
