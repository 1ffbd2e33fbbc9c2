"""A host's user on a real RabbitMQ: it does its work, and reaches nothing of anybody else (A106, A108)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ProbableAuthenticationError

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.amqp_link import Access
from kilonova.bus.broker_admin import BrokerAdmin
from kilonova.bus.contract import Message, Target
from kilonova.bus.envelope import request
from kilonova.bus.rights import REPLIES_EXCHANGE, rights_of
from kilonova.bus.signing import CAST_KEPT_SECONDS, DerivedKeys, KeyRing, agent_keys
from kilonova.cli.compose.admission import as_user
from tests.services import RabbitMQ, trusting_tests

pytestmark = pytest.mark.cluster
SECRET = b"deployment"


class Rig:
    """Two hosts with users of their own, and a conductor."""

    def __init__(self, broker: RabbitMQ, stack: AsyncExitStack) -> None:
        self.broker, self.stack = broker, stack
        self.admin = BrokerAdmin(broker.admin_url, "/", verify=trusting_tests())
        stack.push_async_callback(self.admin.close)

    async def admit(self, host: str, password: str = "first") -> str:
        senders = [f"compute.{host}", f"l2_agent.{host}"]
        await self.admin.prepare(senders)
        await self.admin.set_user(f"agent-{host}", password, rights_of(senders))
        return as_user(self.broker.url, f"agent-{host}", password)

    def bus(self, sender: str, url: str = "") -> AmqpBus:
        world = LiveWorld(sender)
        keys = agent_keys(SECRET, sender) if url else DerivedKeys(SECRET)
        bus = AmqpBus(world, [url or self.broker.url], sender, keys, Access(as_host=bool(url)))
        self.stack.push_async_callback(world.close)
        self.stack.push_async_callback(bus.close)
        return bus


@pytest.fixture
async def rig(rabbitmq: RabbitMQ) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(rabbitmq, stack)


async def echo(message: Message) -> Any:
    return message.args


async def test_a_host_with_rights_of_its_own_serves_calls_and_is_heard(rig: Rig) -> None:
    mine = await rig.admit("node1")
    heard = asyncio.Event()

    async def hear(message: Message) -> None:
        heard.set()

    await rig.bus("compute.node1", mine).serve("nova", "compute", "node1", {"echo": echo, "hear": hear})
    conductor = rig.bus("conductor")
    await conductor.serve("nova", "conductor", "", {"echo": echo})
    assert await conductor.call(Target("nova", "compute", "node1"), "echo", {"n": 1}) == {"n": 1}
    assert await rig.bus("compute.node1", mine).call(Target("nova", "conductor"), "echo", {"n": 2}) == {"n": 2}
    await conductor.fanout(Target("nova", "compute"), "hear", {})
    await asyncio.wait_for(heard.wait(), 10)


async def refused(url: str, do: Callable[[Any], Awaitable[Any]]) -> bool:
    """Whether the broker closes the channel of whoever tries that."""
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        try:
            await do(channel)
        except CONNECTION_EXCEPTIONS as error:
            assert "ACCESS_REFUSED" in str(error), repr(error)
            return True
        return False
    finally:
        await connection.close()


async def test_a_stolen_credential_reaches_nothing_of_others(rig: Rig) -> None:
    mine, theirs = await rig.admit("node1"), await rig.admit("node2")
    await rig.bus("compute.node2", theirs).serve("nova", "compute", "node2", {"echo": echo})
    conductor = rig.bus("conductor")
    await conductor.serve("nova", "conductor", "", {"echo": echo})
    await conductor.call(Target("nova", "compute", "node2"), "echo", {})
    replies = next(name for name in rig.broker.queues() if name.startswith("reply_conductor_"))
    nova = Attempts("nova")
    tried: dict[str, Callable[[Any], Awaitable[Any]]] = {
        **{f"consume {name}": Attempts(name).consume for name in ("compute.node2", "conductor", "trace", replies)},
        **{f"get {name}": Attempts(name).get for name in ("compute.node2", "conductor", "trace", replies)},
        **{f"delete {name}": Attempts(name).delete for name in ("compute.node2", "conductor", "compute", replies)},
        **{f"declare {name}": Attempts(name).declare for name in ("compute.node3", "spy", "conductor-2")},
        **{f"hear {key}": Attempts(key).bind_mine for key in ("#", "*", "conductor", "compute.node2", "compute.*")},
        "bind another's queue": Attempts("compute.node2").bind_another,
        "hear replies": Attempts(replies).bind_replies,
        "delete the exchange": nova.delete_exchange,
        "order node2": Attempts("compute.node2").publish,
        "order all": Attempts("compute_fanout").publish,
        "straight into a queue": Attempts("compute.node2").publish_past_exchanges,
        "answer for conductor": Attempts("reply_compute.node2_x").answer,
    }
    assert [what for what, do in tried.items() if not await refused(mine, do)] == []
    assert not await refused(mine, Attempts("compute.node1").bind_mine)


async def test_a_call_whose_answer_may_not_be_heard_ends_by_its_deadline(rig: Rig) -> None:
    """Its reply queue is refused again and again, by a broker that is up."""
    mine = await rig.admit("node1")
    speaker = rig.bus("compute.node2", mine)
    with pytest.raises(Fault) as told:
        await asyncio.wait_for(speaker.call(Target("nova", "conductor"), "echo", {}, timeout_seconds=2), 20)
    assert told.value.kind is Kind.UNAVAILABLE


class Attempts:
    """What somebody with a host's user may try, on the queue or key `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def consume(self, channel: Any) -> None:
        queue = await channel.get_queue(self.name, ensure=False)
        await queue.consume(_ignore)

    async def get(self, channel: Any) -> None:
        await (await channel.get_queue(self.name, ensure=False)).get(fail=False)

    async def delete(self, channel: Any) -> None:
        await channel.queue_delete(self.name)

    async def declare(self, channel: Any) -> None:
        await channel.declare_queue(self.name, durable=True)

    async def bind_mine(self, channel: Any) -> None:
        queue = await channel.declare_queue("compute_fanout_node1_spy", durable=True, auto_delete=True)
        await queue.bind("nova", routing_key=self.name)

    async def bind_another(self, channel: Any) -> None:
        queue = await channel.get_queue(self.name, ensure=False)
        await queue.bind("nova", routing_key="compute.node1")

    async def bind_replies(self, channel: Any) -> None:
        queue = await channel.declare_queue("compute_fanout_node1_spy", durable=True, auto_delete=True)
        await queue.bind(REPLIES_EXCHANGE, routing_key=self.name)

    async def delete_exchange(self, channel: Any) -> None:
        await channel.exchange_delete(self.name)

    async def publish(self, channel: Any) -> None:
        exchange = await channel.get_exchange("nova", ensure=False)
        await exchange.publish(aio_pika.Message(b"x"), self.name)

    async def publish_past_exchanges(self, channel: Any) -> None:
        await channel.default_exchange.publish(aio_pika.Message(b"x"), self.name)

    async def answer(self, channel: Any) -> None:
        exchange = await channel.get_exchange(REPLIES_EXCHANGE, ensure=False)
        await exchange.publish(aio_pika.Message(b"x"), self.name)


async def test_forged_replayed_stale_and_altered_frames_do_nothing(rig: Rig) -> None:
    """A106, past our own adapter: whatever bytes a host's user publishes where it may."""
    mine = await rig.admit("node1")
    heard: list[tuple[str, Any]] = []

    async def note(message: Message) -> None:
        heard.append((message.sender, message.args["n"]))

    await rig.bus("conductor").serve("nova", "conductor", "", {"note": note})
    world, keys = LiveWorld("attacker"), agent_keys(SECRET, "compute.node1")
    ring = KeyRing("compute.node1", keys)

    def said(n: int, sender: str = "compute.node1", seconds_ago: float = 0.0) -> Message:
        made = request(world, sender, Target("nova", "conductor"), "note", {"n": n}, kind="cast", deadline_seconds=0.0)
        made.sent_at -= seconds_ago
        return made

    good = ring.seal(said(1))
    frames = [
        good,
        good,  # replayed
        ring.seal(said(2, seconds_ago=2 * CAST_KEPT_SECONDS)),
        good.replace(b'"n":1', b'"n":3'),
        KeyRing("compute.node2", {"compute.node2": keys["compute.node1"]}).seal(said(4, "compute.node2")),
        KeyRing("nova-api", {"control": keys["compute"]}).seal(said(5, "nova-api")),
        b"",
        b"\xff" * 200,
        ring.seal(said(9)),
    ]
    connection = await aio_pika.connect(mine)
    exchange = await (await connection.channel()).get_exchange("nova", ensure=False)
    for frame in frames:
        await exchange.publish(aio_pika.Message(frame), "conductor")
    async with asyncio.timeout(10):
        while ("compute.node1", 9) not in heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert heard == [("compute.node1", 1), ("compute.node1", 9)]
    await connection.close()
    await world.close()


async def test_a_new_password_ends_what_the_old_one_opened(rig: Rig) -> None:
    old = await rig.admit("node1")
    connection = await aio_pika.connect(old)
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    new = await rig.admit("node1", "second")
    await until_ended(rig, "agent-node1", closed)
    with pytest.raises((ProbableAuthenticationError, *CONNECTION_EXCEPTIONS)):
        await aio_pika.connect(old)
    await (await aio_pika.connect(new)).close()
    await rig.admin.delete_user("agent-node1")
    with pytest.raises((ProbableAuthenticationError, *CONNECTION_EXCEPTIONS)):
        await aio_pika.connect(new)


async def until_ended(rig: Rig, user: str, closed: asyncio.Event) -> None:
    """The broker lists a new connection after some seconds; ended by name it can be from then on."""
    for _ in range(30):
        if closed.is_set():
            return
        await asyncio.sleep(1)
        await rig.admin.set_user(user, "second", rights_of(["compute.node1"]))
    raise AssertionError("the old connection lives on")


async def test_an_administrator_that_is_none_is_told_so(rig: Rig) -> None:
    await rig.admit("node1")
    impostor = BrokerAdmin(as_user(rig.broker.admin_url, "agent-node1", "first"), "/", verify=trusting_tests())
    with pytest.raises(Fault) as told:
        await impostor.prepare(["compute.node1"])
    await impostor.close()
    assert told.value.kind is Kind.CONFLICT
    assert "administrator" in told.value.told
    away = BrokerAdmin("http://guest:guest@127.0.0.1:9/", "/")
    with pytest.raises(Fault) as told:
        await away.prepare(["compute.node1"])
    await away.close()
    assert told.value.kind is Kind.UNAVAILABLE


async def _ignore(_message: Any) -> None:
    """What was not refused ends here."""
