"""Spans: what happened at one seam (HTTP, call, cast, SQL unit, host verb), cheap enough to keep every one.

A span is one arrow of the sequence diagram: `source` asked `target` to do `name`. Context flows through a
context variable, and between processes as a W3C traceparent (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Literal

import msgspec

SpanKind = Literal["call", "cast", "note", "self"]


class Context(msgspec.Struct, frozen=True, gc=False):
    """Where we are in a trace."""

    trace_id: str  # 32 hex
    span_id: str  # 16 hex
    participant: str  # who is running now: nova_api, nova_compute, …
    request_id: str = ""  # req-UUID of the request that began it all

    @property
    def traceparent(self) -> str:
        """The W3C header value."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Span(msgspec.Struct, gc=False):  # thousands are kept, and none leads back to itself
    """One arrow, note or self-call. Times are wall-clock seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    source: str
    target: str
    name: str
    kind: SpanKind
    start: float
    end: float = 0.0
    error: str = ""
    request_id: str = ""
    resource: str = ""  # id of the server, volume, … it is about, when known
    where: str = ""  # file:function of the code that did it
    attributes: dict[str, str] = {}


log = logging.getLogger(__name__)
# version-trace-parent-flags; all-zero ids are invalid, and so is what is not lower-case hex: it comes from strangers.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-|\Z)"
)
_current: ContextVar[Context | None] = ContextVar("kilonova_trace", default=None)
_resource: ContextVar[str] = ContextVar("kilonova_trace_resource", default="")
_random: Final = random.Random()  # seeded by the system once: ids are no secrets, and a call each would be dear

Sink = Callable[[Span], None]


class Ring:
    """The last spans of this process, and where finished ones are sent. A failing sink never fails the work."""

    def __init__(self, size: int = 20_000) -> None:
        self.spans: deque[Span] = deque(maxlen=size)
        self.sinks: list[Sink] = []
        self.added = 0  # how many there ever were

    def keep(self, most: int) -> None:
        """From now on keep this many only: who sends them on needs few, and thousands take megabytes."""
        self.spans = deque(self.spans, maxlen=most)

    def add(self, span: Span) -> None:
        """Keep a finished span and hand it to the sinks."""
        self.added += 1
        self.spans.append(span)
        for sink in self.sinks:
            try:
                sink(span)
            except Exception as error:  # edge: nobody's request may fail because it is watched
                log.warning("a trace sink failed: %r", error)


RING: Final = Ring()  # per process by nature: spans have no owner but the process that saw them


current: Final = _current.get  # the context of the running task, or None outside any trace
go_on: Final = _current.set  # the rest of this task is in that context, or outside any trace


def begin(participant: str, *, traceparent: str = "", request_id: str = "") -> Context:
    """A context for work that enters `participant` from outside; continues `traceparent` when it is valid."""
    trace_id, parent_id = _origin(traceparent, request_id)
    return Context(trace_id, parent_id, participant, request_id)


def trace_id_of(request_id: str) -> str:
    """The id of the trace that a request with this id begins: the same digits; "" when it has no such id."""
    digits = request_id[4:].replace("-", "")
    return digits if len(digits) == 32 and len(request_id) == 40 and request_id.startswith("req-") else ""


def _origin(traceparent: str, request_id: str) -> tuple[str, str]:
    """(trace, parent): those of `traceparent` when it is valid, else a trace that begins here."""
    if traceparent and (valid := _TRACEPARENT.match(traceparent)):
        return valid[1], valid[2]
    return trace_id_of(request_id) or f"{_random.getrandbits(128) | 1:032x}", ""


class within:  # these two are entered dozens of times by an operation: generators would cost twice
    """Run the block in `context`."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current.set(self._context)

    def __exit__(self, *_: object) -> None:
        try:
            _current.reset(self._token)
        except ValueError:
            pass  # a task that was dropped is closed by the garbage collector, in a context that is not its own


class span:
    """Record the block as an arrow from the current participant to `target`; inside, `target` is the participant.

    Outside any trace nothing is recorded and None is yielded. An exception is recorded in `error` and goes on.
    """

    __slots__ = ("_asked", "_made", "_token")

    def __init__(
        self, target: str, name: str, kind: SpanKind = "call", *, resource: str = "", where: str = "", **attributes: str
    ) -> None:
        self._asked = (target, name, kind, resource, where, attributes)
        self._made: Span | None = None

    def __enter__(self) -> Span | None:
        context = _current.get()
        if context is not None:
            self._made = made = _open(context, *self._asked)
            self._token = _current.set(Context(context.trace_id, made.span_id, made.target, context.request_id))
        return self._made

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if (made := self._made) is None:
            return
        if error is not None:
            made.error = str(error) or type(error).__name__
        try:
            _current.reset(self._token)
        except ValueError:
            pass  # see `within`
        made.end = time.time()
        RING.add(made)


class arrival(span):
    """Record the block as an arrow that came to `target` from outside: of the trace of `traceparent` when that is
    valid, then from `source`, else of a trace that begins here, from a client."""

    __slots__ = ()

    def __init__(self, target: str, name: str, *, traceparent: str, source: str, request_id: str) -> None:
        trace_id, parent_id = _origin(traceparent, request_id)
        self._asked = (target, name, "call", "", "", {})
        began = Context(trace_id, parent_id, source if traceparent else "client", request_id)
        self._made = _open(began, *self._asked)

    def __enter__(self) -> Span:
        made = self._made
        assert made is not None
        self._token = _current.set(Context(made.trace_id, made.span_id, made.target, made.request_id))
        return made


def note(text: str, *, over: str = "", resource: str = "", where: str = "", **attributes: str) -> None:
    """Record a note over the current participant (or `over`): a check, a decision, a record written."""
    context = _current.get()
    if context is None:
        return
    made = _open(context, over or context.participant, text, "note", resource, where, attributes)
    made.end = made.start
    RING.add(made)


def arrow(target: str, name: str, seconds: float, error: BaseException | None = None, **attributes: str) -> None:
    """Record an arrow that has just ended and took `seconds`: half the price of a `span`, where nothing is inside."""
    context = _current.get()
    if context is None:
        return
    made = _open(context, target, name, "call", "", "", attributes)
    made.end = made.start
    made.start -= seconds
    if error is not None:
        made.error = str(error) or type(error).__name__
    RING.add(made)


def about(resource: str) -> None:
    """From here on, spans of this task are about `resource`, so that `kilonova trace ID` finds the trace."""
    _resource.set(resource)


def _open(
    context: Context, target: str, name: str, kind: SpanKind, resource: str, where: str, attributes: dict[str, str]
) -> Span:
    return Span(  # by position, which takes half the time: see the order of its fields
        context.trace_id,
        f"{_random.getrandbits(64) | 1:016x}",  # never all zero, which W3C has as no id
        context.span_id,
        context.participant,
        target,
        name,
        kind,
        time.time(),
        0.0,  # end
        "",  # error
        context.request_id,
        resource or _resource.get(),
        where,
        attributes,
    )
