"""The worker's side of every bus adapter: is this message ours, fresh and new; run its handler; what to answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.faults import Fault, Kind, invalid, unavailable
from kilonova.base.world import World
from kilonova.bus import rpc
from kilonova.bus.contract import Handler, Json, Message
from kilonova.bus.envelope import participant, reply
from kilonova.bus.signing import KeyRing, SeenIds
from kilonova.trace import metrics, spans

log = logging.getLogger("kilonova.bus")
CASTS_IN_FLIGHT = 64  # per subscription
CAST_TRIES = 5


class Dispatcher:
    """What one subscription does with the frames it is given."""

    def __init__(
        self, world: World, keys: KeyRing, address: tuple[str, str, str], handlers: Mapping[str, Handler], version: int
    ) -> None:
        self.exchange, self.type, self.host = address
        self._world = world
        self._keys = keys
        self._handlers = handlers
        self._version = version
        self._seen = SeenIds()

    def admit(self, frame: bytes, *, again: bool = False) -> Message | None:
        """The message, if it may be handled: signed, for us, in time, and not handled before (unless `again`)."""
        message = self.opened(frame)
        return message if message is not None and self.is_new(message, again=again) else None

    def opened(self, frame: bytes) -> Message | None:
        """The message, if it is signed, for us and in time; whether it came before is not asked."""
        try:
            message = self._keys.unseal(frame, self._world.clock)
        except Fault as fault:
            log.warning("refused a message for %s: %r", self.type, fault)
            metrics.bus_message(self.type, "unknown", "refused")
            return None
        if (message.exchange, message.type) != (self.exchange, self.type) or message.host not in ("", self.host):
            log.warning("refused %s %s: addressed to %s.%s", message.method, message.id, message.type, message.host)
            metrics.bus_message(self.type, message.kind, "refused")
            return None
        if message.deadline_at and is_late(message, self._world.clock):
            log.warning("dropped %s %s %s: its deadline has passed", message.kind, message.method, message.id)
            return None
        return message

    def is_new(self, message: Message, *, again: bool = False) -> bool:
        """Whether it was not seen before, or may come `again`; it is seen from now on."""
        if self._seen.first_time(message.id) or again:
            return True
        log.info("dropped %s %s %s: seen before", message.kind, message.method, message.id)
        return False

    def forget(self, message: Message) -> None:
        """Its handler was cut short: take it as new when it comes again."""
        self._seen.forget(message.id)

    async def answer(self, message: Message) -> dict[str, Json]:
        """Run a call's handler: {"result": …} or {"fault": …}, never an exception."""
        try:
            answer: dict[str, Json] = {"result": await self._handle(message)}
            metrics.bus_message(self.type, "call", "handled")
            return answer
        except Exception as error:  # the edge of the process: what a handler raises crosses the wire as a fault
            metrics.bus_message(self.type, "call", "failed")
            return {"fault": self._told(message, error).to_wire()}

    async def do(self, message: Message) -> None:
        """Run a cast's or fanout's handler. One that says UNAVAILABLE or BUSY is tried again a few times."""
        for attempt in range(CAST_TRIES):
            try:
                await self._handle(message)
                metrics.bus_message(self.type, message.kind, "handled")
                return
            except Exception as error:  # the edge of the process: nobody waits for a cast, so the log must say it
                fault = self._told(message, error)
            passing = fault.kind in (Kind.UNAVAILABLE, Kind.BUSY) and message.kind == "cast"
            if not passing or attempt == CAST_TRIES - 1 or is_late(message, self._world.clock):
                log.error("%s %s %s was given up: %r", message.kind, message.method, message.id, fault)
                metrics.bus_message(self.type, message.kind, "failed")
                return
            await self._world.clock.sleep(0.5 * 2**attempt)

    async def _handle(self, message: Message) -> Json:
        context = None
        if message.traceparent:
            context = spans.begin(
                participant(self.exchange, self.type), traceparent=message.traceparent, request_id=message.request_id
            )
        spans.go_on(context)  # the task is this message's alone
        rpc.handle(message)
        if message.version not in (self._version, self._version - 1):
            raise self._unknown_version(message)
        handler = self._handlers.get(message.method)
        if handler is None:
            raise invalid(
                f"{self.type} does not know the message {message.method}.",
                hint="Sender and receiver may be of different releases: finish the upgrade.",
                code="UnknownMethod",
            )
        return await handler(message)

    def _unknown_version(self, message: Message) -> Fault:
        return unavailable(
            f"{self.type} on {self.host} speaks version {self._version} of its messages, not {message.version}.",
            hint="Upgrade the older side; a release understands its own version and the one before.",
            inside=f"{message.method} from {message.sender}",
        )

    def _told(self, message: Message, error: Exception) -> Fault:
        fault = Fault.wrap(error)
        if not isinstance(error, Fault):
            log.error("handler of %s %s failed", self.type, message.method, exc_info=error)
        return fault


def is_late(message: Message, clock: Clock) -> bool:
    """Whether the message's deadline has passed."""
    return bool(message.deadline_at) and clock.now().timestamp() > message.deadline_at


def sealed_reply(world: World, keys: KeyRing, asked: Message, answer: dict[str, Json]) -> tuple[Message, bytes]:
    """The reply to `asked` and its frame; an answer that is no JSON becomes a BUG fault that says so."""
    message = reply(world, keys.sender, asked, answer)
    try:
        return message, keys.seal(message)
    except (TypeError, ValueError, OverflowError, msgspec.EncodeError) as error:
        log.error("the answer to %s %s cannot be sent", asked.type, asked.method, exc_info=error)
        message = reply(world, keys.sender, asked, {"fault": Fault.wrap(error).to_wire()})
        return message, keys.seal(message)
