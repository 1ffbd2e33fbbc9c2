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

from pamqp.commands import Exchange, Queue
from pamqp.common import FieldTable

from kilonova.base.faults import unavailable
from kilonova.base.world import World
from kilonova.bus.amqp_channel import ANSWER_SECONDS, BROKEN, Channel
from kilonova.bus.amqp_wire import Address, Connection, connect

log = logging.getLogger("kilonova.bus")
PAUSE_SECONDS = (0.1, 2.0)  # between attempts: from, doubling, to
SETTLING_SECONDS = 5.0  # how long a process that leaves waits for the broker's last confirmations
QUEUE_EXPIRES_MILLISECONDS = 600_000  # private queues go when their owner has been away for this long
SHARED_QUEUE: FieldTable = {"x-queue-type": "quorum", "x-max-length": 10_000, "x-overflow": "reject-publish"}


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

    def __init__(self, connection: Connection, publishing: Channel, *, as_host: bool) -> None:
        self.connection = connection
        self.publishing = publishing
        self._as_host = as_host
        self.broken = asyncio.Event()
        self.exchanges: set[str] = set()
        self._declaring = asyncio.Lock()
        connection.on_end = publishing.on_end = self.broken.set

    async def channel(self, prefetch: int) -> Channel:
        """A channel for consuming; the session ends when the broker closes it."""
        channel = await self.connection.channel(prefetch=prefetch)
        channel.on_end = self.broken.set
        return channel

    async def exchange(self, name: str) -> None:
        """A service's topic exchange, or the one for replies, is there."""
        if name in self.exchanges:
            return
        async with self._declaring:
            if name not in self.exchanges:
                await self.publishing.ask(Exchange.Declare(0, name, "topic", passive=self._as_host, durable=True))
                self.exchanges.add(name)

    async def shared_queue(self, channel: Channel, exchange: str, name: str, *, own: bool = False) -> str:
        """The replicated queue `name` of a service, bound; what is in it survives the broker's death.

        `own`: it is this worker's alone, TYPE.HOST.
        """
        await self.exchange(exchange)
        if self._as_host and not own:
            await channel.ask(Queue.Declare(queue=name, passive=True))
            return name
        await channel.ask(Queue.Declare(queue=name, durable=True, arguments=SHARED_QUEUE))
        await channel.ask(Queue.Bind(queue=name, exchange=exchange, routing_key=name))
        return name

    async def private_queue(self, channel: Channel, name: str, exchange: str, key: str) -> str:
        """A queue of one process, bound. It is durable, so that a broker's restart keeps what is on its way."""
        await self.exchange(exchange)
        arguments: FieldTable = {"x-expires": QUEUE_EXPIRES_MILLISECONDS}
        await channel.ask(Queue.Declare(queue=name, durable=True, arguments=arguments))
        await channel.ask(Queue.Bind(queue=name, exchange=exchange, routing_key=key))
        return name

    async def settled(self) -> None:
        """Return when the broker has confirmed what was published, or after some seconds."""
        waited = 0.0
        while self.publishing.unconfirmed and waited < SETTLING_SECONDS:
            await asyncio.sleep(0.01)
            waited += 0.01

    async def close(self) -> None:
        """Leave the broker; a connection that is broken already is fine."""
        await self.connection.close()


Attach = Callable[[Session], Awaitable[None]]


class Link:
    """Keeps a session up. `attach` functions run on each new session before anyone may publish on it."""

    def __init__(self, world: World, urls: Sequence[str], name: str, access: Access) -> None:
        self._world = world
        self._access = access
        self._addresses = [Address.of(url) for url in urls]
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

    @property
    def live(self) -> Session | None:
        """The session that messages may be published on now, if there is one."""
        session = self._session
        return session if session is not None and self._up.is_set() and not session.broken.is_set() else None

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
                inside=", ".join(f"{address.host}:{address.port}" for address in self._addresses),
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
        """Disconnect for good, once the broker has confirmed what was sent."""
        if self._session is not None and self.live is self._session:
            await self._session.settled()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _keep(self) -> None:
        turn = self._world.random.randrange(len(self._addresses))
        pause = PAUSE_SECONDS[0]
        while True:
            address = self._addresses[turn % len(self._addresses)]
            try:
                self._session = await self._open(address)
            except BROKEN as error:
                log.warning("no broker at %s:%s: %s", address.host, address.port, error)
                await self._world.clock.sleep(pause * (0.5 + self._world.random.random() / 2))
                pause, turn = min(pause * 2, PAUSE_SECONDS[1]), turn + 1
                continue
            pause = PAUSE_SECONDS[0]
            self._up.set()
            await self._session.broken.wait()
            self._up.clear()
            log.warning("the broker connection of %s broke; connecting again", self._name)
            await self._session.close()

    async def _open(self, address: Address) -> Session:
        connection = await connect(address, self._name, self._access.tls)
        try:
            async with asyncio.timeout(ANSWER_SECONDS * 4), self._attaching:
                publishing = await connection.channel(confirms=True)
                session = Session(connection, publishing, as_host=self._access.as_host)
                for attach in list(self._attached.values()):
                    await attach(session)
                return session
        except BaseException:
            connection.abort("could not be set up")
            raise
