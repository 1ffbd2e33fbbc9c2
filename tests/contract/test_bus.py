"""What every bus promises, on memory and on RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from kilonova.base.faults import Fault, Kind, no_capacity
from kilonova.base.world import LiveWorld
from kilonova.bus import rpc
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.contract import Bus, Handler, Message, Target
from kilonova.bus.memory import MemoryBroker, MemoryBus
from kilonova.bus.signing import DerivedKeys, agent_keys
from kilonova.trace import spans
from tests.services import RabbitMQ

SECRET = b"deployment"


@dataclass
class Cloud:
    """A broker, and buses on it that end with the test. `type_` names are new for each test: brokers are shared."""

    stack: AsyncExitStack
    suffix: str
    url: str = ""
    broker: MemoryBroker = field(default_factory=lambda: MemoryBroker(SECRET))

    def bus(self, sender: str, keys: dict[str, bytes] | None = None) -> Bus:
        world = LiveWorld(sender)
        self.stack.push_async_callback(world.close)
        known = DerivedKeys(SECRET) if keys is None else keys
        bus: Bus = (
            AmqpBus(world, [self.url], sender, known) if self.url else MemoryBus(world, self.broker, sender, known)
        )
        self.stack.push_async_callback(bus.close)
        return bus

    def to(self, type_: str = "", host: str = "", version: int = 1) -> Target:
        return Target("nova", type_ or f"conductor-{self.suffix}", host, version)

    async def worker(self, handlers: dict[str, Handler], host: str = "c1", version: int = 1) -> Any:
        """A worker of the test's own type."""
        bus = self.bus(f"{self.to().type}.{host}")
        return await bus.serve("nova", self.to().type, host, handlers, version=version)


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.cluster)])
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    url = request.getfixturevalue("rabbitmq").url if request.param == "rabbitmq" else ""
    async with AsyncExitStack() as stack:
        yield Cloud(stack, LiveWorld("test").ids.hex32()[:8], url)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that happens soon."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 what is waited for has no event of its own
            await asyncio.sleep(0.01)


def recorder(into: list[Any]) -> Handler:
    async def record(message: Message) -> None:
        into.append(message.args.get("n"))

    return record


async def test_a_call_brings_back_the_answer_as_json(cloud: Cloud) -> None:
    async def describe(message: Message) -> Any:
        return {"args": message.args, "pair": (1, 2), "from": rpc.sender()}

    await cloud.worker({"describe": describe})
    answer = await cloud.bus("nova-api").call(cloud.to(), "describe", {"name": "é", "size": 2**40})
    assert answer == {"args": {"name": "é", "size": 2**40}, "pair": [1, 2], "from": "nova-api"}


async def test_a_fault_crosses_with_all_its_parts_and_a_bug_stays_vague(cloud: Cloud) -> None:
    async def full(message: Message) -> None:
        raise no_capacity("No valid host was found.", hint="Add hosts.", data={"hosts": {"h1": "too little RAM"}})

    async def broken(message: Message) -> None:
        raise ZeroDivisionError("secret path /etc")

    await cloud.worker({"full": full, "broken": broken})
    bus = cloud.bus("nova-api")
    with pytest.raises(Fault) as told:
        await bus.call(cloud.to(), "full", {})
    assert told.value.kind is Kind.NO_CAPACITY
    assert told.value.told == "No valid host was found. Add hosts."
    assert told.value.data == {"hosts": {"h1": "too little RAM"}}
    with pytest.raises(Fault) as told:
        await bus.call(cloud.to(), "broken", {})
    assert told.value.kind is Kind.BUG
    assert "/etc" not in told.value.told
    assert "ZeroDivisionError" in told.value.inside


async def test_a_call_that_nobody_answers_fails_in_time(cloud: Cloud) -> None:
    with pytest.raises(Fault) as told:
        await cloud.bus("nova-api").call(cloud.to(), "hello", {}, timeout_seconds=0.3)
    assert told.value.kind is Kind.UNAVAILABLE


async def test_workers_share_the_calls_and_a_host_gets_its_own(cloud: Cloud) -> None:
    done: list[str] = []

    def named(host: str) -> Handler:
        async def handle(message: Message) -> str:
            done.append(host)
            return host

        return handle

    for host in ("c1", "c2"):
        await cloud.worker({"who": named(host)}, host)
    bus = cloud.bus("nova-api")
    for _ in range(10):
        await bus.call(cloud.to(), "who", {})
    assert done.count("c1") == done.count("c2") == 5
    assert [await bus.call(cloud.to(host="c2"), "who", {}) for _ in range(3)] == ["c2"] * 3


async def test_a_worker_that_stands_back_leaves_what_is_shared_to_the_others(cloud: Cloud) -> None:
    heard: dict[str, list[Any]] = {"c1": [], "c2": []}
    first, second = [await cloud.worker({"note": recorder(heard[host])}, host) for host in heard]
    bus = cloud.bus("nova-api")
    await first.stand_back()
    for n in range(6):
        await bus.cast(cloud.to(), "note", {"n": n})
    await bus.cast(cloud.to(host="c1"), "note", {"n": "its own"})
    await bus.fanout(cloud.to(), "note", {"n": "all"})
    await until(lambda: len(heard["c1"]) == 2 and len(heard["c2"]) == 7)
    assert sorted(heard["c1"]) == ["all", "its own"]
    await first.close()
    await second.stand_back()  # there is nobody else now
    await bus.cast(cloud.to(), "note", {"n": "last"})
    await until(lambda: heard["c2"][-1] == "last")


async def test_a_fanout_reaches_every_worker(cloud: Cloud) -> None:
    heard: list[Any] = []
    for host in ("c1", "c2", "c3"):
        await cloud.worker({"news": recorder(heard)}, host)
    await cloud.bus("nova-api").fanout(cloud.to(), "news", {"n": 1})
    await until(lambda: len(heard) == 3)
    assert heard == [1, 1, 1]


async def test_casts_wait_for_their_worker_and_run_in_order(cloud: Cloud) -> None:
    bus, ran = cloud.bus("nova-api"), list[Any]()
    for n in range(100):
        await bus.cast(cloud.to(host="c1"), "note", {"n": n})
    await cloud.worker({"note": recorder(ran)})
    await until(lambda: len(ran) == 100)
    assert ran == list(range(100))


async def test_a_cast_past_its_deadline_is_dropped(cloud: Cloud) -> None:
    bus, ran = cloud.bus("nova-api"), list[Any]()
    await bus.cast(cloud.to(), "note", {"n": "late"}, deadline_seconds=0.2)
    await asyncio.sleep(0.4)
    await bus.cast(cloud.to(), "note", {"n": "fresh"}, deadline_seconds=5)
    await cloud.worker({"note": recorder(ran)})
    await until(lambda: bool(ran))
    await asyncio.sleep(0.1)
    assert ran == ["fresh"]


async def test_a_cast_whose_worker_died_is_done_by_the_next(cloud: Cloud) -> None:
    begun, ran = asyncio.Event(), list[Any]()

    async def never_ends(message: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    dying = LiveWorld("dying")
    sender = f"{cloud.to().type}.c1"
    keys = DerivedKeys(SECRET)
    first: Bus = AmqpBus(dying, [cloud.url], sender, keys) if cloud.url else MemoryBus(dying, cloud.broker, sender)
    await first.serve("nova", cloud.to().type, "c1", {"note": never_ends})
    await cloud.bus("nova-api").cast(cloud.to(), "note", {"n": 7})
    await begun.wait()
    await cloud.worker({"note": recorder(ran)}, "c2")
    await dying.close()  # no goodbye from the bus: its tasks end, as a process does
    await first.close()
    await until(lambda: ran == [7])


async def test_a_cast_is_tried_again_while_its_worker_is_unavailable(cloud: Cloud) -> None:
    tries: list[int] = []

    async def recovering(message: Message) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Fault(Kind.UNAVAILABLE, "The database is away.")

    await cloud.worker({"note": recovering})
    await cloud.bus("nova-api").cast(cloud.to(), "note", {})
    await until(lambda: len(tries) == 3)


async def test_a_closed_worker_takes_nothing_new_but_ends_its_work(cloud: Cloud) -> None:
    go, begun, ran = asyncio.Event(), asyncio.Event(), list[Any]()

    async def slow(message: Message) -> str:
        begun.set()
        await go.wait()
        return "ended"

    worker = await cloud.worker({"work": slow, "note": recorder(ran)})
    bus = cloud.bus("nova-api")
    call = asyncio.create_task(bus.call(cloud.to(), "work", {}))
    await begun.wait()
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0.2)
    await bus.cast(cloud.to(), "note", {"n": 1})
    go.set()
    assert await call == "ended"
    await closing
    assert ran == []
    await cloud.worker({"note": recorder(ran)}, "c2")
    await until(lambda: ran == [1])


async def test_the_version_before_is_understood_and_a_newer_one_refused(cloud: Cloud) -> None:
    async def hello(message: Message) -> int:
        return message.version

    await cloud.worker({"hello": hello}, version=2)
    bus = cloud.bus("nova-api")
    assert await bus.call(cloud.to(version=1), "hello", {}) == 1
    assert await bus.call(cloud.to(version=2), "hello", {}) == 2
    with pytest.raises(Fault, match="speaks version 2 of its messages, not 3") as told:
        await bus.call(cloud.to(version=3), "hello", {})
    assert "pgrade" in told.value.hint


async def test_the_trace_goes_on_at_the_worker(cloud: Cloud) -> None:
    async def plan(message: Message) -> None:
        with spans.span("database", "UPDATE servers"):
            pass

    await cloud.worker({"plan": plan})
    with spans.within(spans.begin("nova_api", request_id="req-1")):
        context = spans.current()
        await cloud.bus("nova-api").call(cloud.to(), "plan", {})
    assert context is not None
    seen = {s.name: s for s in spans.RING.spans if s.trace_id == context.trace_id}
    asked, wrote = seen["plan"], seen["UPDATE servers"]
    assert (asked.source, asked.target, asked.kind) == ("nova_api", f"nova_{cloud.to().type}", "call")
    assert (wrote.source, wrote.parent_id, wrote.request_id) == (asked.target, asked.span_id, "req-1")


async def test_an_agent_is_known_by_its_key_and_cannot_speak_for_another(cloud: Cloud) -> None:
    async def who(message: Message) -> str:
        return rpc.sender()

    await cloud.worker({"who": who})
    host = f"node-{cloud.suffix}"
    agent = cloud.bus(f"compute.{host}", agent_keys(SECRET, f"compute.{host}"))
    assert await agent.call(cloud.to(), "who", {}) == f"compute.{host}"
    impostor = cloud.bus("compute.other", {"compute.other": agent_keys(SECRET, f"compute.{host}")[f"compute.{host}"]})
    with pytest.raises(Fault) as told:  # its messages are dropped: the key it has is not compute.other's
        await impostor.call(cloud.to(), "who", {}, timeout_seconds=0.5)
    assert told.value.kind is Kind.UNAVAILABLE


async def test_a_host_cannot_give_orders_to_another_host(cloud: Cloud) -> None:
    mine, other = f"compute.mine-{cloud.suffix}", f"compute.other-{cloud.suffix}"
    told: list[str] = []

    async def do_step(message: Message) -> None:
        told.append(rpc.sender())

    await cloud.bus(other, agent_keys(SECRET, other)).serve(
        "nova", "compute", f"other-{cloud.suffix}", {"do_step": do_step}
    )
    to = cloud.to("compute", f"other-{cloud.suffix}")
    await cloud.bus(mine, agent_keys(SECRET, mine)).cast(to, "do_step", {})
    with pytest.raises(Fault, match="may not send"):  # a host's keys cannot sign as the conductor to another host
        await cloud.bus("conductor", agent_keys(SECRET, mine)).cast(to, "do_step", {})
    await cloud.bus("conductor").cast(to, "do_step", {})
    await until(lambda: bool(told))
    await asyncio.sleep(0.1)
    assert told == ["conductor"]


async def test_calls_to_an_agent_come_back_from_that_agent(cloud: Cloud) -> None:
    host = f"node-{cloud.suffix}"
    agent = cloud.bus(f"compute.{host}", agent_keys(SECRET, f"compute.{host}"))

    async def who(message: Message) -> str:
        return rpc.sender()

    await agent.serve("nova", "compute", host, {"who": who})
    assert await cloud.bus("conductor").call(cloud.to("compute", host), "who", {}) == "conductor"


async def test_two_hundred_calls_at_once_are_all_answered(cloud: Cloud) -> None:
    async def double(message: Message) -> int:
        await asyncio.sleep(0.01)
        return int(message.args["n"]) * 2

    await cloud.worker({"double": double})
    bus = cloud.bus("nova-api")
    answers = await asyncio.gather(*(bus.call(cloud.to(), "double", {"n": n}) for n in range(200)))
    assert answers == [n * 2 for n in range(200)]


async def test_waiting_calls_fail_at_once_when_their_bus_closes(cloud: Cloud) -> None:
    bus = cloud.bus("nova-api")
    call = asyncio.create_task(bus.call(cloud.to(), "hello", {}, timeout_seconds=30))
    await asyncio.sleep(0.5)
    await bus.close()
    async with asyncio.timeout(2):
        with pytest.raises(Fault, match="leaving the message broker"):
            await call


class Traffic:
    """Callers and a caster against one worker, counting what became of each message."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.runs: dict[str, int] = {}
        self.answered: list[str] = []
        self.accepted: list[str] = []
        self.failed: list[str] = []
        self.open = True

    async def handle(self, message: Message) -> str:
        id_ = str(message.args["id"])
        self.runs[id_] = self.runs.get(id_, 0) + 1
        return id_

    async def call_on(self, bus: Bus, caller: int) -> None:
        n = 0
        while self.open:
            id_, n = f"call-{caller}-{n}", n + 1
            try:
                assert await bus.call(self.cloud.to(), "handle", {"id": id_}, timeout_seconds=40) == id_
                self.answered.append(id_)
            except Fault as fault:
                self.failed.append(repr(fault))
            await asyncio.sleep(0.002)

    async def cast_on(self, bus: Bus) -> None:
        n = 0
        while self.open:
            id_, n = f"cast-{n}", n + 1
            try:
                await bus.cast(self.cloud.to(), "handle", {"id": id_})
                self.accepted.append(id_)
            except Fault as fault:
                self.failed.append(repr(fault))
            await asyncio.sleep(0.005)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Traffic before, during and after `work`; every caller ends by itself."""
        await self.cloud.worker({"handle": self.handle})
        bus = self.cloud.bus("nova-api")
        tasks = [asyncio.create_task(self.call_on(bus, n)) for n in range(8)]
        tasks.append(asyncio.create_task(self.cast_on(bus)))
        await asyncio.sleep(1)
        await work()
        await asyncio.sleep(1)
        self.open = False
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        await until(lambda: all(id_ in self.runs for id_ in self.accepted), 20)


async def broker_restarts(cloud: Cloud, rabbitmq: RabbitMQ, *, times: int) -> None:
    """Restart the broker under traffic, killed and politely in turn: nothing failed, lost, doubled or hung."""
    traffic = Traffic(cloud)

    async def restart() -> None:
        for n in range(times):
            before = len(traffic.answered)
            await asyncio.to_thread(rabbitmq.restart, kill=n % 2 == 0)
            await until(lambda floor=before: len(traffic.answered) > floor + 50, 60)  # type: ignore[misc]

    await traffic.run(restart)
    assert traffic.failed == []
    assert [id_ for id_ in traffic.answered if id_ not in traffic.runs] == []
    assert {id_: n for id_, n in traffic.runs.items() if n > 1} == {}
    print(f"{len(traffic.answered)} calls, {len(traffic.accepted)} casts, {times} restarts")


@pytest.mark.cluster
async def test_a_broker_killed_under_traffic_costs_nothing(rabbitmq: RabbitMQ) -> None:
    async with AsyncExitStack() as stack:
        await broker_restarts(Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url), rabbitmq, times=1)


@pytest.mark.cluster
@pytest.mark.full
async def test_a_broker_restarted_again_and_again_costs_nothing(rabbitmq: RabbitMQ) -> None:
    async with AsyncExitStack() as stack:
        await broker_restarts(Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url), rabbitmq, times=6)


@pytest.mark.cluster
async def test_the_next_broker_of_the_list_is_used_when_the_first_is_away(rabbitmq: RabbitMQ) -> None:
    world = LiveWorld("api")
    bus = AmqpBus(world, ["amqp://127.0.0.1:1/", rabbitmq.url, "amqp://127.0.0.1:1/"], "nova-api", DerivedKeys(SECRET))
    await bus.cast(Target("nova", f"spare-{world.ids.hex32()[:8]}"), "hello", {})
    assert bus.is_up
    await bus.close()
    await world.close()


@pytest.mark.cluster
def test_the_loop_of_the_services_carries_it_too(rabbitmq: RabbitMQ) -> None:
    """uvloop's transports are none of asyncio's, and messages of many frames go through them whole."""

    async def go() -> None:
        async with AsyncExitStack() as stack:
            cloud = Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url)

            async def echo(message: Message) -> Any:
                return message.args["text"]

            await cloud.worker({"echo": echo})
            bus, text = cloud.bus("nova-api"), "é" * 300_000
            assert await asyncio.gather(*(bus.call(cloud.to(), "echo", {"text": text[n:]}) for n in range(8))) == [
                text[n:] for n in range(8)
            ]

    uvloop.run(go())


@pytest.mark.cluster
async def test_queues_are_named_as_operators_know_them(rabbitmq: RabbitMQ) -> None:
    async with AsyncExitStack() as stack:
        cloud = Cloud(stack, LiveWorld("t").ids.hex32()[:8], rabbitmq.url)
        await cloud.worker({}, "c1")
        names = await asyncio.to_thread(rabbitmq.queues)
        type_ = cloud.to().type
        assert {type_, f"{type_}.c1"} <= set(names)
        assert [name for name in names if name.startswith(f"{type_}_fanout_")]


async def test_no_broker_is_told_clearly() -> None:
    world = LiveWorld("api")
    bus = AmqpBus(world, ["amqp://127.0.0.1:1/"], "nova-api", DerivedKeys(SECRET))
    with pytest.raises(Fault, match="message broker does not answer"):
        await bus.call(Target("nova", "conductor"), "hello", {}, timeout_seconds=0.3)
    await bus.close()
    await world.close()
