"""From spans to a diagram: what an operator would look for in it."""

from __future__ import annotations

import random

from kilonova.trace.sequence import Activation, Arrow, Note, duration
from kilonova.trace.spans import Span
from kilonova.trace.tenant import without_hosts
from kilonova.trace.unfold import from_spans

from .samples import REQUEST, Tracer, create_server


def arrows(spans: list[Span], **options: bool) -> list[Arrow]:
    return [item for item in from_spans(spans, **options).items if isinstance(item, Arrow)]


def test_create_reads_in_the_operators_order() -> None:
    sequence = from_spans(create_server())
    keys = [one.key for one in sequence.participants]
    assert keys[:5] == ["client", "keystone", "nova_api", "database", "nova_conductor"]
    assert keys[-1] == "cinder_volume"
    assert sequence.title == "POST /v2.1/servers"
    assert REQUEST in sequence.subtitle and "failed" not in sequence.subtitle
    labels = [item.label for item in sequence.items if isinstance(item, Arrow)]
    flow = ["POST /v2.1/servers", "build_instances", "select_destinations", "build_and_run_instance", "start domain"]
    places = [labels.index(label) for label in flow]
    assert places == sorted(places)


def test_reads_hide_and_polls_fold_unless_detail_is_asked_for() -> None:
    brief = [arrow.label for arrow in arrows(create_server())]
    assert not any(label.startswith("SELECT") for label in brief)
    assert brief.count("GET /v3/volumes/{id} ×5") == 1
    full = [arrow.label for arrow in arrows(create_server(), detail=True)]
    assert full.count("GET /v3/volumes/{id}") == 5
    assert full.count("SELECT volumes by id") == 5
    t = Tracer("nova_api")
    t.sql("one_server s1", read="true")
    t.sql("insert_server s1")
    assert [arrow.label for arrow in arrows(t.spans)] == ["insert_server s1"]
    assert [arrow.label for arrow in arrows(without_hosts(t.spans))] == ["insert_server s1"]


def test_calls_come_back_with_their_time_and_casts_do_not() -> None:
    t = Tracer()
    with t.span("nova_api", "GET /servers"):
        t.now += 0.5
    t.hop("nova_conductor", "build_instances", kind="cast")
    call, back, cast = arrows(t.spans)
    assert (call.style, back.style, back.label, back.at) == ("call", "return", "501 ms", back.at)
    assert (back.source, back.target) == ("nova_api", "client")
    assert cast.style == "cast" and not cast.opens


def test_a_failure_is_told_once_where_it_happened() -> None:
    sequence = from_spans(create_server(hosts=("node1", "node2"), fails_on=("node1",)))
    failed = [item for item in sequence.items if isinstance(item, Arrow) and item.style == "return" and item.failed]
    assert [(one.source, one.label[:10]) for one in failed] == [("libvirt", "✗ cannot s")]
    assert "✗ failed" in sequence.subtitle
    assert {"nova_compute@node1", "nova_compute@node2"} <= {one.key for one in sequence.participants}


def test_every_bar_that_opens_closes() -> None:
    for spans in (create_server(), create_server(hosts=("a", "b"), fails_on=("a", "b"))):
        open_bars: dict[str, int] = {}
        for item in from_spans(spans).items:
            if isinstance(item, Arrow):
                open_bars[item.target] = open_bars.get(item.target, 0) + item.opens
                open_bars[item.source] = open_bars.get(item.source, 0) - item.closes
            elif isinstance(item, Activation):
                open_bars[item.participant] = open_bars.get(item.participant, 0) + (1 if item.active else -1)
            assert min(open_bars.values(), default=0) >= 0
        assert not any(open_bars.values())


def test_order_of_arrival_does_not_matter_and_lost_spans_do_no_harm() -> None:
    spans = create_server()
    shuffled = list(spans)
    random.Random(7).shuffle(shuffled)
    assert from_spans(shuffled).items == from_spans(spans).items
    for lost in range(0, len(spans), 7):
        assert from_spans(spans[:lost] + spans[lost + 1 :]).items


def test_both_ends_of_one_request_are_one_arrow() -> None:
    t = Tracer()
    with t.span("neutron", "POST /v2.0/ports", where="client.py:send"):  # noqa: SIM117
        with t.span("neutron", "POST /v2.0/ports", where="port/create.py:create"):
            t.sql("INSERT ports")
    drawn = arrows(t.spans)
    assert [one.label for one in drawn if one.style == "call"] == ["POST /v2.0/ports", "INSERT ports"]
    assert drawn[0].where == "port/create.py:create"


def test_a_clock_behind_does_not_put_an_effect_before_its_cause() -> None:
    t = Tracer()
    with t.span("nova_conductor", "build"):
        t.now -= 5
        t.hop("nova_compute", "spawn")
        t.now += 5
    assert [one.label for one in arrows(t.spans)][:2] == ["build", "spawn"]
    assert all((one.at or 0) < 1 for one in arrows(t.spans))


def test_concurrent_calls_interleave_by_time() -> None:
    def span(id: str, target: str, start: float, end: float) -> Span:
        return Span("t", id, "p", "nova_compute", target, f"ask {target}", "call", start, end)

    parent = Span("t", "p", "", "nova_conductor", "nova_compute", "build", "call", 0.0, 9.0)
    both = arrows([parent, span("a", "glance", 1, 4), span("b", "neutron", 2, 3)])
    assert [(one.source, one.style) for one in both][1:5] == [
        ("nova_compute", "call"),
        ("nova_compute", "call"),
        ("neutron", "return"),
        ("glance", "return"),
    ]


def test_a_very_long_trace_is_cut_but_keeps_its_failure() -> None:
    t = Tracer()
    with t.span("nova_api", "POST /servers"):
        for number in range(300):
            with t.span("nova_conductor", f"build {number}"):
                t.hop("nova_compute", f"spawn {number}")
                t.sql(f"UPDATE servers {number}")
    t.spans[401].error = "disk is full"
    drawn = arrows(t.spans)
    assert len(drawn) < 1000
    assert any("disk is full" in one.label for one in drawn)
    assert any("inside)" in one.label for one in drawn)
    assert len(arrows(t.spans, detail=True)) > 1400


def test_neighbouring_notes_share_a_box() -> None:
    t = Tracer("nova_api")
    t.note("policy: allowed")
    t.note("quota: 3 of 10")
    notes = [item for item in from_spans(t.spans).items if isinstance(item, Note)]
    assert [one.text for one in notes] == ["policy: allowed\nquota: 3 of 10"]


def test_durations_are_as_precise_as_useful() -> None:
    said = [duration(seconds) for seconds in (0.0004, 0.0123, 0.3456, 3.214, 59.999, 123.0)]
    assert said == ["0.4 ms", "12.3 ms", "346 ms", "3.21 s", "1 min 00 s", "2 min 03 s"]


def test_no_spans_are_an_empty_diagram() -> None:
    assert from_spans([]).items == []
