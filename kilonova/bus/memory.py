"""The bus inside one process, for the embedded cloud, tests and simulation: the broker's promises without a broker.

Messages are signed, encoded and decoded as on the wire, so that both adapters share the same faults of
serialisation. Nothing here uses threads, wall-clock time or unordered sets: one seed replays one history.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from random import Random
from typing import Any, Protocol

import msgspec

from kilonova.base.faults import Fault, busy, unavailable
from kilonova.base.world import World
from kilonova.bus.contract import CALL_TIMEOUT_SECONDS, Handler, Json, Message, Subscription, Target
from kilonova.bus.dispatch import CASTS_IN_FLIGHT, Dispatcher, log, sealed_reply
from kilonova.bus.envelope import WaitingCalls, participant, request
from kilonova.bus.signing import DerivedKeys, KeyRing
from kilonova.trace import spans

QUEUE_LIMIT = 10_000
DELIVERY_LIMIT = 20


class Faults(Protocol):
    """What a simulated network does to messages. Casts may come late or twice, never get lost; calls may be lost."""

    def loses(self, message: Message) -> bool:
        """Whether this call, reply or fanout vanishes."""
        ...

    def delay_seconds(self, message: Message) -> float:
        """How late it arrives; different delays reorder messages. 0: at once."""
        ...

    def doubles(self, message: Message) -> bool:
        """Whether this cast is delivered twice, as by a worker that died before its acknowledgement."""
        ...


class SeededFaults:
    """Faults drawn from a seeded generator, each with its own chance."""

    def __init__(
        self,
        random: Random,
        *,
        loss: float = 0.0,
        delay: float = 0.0,
        longest_seconds: float = 2.0,
        double: float = 0.0,
    ) -> None:
        self._random = random
        self._loss, self._delay, self._longest, self._double = loss, delay, longest_seconds, double

    def loses(self, message: Message) -> bool:
        return self._random.random() < self._loss

    def delay_seconds(self, message: Message) -> float:
        return self._random.random() * self._longest if self._random.random() < self._delay else 0.0

    def doubles(self, message: Message) -> bool:
        return self._random.random() < self._double


class _Delivery(msgspec.Struct):
    """A frame on its way to one worker."""

    frame: bytes
    message: Message  # as the sender made it: for the broker's own decisions, never given to handlers
    queue: str
    times: int = 0
    again: bool = False


class MemoryBroker:
    """Queues of one cloud. Make one, and a `MemoryBus` on it per process (or simulated process)."""

    def __init__(self, secret: bytes = b"memory", faults: Faults | None = None) -> None:
        self.keys = DerivedKeys(secret)
        self.faults = faults
        self._queues: defaultdict[str, deque[_Delivery]] = defaultdict(deque)
        self._workers: dict[str, list[MemorySubscription]] = {}  # by queue, the next one to be served first
        self._buses: dict[str, MemoryBus] = {}
        self._buses_made = 0

    def waiting(self, exchange: str, queue: str) -> int:
        """How many messages wait in a queue for a worker."""
        return len(self._queues.get(f"{exchange}/{queue}", ()))

    def lose(self, world: World) -> None:
        """The process of `world` died: its unacknowledged casts go to other workers, or wait for its return."""
        for worker in [w for workers in self._workers.values() for w in workers if w.world is world]:
            self.leave(worker)

    def publish(self, frame: bytes, message: Message) -> None:
        """Hold a call or cast for one worker. BUSY when the queue is full."""
        queue = queue_name(message)
        if len(self._queues[queue]) >= QUEUE_LIMIT:
            raise busy(
                f"The queue of {message.type} is full.",
                hint="Check that its workers run.",
                inside=f"{queue}: {QUEUE_LIMIT} messages",
            )
        delivery = _Delivery(frame, message, queue)
        if self.faults is None:
            self._put(delivery)
            return
        if message.kind == "call" and self.faults.loses(message):
            return
        if message.kind == "cast" and self.faults.doubles(message):
            twin = _Delivery(frame, message, queue, again=True)
            self._later(self.faults.delay_seconds(message), twin)
        self._later(self.faults.delay_seconds(message), delivery)

    def publish_to_all(self, frame: bytes, message: Message) -> None:
        """Give a fanout to every live worker of the type."""
        for worker in list(self._workers.get(f"{message.exchange}/{message.type}", ())):
            if self.faults is not None and self.faults.loses(message):
                continue
            delay = self.faults.delay_seconds(message) if self.faults else 0.0
            delivery = _Delivery(frame, message, "")
            if delay:
                asyncio.get_running_loop().call_later(delay, worker.take, delivery)
            else:
                worker.take(delivery)

    def publish_reply(self, bus_id: str, frame: bytes, message: Message) -> None:
        """Give a reply to the bus that asked; nobody is there: nothing happens."""
        bus = self._buses.get(bus_id)
        if bus is None or (self.faults is not None and self.faults.loses(message)):
            return
        delay = self.faults.delay_seconds(message) if self.faults else 0.0
        if delay:
            asyncio.get_running_loop().call_later(delay, bus.answered, frame)
        else:
            bus.answered(frame)

    def join(self, worker: MemorySubscription) -> None:
        """A worker takes messages from now on, first those that waited for it."""
        for queue in worker.queues:
            self._workers.setdefault(queue, []).append(worker)
        self.push(worker.queues)

    def leave(self, worker: MemorySubscription) -> None:
        """A worker takes no more messages; what it had not begun or not acknowledged goes back, in order."""
        self.retire(worker)
        self.give_back(worker.unacknowledged())

    def retire(self, worker: MemorySubscription) -> None:
        """Send a worker nothing new."""
        for queue in worker.queues:
            if worker in self._workers.get(queue, ()):
                self._workers[queue].remove(worker)

    def others(self, worker: MemorySubscription) -> bool:
        """Whether another live worker takes what this one shares with its type."""
        return any(one is not worker and not one.world.dead for one in self._workers.get(worker.queues[0], ()))

    def give_back(self, deliveries: list[_Delivery]) -> None:
        """Put deliveries back at the head of their queues, and on to other workers."""
        for delivery in reversed(deliveries):
            if not delivery.queue:
                continue
            if delivery.times >= DELIVERY_LIMIT:
                log.error("dropped %s: delivered %d times", delivery.message.method, delivery.times)
                continue
            self._queues[delivery.queue].appendleft(delivery)
        self.push(dict.fromkeys(d.queue for d in deliveries if d.queue))

    def push(self, queues: Iterable[str]) -> None:
        """Give what waits in these queues to workers with room, in turn."""
        for queue in queues:
            waiting = self._queues[queue]
            while waiting and (worker := self._next_worker(queue)):
                worker.take(waiting.popleft())

    def bus_joined(self, bus: MemoryBus) -> str:
        """The address that replies to `bus` carry."""
        self._buses_made += 1
        bus_id = f"reply_{self._buses_made}"
        self._buses[bus_id] = bus
        return bus_id

    def bus_left(self, bus_id: str) -> None:
        """Replies to this address are dropped from now on."""
        self._buses.pop(bus_id, None)

    def _later(self, delay_seconds: float, delivery: _Delivery) -> None:
        if delay_seconds:
            asyncio.get_running_loop().call_later(delay_seconds, self._put, delivery)
        else:
            self._put(delivery)

    def _put(self, delivery: _Delivery) -> None:
        """Give it to a worker with room; it waits when there is none, and behind those that wait."""
        waiting = self._queues[delivery.queue]
        if not waiting and (worker := self._next_worker(delivery.queue)):
            worker.take(delivery)
        else:
            waiting.append(delivery)

    def _next_worker(self, queue: str) -> MemorySubscription | None:
        """The next live worker with room; it goes to the end of the line."""
        workers = self._workers.get(queue, [])
        for worker in workers:
            if worker.world.dead:
                self.lose(worker.world)
                return self._next_worker(queue)
        for index, worker in enumerate(workers):
            if worker.has_room_for(queue):
                workers.append(workers.pop(index))
                return worker
        return None


def queue_name(message: Message) -> str:
    """`nova/compute.node3`: the broker's name of the queue a call or cast waits in."""
    return f"{message.exchange}/{message.type}" + (f".{message.host}" if message.host else "")


class MemorySubscription:
    """A worker that is serving in this process."""

    def __init__(self, world: World, broker: MemoryBroker, bus: MemoryBus, dispatcher: Dispatcher) -> None:
        self.world = world
        self.queues = list(
            dict.fromkeys(
                f"{dispatcher.exchange}/{dispatcher.type}{tail}"
                for tail in ("", f".{dispatcher.host}" if dispatcher.host else "")
            )
        )
        self._broker = broker
        self._bus = bus
        self._dispatcher = dispatcher
        self._casts: dict[int, _Delivery] = {}  # begun, not acknowledged
        self._begun = 0
        self._tasks: dict[asyncio.Task[None], str] = {}  # a dict, for its stable order
        self._open, self._stands_back = True, False
        self._life = world.spawn(_until_cancelled(), f"bus-{dispatcher.type}")  # ends when the world does
        self._life.add_done_callback(self._life_ended)

    def has_room_for(self, queue: str) -> bool:
        """Whether it may be given one more call or cast of this queue."""
        if self._stands_back and queue == self.queues[0]:
            return False
        return self._open and not self._life.cancelling() and len(self._casts) < CASTS_IN_FLIGHT

    def take(self, delivery: _Delivery) -> None:
        """Begin the work on `delivery`, in a task of its own."""
        if self.world.dead or not self._open:
            return  # a fanout that came late
        delivery.times += 1
        message = self._dispatcher.admit(delivery.frame, again=delivery.again)
        if message is None:
            return
        work: Coroutine[Any, Any, None]
        ended: Callable[[asyncio.Task[None]], Any]
        if message.kind == "call":
            work, ended = self._answer(message), self._tasks.pop
        else:
            self._begun += 1
            self._casts[self._begun] = delivery
            work, ended = self._dispatcher.do(message), partial(self._acknowledge, self._begun, message)
        # In an empty context: a handler must not see the sender's trace or variables, as it would not on a wire.
        task = contextvars.Context().run(self.world.spawn, work, f"{message.kind}-{message.method}")
        self._tasks[task] = message.id
        task.add_done_callback(ended)

    def unacknowledged(self) -> list[_Delivery]:
        """What a broker would hand to another worker if this one died now; it is no longer this one's."""
        left = list(self._casts.values())
        self._casts.clear()
        return left

    async def stand_back(self) -> None:
        self._stands_back = self._broker.others(self)

    async def close(self) -> None:
        self._open = False
        running = [task for task in self._tasks if task is not asyncio.current_task()]
        self._broker.retire(self)
        await asyncio.gather(*running, return_exceptions=True)
        self._life.cancel()

    def _life_ended(self, _: asyncio.Task[None]) -> None:
        self._open = False
        if not self.world.dead:
            self._broker.leave(self)

    async def _answer(self, message: Message) -> None:
        answer = await self._dispatcher.answer(message)
        if not self.world.dead:
            self._bus.send_reply(message, answer)

    def _acknowledge(self, number: int, message: Message, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self.world.dead or number not in self._casts:
            return  # the broker took it back when this process died
        delivery = self._casts.pop(number)
        if task.cancelled():
            self._dispatcher.forget(message)
            self._broker.give_back([delivery])
        self._broker.push(self.queues)


async def _until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()


class MemoryBus:
    """A process' end of a MemoryBroker. `sender` is who it speaks as: `conductor`, `compute.node1`."""

    def __init__(
        self, world: World, broker: MemoryBroker, sender: str, keys: Mapping[str, bytes] | None = None
    ) -> None:
        self._world = world
        self._broker = broker
        self._sender = sender
        self._keys = KeyRing(sender, keys if keys is not None else broker.keys)
        self._calls = WaitingCalls(world)
        self._subscriptions: list[Subscription] = []
        self._id = broker.bus_joined(self)
        self._closed = False

    async def call(
        self, to: Target, method: str, args: Mapping[str, Json], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Json:
        if self._closed or self._world.dead:
            await self._refuse()
        with spans.span(participant(to.exchange, to.type), method, "call"):
            message = request(
                self._world, self._sender, to, method, args, kind="call", deadline_seconds=timeout_seconds
            )
            message.reply_to = self._id
            frame = self._keys.seal(message)
            answer = self._calls.add(message.id, to, method, timeout_seconds)
            self._broker.publish(frame, message)
            return await answer

    async def cast(self, to: Target, method: str, args: Mapping[str, Json], *, deadline_seconds: float = 0.0) -> None:
        if self._closed or self._world.dead:
            await self._refuse()
        with spans.span(participant(to.exchange, to.type), method, "cast"):
            message = request(
                self._world, self._sender, to, method, args, kind="cast", deadline_seconds=deadline_seconds
            )
            self._broker.publish(self._keys.seal(message), message)

    async def fanout(self, to: Target, method: str, args: Mapping[str, Json]) -> None:
        if self._closed or self._world.dead:
            await self._refuse()
        with spans.span(participant(to.exchange, to.type), method, "cast"):
            message = request(self._world, self._sender, to, method, args, kind="fanout", deadline_seconds=0.0)
            self._broker.publish_to_all(self._keys.seal(message), message)

    async def serve(
        self, exchange: str, type_: str, host: str, handlers: Mapping[str, Handler], *, version: int = 1
    ) -> Subscription:
        if self._closed or self._world.dead:
            await self._refuse()
        dispatcher = Dispatcher(self._world, self._keys, (exchange, type_, host), handlers, version)
        worker = MemorySubscription(self._world, self._broker, self, dispatcher)
        self._broker.join(worker)
        self._subscriptions.append(worker)
        return worker

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.bus_left(self._id)
        self._calls.fail_all(_closed())
        for subscription in self._subscriptions:
            await subscription.close()

    def answered(self, frame: bytes) -> None:
        """Take the reply that a broker brought."""
        try:
            message = self._keys.unseal(frame, self._world.clock)
        except Fault as fault:
            log.warning("refused a reply: %r", fault)
            return
        if not self._calls.answer(message):
            log.info("dropped an answer to %s that nobody waits for", message.method)

    def send_reply(self, asked: Message, answer: dict[str, Json]) -> None:
        """Send what a handler answered back to its caller."""
        message, frame = sealed_reply(self._world, self._keys, asked, answer)
        self._broker.publish_reply(asked.reply_to, frame, message)

    async def _refuse(self) -> None:
        if self._world.dead:
            await _until_cancelled()  # a dead process never goes on
        raise _closed()


def _closed() -> Fault:
    return unavailable("This process is leaving the message broker.", hint="Try again in a moment.")
