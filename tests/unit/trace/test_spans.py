"""Spans: arrows that nest across tasks, continue what came from outside, and never disturb what they watch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kilonova.trace import spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def seen() -> Iterator[list[spans.Span]]:
    found: list[spans.Span] = []
    spans.RING.sinks.append(found.append)
    yield found
    spans.RING.sinks.remove(found.append)


def test_outside_a_trace_nothing_is_recorded(seen: list[spans.Span]) -> None:
    with spans.span("database", "INSERT") as made:
        spans.note("nobody sees this")
    assert made is None
    assert seen == []


def test_arrows_nest(seen: list[spans.Span]) -> None:
    context = spans.begin("api", traceparent=f"00-{TRACE}-{PARENT}-01", request_id="req-1")
    with spans.within(context), spans.span("conductor", "build", "cast"), spans.span("compute", "spawn"):
        spans.note("checked")
    note, inner, outer = seen
    assert (outer.source, outer.target, outer.parent_id) == ("api", "conductor", PARENT)
    assert (inner.source, inner.target, inner.parent_id) == ("conductor", "compute", outer.span_id)
    assert (note.kind, note.target, note.parent_id) == ("note", "compute", inner.span_id)
    assert {span.trace_id for span in seen} == {TRACE}
    assert {span.request_id for span in seen} == {"req-1"}
    assert spans.current() is None


def test_what_arrives_begins_a_trace_or_goes_on_with_one(seen: list[spans.Span]) -> None:
    request = f"req-{TRACE[:8]}-{TRACE[8:12]}-{TRACE[12:16]}-{TRACE[16:20]}-{TRACE[20:]}"
    for traceparent in ("", f"00-{'a' * 32}-{PARENT}-01", "00-not-one-01"):
        with spans.arrival("neutron", "GET /ports", traceparent=traceparent, source="nova", request_id=request):
            spans.note("inside")
        assert spans.current() is None
    first, second, third = seen[1::2]
    assert (first.source, first.trace_id, first.parent_id) == ("client", TRACE, "")
    assert (second.source, second.trace_id, second.parent_id) == ("nova", "a" * 32, PARENT)
    assert (third.source, third.trace_id, third.parent_id) == ("nova", TRACE, "")
    for inside, made in zip(seen[::2], seen[1::2], strict=True):
        assert (inside.parent_id, inside.trace_id, inside.source) == (made.span_id, made.trace_id, "neutron")
        assert made.end >= made.start and made.request_id == request


def test_an_error_is_recorded_and_goes_on(seen: list[spans.Span]) -> None:
    with pytest.raises(ValueError, match="broken"), spans.within(spans.begin("api")), spans.span("db", "INSERT"):
        raise ValueError("broken")
    assert seen[0].error == "broken"


def test_a_sink_that_fails_fails_nobody(seen: list[spans.Span]) -> None:
    def broken(_: spans.Span) -> None:
        raise OSError("disk full")

    spans.RING.sinks.insert(0, broken)
    try:
        with spans.within(spans.begin("api")), spans.span("db", "INSERT"):
            pass
    finally:
        spans.RING.sinks.remove(broken)
    assert len(seen) == 1


async def test_tasks_side_by_side_keep_their_own_place(seen: list[spans.Span]) -> None:
    async def work(name: str) -> None:
        with spans.span(name, "work"):
            await asyncio.sleep(0)
            spans.note(name)

    with spans.within(spans.begin("api")):
        await asyncio.gather(*(work(f"worker{number}") for number in range(5)))
    assert all(span.target == span.name for span in seen if span.kind == "note")


@pytest.mark.parametrize(
    "text",
    ["", "00", f"00-{TRACE}", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
     f"00-{TRACE}-{'0' * 16}-01", f"00-{'<script>' * 4}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01",
     f"00-{TRACE}-{PARENT}-01\n"],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_new_trace(text: str) -> None:
    context = spans.begin("api", traceparent=text)
    assert context.trace_id != TRACE
    assert int(context.trace_id, 16) > 0
    assert context.span_id == ""


def test_a_traceparent_goes_around() -> None:
    context = spans.Context(TRACE, PARENT, "api")
    again = spans.begin("compute", traceparent=context.traceparent)
    assert (again.trace_id, again.span_id) == (TRACE, PARENT)
