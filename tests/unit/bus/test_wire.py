"""Our end of AMQP against a broker whose every frame is packed and read by pamqp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic, Confirm, Queue
from pamqp.commands import Channel as Ch
from pamqp.commands import Connection as Co
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from kilonova.base.faults import Fault
from kilonova.bus import amqp_frames
from kilonova.bus.amqp_channel import Channel, Cut, Delivery, Nacked, Refused, Returned
from kilonova.bus.amqp_wire import Address, Connection, connect

ANSWERS: dict[str, Callable[[], Any]] = {
    "Channel.Open": Ch.OpenOk,
    "Channel.Close": Ch.CloseOk,
    "Confirm.Select": Confirm.SelectOk,
    "Basic.Qos": Basic.QosOk,
    "Basic.Consume": lambda: Basic.ConsumeOk("x"),
    "Queue.Declare": lambda: Queue.DeclareOk("q", 3, 1),
    "Connection.Close": Co.CloseOk,
    "Connection.Open": Co.OpenOk,
}


class Broker:
    """Answers what it is asked; what else it says, the test decides. `taken`: what it got, but for the handshake."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.bodies: list[bytes] = []
        self.refuses: Co.Close | None = None
        self.mute = False
        self.piece = 0  # bytes sent at a time; 0: all at once
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def say(self, *said: Any, channel: int = 1) -> None:
        await self.raw(b"".join(pamqp.frame.marshal(one, channel) for one in said))

    async def raw(self, data: bytes) -> None:
        assert self._writer is not None
        step = self.piece or len(data)
        for at in range(0, len(data), step):
            self._writer.write(data[at : at + step])
            await asyncio.sleep(0)  # a turn for the reader
        await self._writer.drain()

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(5):
            while len(self.taken) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return self.taken

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            assert await reader.readexactly(8) == b"AMQP\0\0\x09\x01"
            await self.say(Co.Start(server_properties={}), channel=0)
            while True:
                start = await reader.readexactly(7)
                rest = await reader.readexactly(pamqp.frame.frame_parts(start)[2] + 1)  # type: ignore[operator]
                _, channel, frame = pamqp.frame.unmarshal(start + rest)
                await self._take(channel, frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _take(self, channel: int, frame: Any) -> None:
        if isinstance(frame, Co.StartOk):
            assert frame.response == "\0me\0s3cret"
            await self.say(self.refuses or Co.Tune(2047, 131_072, 60), channel=0)
        elif isinstance(frame, Co.TuneOk | Co.CloseOk | Heartbeat):
            pass
        elif isinstance(frame, Co.Open):
            assert frame.virtual_host == "a/b"
            await self.say(Co.OpenOk(), channel=0)
        elif frame.name in ANSWERS and not self.mute:
            await self.say(ANSWERS[frame.name](), channel=channel)
        elif isinstance(frame, ContentBody):
            self.bodies.append(frame.value)
        else:
            self.taken.append(frame)


class Rig:
    """A broker, and an open connection to it."""

    def __init__(self, broker: Broker, port: int) -> None:
        self.broker = broker
        self.address = Address.of(f"amqp://me:s3cret@127.0.0.1:{port}/a%2Fb")
        self.connection: Connection
        self.outcomes: dict[int, Any] = {}

    def publish(self, channel: Channel, n: int, body: bytes = b"body") -> None:
        wire = amqp_frames.properties(f"id-{n}", "reboot", "nova-api", 1500)
        channel.publish(
            ("nova", "compute.node1", True), wire, body, f"id-{n}", lambda error: self.outcomes.update({n: error})
        )

    async def settled(self, *numbers: int) -> list[Any]:
        async with asyncio.timeout(5):
            while not all(n in self.outcomes for n in numbers):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return [self.outcomes[n] for n in numbers]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        broker = Broker()
        server = await broker.start()
        stack.callback(server.close)
        rig = Rig(broker, server.sockets[0].getsockname()[1])
        rig.connection = await connect(rig.address, "kilonova test", None, heartbeat_seconds=0.4)
        stack.push_async_callback(rig.connection.close)
        yield rig


def delivery(tag: int, body: bytes, consumer: str) -> list[Any]:
    """The frames of one delivery."""
    pieces = [ContentBody(body[at : at + 100_000]) for at in range(0, len(body), 100_000)]
    method = Basic.Deliver(consumer, tag, False, "nova", "compute.node1")
    return [method, ContentHeader(body_size=len(body), properties=Basic.Properties(message_id="x")), *pieces]


@pytest.mark.parametrize("size", [1, 1000, 131_064, 131_065, 400_000])
async def test_what_is_published_is_what_the_field_reads(rig: Rig, size: int) -> None:
    channel = await rig.connection.channel(confirms=True)
    body = bytes(range(256)) * (size // 256 + 1)
    rig.publish(channel, 1, body[:size])
    method, header = await rig.broker.until(2)
    assert (method.exchange, method.routing_key, method.mandatory) == ("nova", "compute.node1", True)
    told = header.properties
    assert (told.message_id, told.message_type, told.app_id) == ("id-1", "reboot", "nova-api")
    assert (told.expiration, told.delivery_mode) == ("1500", 2)
    assert told.content_type == "application/vnd.kilonova.signed+json"
    assert header.body_size == size
    async with asyncio.timeout(5):
        while sum(map(len, rig.broker.bodies)) < size:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert b"".join(rig.broker.bodies) == body[:size]
    assert max(map(len, rig.broker.bodies)) <= 131_072 - 8


@pytest.mark.parametrize("piece", [0, 1, 7, 4096])
async def test_a_delivery_is_whole_however_the_network_cuts_it(rig: Rig, piece: int) -> None:
    channel = await rig.connection.channel(prefetch=8)
    taken: list[bytes] = []
    tag = await channel.consume("conductor", lambda one: taken.append(one.body))
    rig.broker.piece = piece
    bodies = [b"", b"a", b"b" * 5000, b"c" * (250_000 if piece in (0, 4096) else 300)]
    for number, body in enumerate(bodies, 1):
        await rig.broker.say(*delivery(number, body, tag))
    async with asyncio.timeout(10):
        while len(taken) < len(bodies):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert taken == bodies


async def test_acknowledgements_of_one_turn_are_one_frame_where_none_is_left_out(rig: Rig) -> None:
    channel = await rig.connection.channel(prefetch=8)
    taken: list[Delivery] = []
    tag = await channel.consume("conductor", taken.append)
    await rig.broker.say(*(frame for n in range(1, 7) for frame in delivery(n, b"x", tag)))
    async with asyncio.timeout(5):
        while len(taken) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    for n in (2, 1, 3, 5):
        assert taken[n - 1].acknowledge()
    got = [(ack.delivery_tag, ack.multiple) for ack in await rig.broker.until(2)]
    assert got == [(3, True), (5, False)]
    for n in (4, 6):
        taken[n - 1].acknowledge()
    await rig.broker.until(3)
    assert [(ack.delivery_tag, ack.multiple) for ack in rig.broker.taken[2:]] == [(6, True)]


async def test_each_publication_is_settled_once_and_rightly(rig: Rig) -> None:
    channel = await rig.connection.channel(confirms=True)
    for n in range(1, 7):
        rig.publish(channel, n)
    await rig.broker.until(12)
    back = Basic.Return(312, "NO_ROUTE", "nova", "compute.node1")
    header = ContentHeader(body_size=4, properties=Basic.Properties(message_id="id-2"))
    await rig.broker.say(back, header, ContentBody(b"body"), Basic.Ack(3, True), Basic.Nack(4), Basic.Ack(6))
    first, second, third, fourth, sixth = await rig.settled(1, 2, 3, 4, 6)
    assert (first, third, sixth) == (None, None, None)
    assert isinstance(second, Returned)
    assert isinstance(fourth, Nacked)
    assert channel.unconfirmed == 1
    rig.connection.abort("test")
    assert isinstance((await rig.settled(5))[0], Cut)


async def test_a_channel_that_the_broker_closes_tells_all_that_hang_on_it(rig: Rig) -> None:
    channel = await rig.connection.channel(confirms=True)
    ended = asyncio.Event()
    channel.on_end = ended.set
    rig.publish(channel, 1)
    rig.broker.mute = True
    asking = asyncio.create_task(channel.ask(Queue.Declare(queue="conductor", passive=True)))
    await rig.broker.until(3)
    await rig.broker.say(Ch.Close(403, "ACCESS_REFUSED", 50, 10))
    with pytest.raises(Refused, match="403 ACCESS_REFUSED"):
        await asking
    assert ended.is_set()
    assert isinstance((await rig.settled(1))[0], Refused)
    with pytest.raises(Cut):
        rig.publish(channel, 2)
    assert (await rig.broker.until(4))[3].name == "Channel.CloseOk"
    rig.broker.mute = False
    assert await (await rig.connection.channel()).ask(Queue.Declare(queue="conductor"))  # the connection goes on


async def test_a_consumer_whose_queue_is_gone_ends_its_channel(rig: Rig) -> None:
    channel = await rig.connection.channel()
    ended = asyncio.Event()
    channel.on_end = ended.set
    tag = await channel.consume("conductor", lambda _: None)
    await rig.broker.say(Basic.Cancel(tag))
    await asyncio.wait_for(ended.wait(), 5)


async def test_one_message_that_breaks_its_taker_is_not_the_end(rig: Rig) -> None:
    channel = await rig.connection.channel()
    taken: list[bytes] = []

    def take(one: Delivery) -> None:
        if one.body == b"bad":
            raise RecursionError("too deep")
        taken.append(one.body)

    tag = await channel.consume("conductor", take)
    await rig.broker.say(*delivery(1, b"bad", tag), *delivery(2, b"good", tag))
    async with asyncio.timeout(5):
        while not taken:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert taken == [b"good"]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x01\x00\x01\x00\x00\x00\x01x\x00",  # a frame without its end
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x99\x00\x99\xce",  # a method that there is none of
        b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x3c\xff\xce",  # a delivery that ends too soon
    ],
)
async def test_what_is_no_amqp_ends_the_connection(rig: Rig, said: bytes) -> None:
    ended = asyncio.Event()
    await rig.connection.channel()
    rig.connection.on_end = ended.set
    await rig.broker.raw(said)
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_silent_broker_is_left_and_one_that_beats_is_not(rig: Rig) -> None:
    ended = asyncio.Event()
    rig.connection.on_end = ended.set
    for _ in range(12):
        await rig.broker.say(Heartbeat(), channel=0)
        await asyncio.sleep(0.1)
    assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_wrong_password_is_told_as_the_broker_says_it(rig: Rig) -> None:
    rig.broker.refuses = Co.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0)
    with pytest.raises(Refused, match="Login was refused"):
        await connect(rig.address, "kilonova test", None)


def test_an_address_is_read_from_its_url() -> None:
    assert Address.of("amqps://me:a%40b%2F@[::1]:99/cloud") == Address("::1", 99, "me", "a@b/", "cloud", tls=True)
    assert Address.of("amqp://mq1.example") == Address("mq1.example", 5672, "guest", "guest", "/", tls=False)
    assert Address.of("amqps://mq1.example/").port == 5671
    for bad in ("http://mq1", "amqp://", "mq1.example", "amqp://mq1:port/", "amqp://[::1"):
        with pytest.raises(Fault, match="malformed"):
            Address.of(bad)
