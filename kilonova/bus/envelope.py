"""Making messages, and the caller's side of a call: what is waiting for an answer. Shared by all bus adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

from kilonova.base.faults import Fault, unavailable
from kilonova.base.world import World
from kilonova.bus.contract import Json, Message, Target
from kilonova.trace import spans


@cache
def participant(exchange: str, type_: str) -> str:
    """The name that operators know a worker by in a sequence diagram: `nova_conductor`, `neutron`, `cinder`."""
    return f"nova_{type_}" if exchange == "nova" else exchange


def request(
    world: World, sender: str, to: Target, method: str, args: Mapping[str, Json], *, kind: str, deadline_seconds: float
) -> Message:
    """A new message from `sender`, inside the running trace. A deadline of 0 seconds is none."""
    context = spans.current()
    now = world.clock.now().timestamp()
    return Message(
        id=world.ids.uuid(),
        exchange=to.exchange,
        type=to.type,
        host="" if kind == "fanout" else to.host,
        version=to.version,
        method=method,
        args=dict(args),
        kind=kind,
        sender=sender,
        sent_at=now,
        deadline_at=now + deadline_seconds if deadline_seconds else 0.0,
        traceparent=context.traceparent if context else "",
        request_id=context.request_id if context else "",
    )


def reply(world: World, sender: str, asked: Message, answer: dict[str, Json]) -> Message:
    """The answer to `asked`: `answer` is {"result": …} or {"fault": …}."""
    type_, _, host = asked.sender.partition(".")
    return Message(
        id=world.ids.uuid(),
        exchange=asked.exchange,
        type=type_,
        host=host,
        version=asked.version,
        method=asked.method,
        args={"to": asked.id, **answer},
        kind="reply",
        sender=sender,
        sent_at=world.clock.now().timestamp(),
        deadline_at=asked.deadline_at,
    )


class WaitingCalls:
    """Calls of one bus that have no answer yet; each ends by its answer, its deadline, or the bus closing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[str, tuple[Target, asyncio.Future[Json]]] = {}

    def add(self, id_: str, to: Target, method: str, timeout_seconds: float) -> asyncio.Future[Json]:
        """A future for the answer to call `id_`; UNAVAILABLE when none came in time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Json] = loop.create_future()
        self._waiting[id_] = (to, future)

        def late() -> None:
            told = unavailable(
                f"No answer from {to.queue} within {timeout_seconds:g} seconds.",
                hint="Check that the service runs and reaches the message broker.",
                inside=f"call {method} {id_} on {to.exchange}/{to.queue}",
            )
            self._fail(future, told)

        timer = loop.call_later(timeout_seconds, late)

        def done(_: asyncio.Future[Json]) -> None:
            timer.cancel()
            del self._waiting[id_]

        future.add_done_callback(done)
        return future

    def answer(self, message: Message) -> bool:
        """Give a reply to whoever waits for it; False when nobody does, or the sender was not the one asked."""
        to, future = self._waiting.get(message.args.get("to", ""), (None, None))
        if to is None or future is None or future.done():
            return False
        type_, _, host = message.sender.partition(".")
        if type_ != to.type or (to.host and host != to.host):
            return False
        if self._world.dead:
            return True
        fault: dict[str, Any] | None = message.args.get("fault")
        if fault is not None:
            future.set_exception(Fault.from_wire(fault))
        else:
            future.set_result(message.args.get("result"))
        return True

    def fail_all(self, fault: Fault) -> None:
        """Every waiting call fails with `fault`."""
        for _, future in list(self._waiting.values()):
            self._fail(future, fault)

    def _fail(self, future: asyncio.Future[Json], fault: Fault) -> None:
        if not future.done() and not self._world.dead:
            future.set_exception(fault)
