"""Calls over RabbitMQ between two processes: `make bench BENCH=rpc`. One broker, quorum queues, publisher confirms.

32 callers in this process, each with one call under way and 1 KB of arguments; the worker is a process of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import uvloop

from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.contract import Json, Message, Target
from kilonova.bus.signing import DerivedKeys
from tests.bench.phases import Result
from tests.bench.process import cpu_seconds
from tests.fake_cloud import ROOT
from tests.services import RabbitMQ

CALLERS, SECONDS, WARM_SECONDS, PAYLOAD = 32, 10.0, 2.0, "x" * 1000
KEYS = DerivedKeys(b"bench")
WORKER = Target("nova", "conductor")


async def measure() -> list[Result]:
    """Calls per second, and what one costs each side. In a thread with a loop as the services have it."""
    return await asyncio.to_thread(_measure)


def _measure() -> list[Result]:
    with RabbitMQ() as broker:
        command = [sys.executable, "-m", "tests.bench.rpc", broker.url]
        worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        try:
            return uvloop.run(_call(broker.url, worker.pid))
        finally:
            worker.terminate()
            worker.wait()


async def _call(url: str, worker_pid: int) -> list[Result]:
    world = LiveWorld("bench")
    bus = AmqpBus(world, [url], "nova-api", KEYS)
    took: list[float] = []
    until = time.monotonic() + WARM_SECONDS

    async def caller() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            assert await bus.call(WORKER, "echo", {"payload": PAYLOAD}) == len(PAYLOAD)
            took.append(time.monotonic() - began)

    async def run() -> tuple[float, float, float]:
        took.clear()
        began, mine, theirs = time.monotonic(), time.process_time(), cpu_seconds(worker_pid)
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return time.monotonic() - began, time.process_time() - mine, cpu_seconds(worker_pid) - theirs

    await run()
    until = time.monotonic() + SECONDS
    wall, mine, theirs = await run()
    await bus.close()
    await world.close()
    calls, slow = len(took), sorted(took)[len(took) * 99 // 100]
    return [
        Result("rpc", calls / wall, calls, wall),
        Result("rpc_p99", slow * 1000, calls, wall),
        Result("rpc_caller", mine / calls * 1e6, calls, wall),
        Result("rpc_worker", theirs / calls * 1e6, calls, wall),
    ]


async def _serve(url: str) -> None:
    """The worker, until it is killed."""

    async def echo(message: Message) -> Json:
        return len(message.args["payload"])

    bus = AmqpBus(LiveWorld("worker"), [url], "conductor", KEYS)
    await bus.serve(WORKER.exchange, WORKER.type, "worker", {"echo": echo})
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
