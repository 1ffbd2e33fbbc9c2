"""Queues on RabbitMQ that somebody deletes, that a broker forgets, that are full."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aio_pika
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus.contract import Message
from tests.contract.test_bus import Cloud
from tests.services import RabbitMQ


@pytest.mark.cluster
async def test_a_worker_whose_queue_was_deleted_serves_again(rabbitmq: RabbitMQ) -> None:
    async with AsyncExitStack() as stack:
        cloud = Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url)

        async def hello(message: Message) -> str:
            return "here"

        await cloud.worker({"hello": hello})
        bus = cloud.bus("nova-api")
        assert await bus.call(cloud.to(), "hello", {}) == "here"
        connection = await aio_pika.connect(rabbitmq.url)
        await (await connection.channel()).queue_delete(cloud.to().type)
        await connection.close()
        async with asyncio.timeout(20):  # the worker makes it anew
            while cloud.to().type not in await asyncio.to_thread(rabbitmq.queues):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert await bus.call(cloud.to(), "hello", {}) == "here"


@pytest.mark.cluster
async def test_an_answer_finds_its_caller_though_the_callers_queue_was_away(rabbitmq: RabbitMQ) -> None:
    """A broker that is killed forgets queues that are younger than a moment; the caller makes its own again, later
    perhaps than the worker answers."""
    async with AsyncExitStack() as stack:
        cloud = Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url)
        sender = f"nova-api-{cloud.suffix}"
        connection = await aio_pika.connect(rabbitmq.url)
        channel = await connection.channel()

        async def forget(message: Message) -> str:
            mine = [one for one in await asyncio.to_thread(rabbitmq.queues) if one.startswith(f"reply_{sender}_")]
            await channel.queue_delete(mine[0])
            return "here"

        await cloud.worker({"forget": forget})
        assert await cloud.bus(sender).call(cloud.to(), "forget", {}, timeout_seconds=30) == "here"
        await connection.close()


@pytest.mark.cluster
async def test_a_full_queue_is_told_as_busy(rabbitmq: RabbitMQ) -> None:
    async with AsyncExitStack() as stack:
        cloud = Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url)
        bus = cloud.bus("nova-api")
        await bus.cast(cloud.to("another"), "note", {})  # the exchange is there
        connection = await aio_pika.connect(rabbitmq.url)
        channel = await connection.channel()
        queue = await channel.declare_queue(
            cloud.to().type, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await queue.bind("nova", routing_key=cloud.to().type)
        with pytest.raises(Fault, match="is full") as told:
            await asyncio.gather(*(bus.cast(cloud.to(), "note", {"n": n}) for n in range(50)))
        assert told.value.kind is Kind.BUSY
        with pytest.raises(Fault, match="is full"):
            await bus.call(cloud.to(), "note", {})
        await queue.delete(if_empty=False)
        await connection.close()
