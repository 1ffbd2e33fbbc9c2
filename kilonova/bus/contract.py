"""What every bus adapter does. The topology is the field's: one topic exchange per service, queues TYPE and TYPE.HOST.

A `call` is at most once: acknowledged before its work, answered or failed by its deadline. A `cast` is acknowledged
when its handler returns: the handler puts the work into a row or ledger and returns quickly; it may be
delivered twice (never silently lost), so handlers are idempotent. A `fanout` reaches every live worker of a type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

Json = Any
CALL_TIMEOUT_SECONDS = 10.0


class Target(msgspec.Struct, frozen=True):
    """Where a message goes: any worker of `type`, or the one on `host`."""

    exchange: str  # nova | cinder | neutron
    type: str  # conductor | scheduler | compute | cinder-volume | q-plugin | …
    host: str = ""
    version: int = 1  # of the interface; workers accept theirs and the one before

    @property
    def queue(self) -> str:
        """`conductor`, `compute.node3`."""
        return f"{self.type}.{self.host}" if self.host else self.type


class Message(msgspec.Struct):
    """The envelope, as it crosses the wire (JSON)."""

    id: str
    exchange: str
    type: str
    host: str
    version: int
    method: str
    args: dict[str, Json]
    kind: str  # call | cast | fanout
    sender: str
    sent_at: float
    deadline_at: float = 0.0  # 0: none. Wall-clock seconds; a message that is past it is dropped with a log line
    reply_to: str = ""
    traceparent: str = ""
    request_id: str = ""


Handler = Callable[[Message], Awaitable[Json]]


class Subscription(Protocol):
    """A worker that is serving."""

    async def stand_back(self) -> None:
        """Leave what any worker of the type may take to the others, if there are others now. What is for this host
        alone and what all must hear still comes, so that work under way can end before `close`."""
        ...

    async def close(self) -> None:
        """Take no new message; let running handlers end."""
        ...


class Bus(Protocol):
    """Call, cast, fanout, serve."""

    async def call(
        self, to: Target, method: str, args: Mapping[str, Json], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Json:
        """The worker's answer. Faults: what the worker raised; UNAVAILABLE when nobody answered in time."""
        ...

    async def cast(self, to: Target, method: str, args: Mapping[str, Json], *, deadline_seconds: float = 0.0) -> None:
        """Return once the broker holds the message. A cast to a worker that is down waits for it."""
        ...

    async def fanout(self, to: Target, method: str, args: Mapping[str, Json]) -> None:
        """Tell every live worker of `to.type`; workers that are down miss it."""
        ...

    async def serve(
        self, exchange: str, type_: str, host: str, handlers: Mapping[str, Handler], *, version: int = 1
    ) -> Subscription:
        """Take messages for `type_`, `type_.host` and the fanout of `type_` until closed."""
        ...

    async def close(self) -> None:
        """Leave the broker; waiting calls fail with UNAVAILABLE."""
        ...
