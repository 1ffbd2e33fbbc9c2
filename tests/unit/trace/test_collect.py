"""Keeping spans: found by every id a user has, dropped when old or too many, and never in the way of the work."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.trace.collect import Batcher, SpanStore
from kilonova.trace.spans import RING, Ring, Span, begin, current, span, trace_id_of, within
from kilonova.trace.tenant import without_hosts

from .samples import REQUEST, SERVER, TRACE, create_server


@pytest.fixture
def store(tmp_path: Path) -> SpanStore:
    return SpanStore(tmp_path / "spans.db")


def one(trace: str, name: str, start: float, resource: str = SERVER, error: str = "") -> Span:
    return Span(trace, f"{trace}-{name}", "", "client", "nova_api", name, "call", start, start + 1, error,
                f"req-{trace}", resource)  # fmt: skip


def test_found_by_trace_request_and_resource(store: SpanStore) -> None:
    spans = create_server()
    store.add(spans)
    store.add(spans)  # a batch that came twice
    for id in (TRACE, REQUEST, SERVER):
        assert store.find(id) == sorted(spans, key=lambda span: span.start)
    assert store.find("unknown") == [] and store.traces("") == []


def test_a_request_finds_the_trace_that_it_began_and_those_that_it_came_by(store: SpanStore) -> None:
    request = "req-0af76519-16cd-43dd-8448-eb211c80319c"
    with within(begin("api", request_id=request)), span("nova_api", "GET /servers") as began:
        pass
    with within(begin("api", traceparent=f"00-{'c' * 32}-{'d' * 16}-01", request_id=request)), span("a", "b") as came:
        pass
    assert began is not None and came is not None
    store.add([began, came])
    assert {trace.trace_id for trace in store.traces(request)} == {trace_id_of(request), "c" * 32}
    assert store.find(request, 1) + store.find(request, 0) in ([began, came], [came, began])


def test_the_newest_create_is_shown_unless_another_is_chosen(store: SpanStore) -> None:
    store.add([one("a", "POST /v2.1/servers", 1), one("b", f"POST /v2.1/servers/{SERVER}/action", 5, error="no")])
    store.add([one("c", f"GET /v2.1/servers/{SERVER}", 9), one("d", "POST /v2.1/servers", 20, resource="other")])
    listed = store.traces(SERVER)
    assert [(trace.trace_id, trace.creates, trace.failed) for trace in listed] == [
        ("c", False, False),
        ("b", False, True),
        ("a", True, False),
    ]
    assert [span.trace_id for span in store.find(SERVER)] == ["a"]
    assert [span.trace_id for span in store.find(SERVER, 1)] == ["b"]
    assert store.find(SERVER, 3) == [] and store.find(SERVER, -1) == []


def test_old_spans_go(store: SpanStore) -> None:
    store.add([one("old", "x", 100), one("new", "x", 900)])
    assert store.prune(1000, max_age_seconds=500) == 1
    assert store.traces("old") == [] and len(store.traces("new")) == 1


def test_the_oldest_go_when_the_file_is_too_large(store: SpanStore, tmp_path: Path) -> None:
    store.add([one(f"{n:04}", "n" * 400, n) for n in range(5000)])
    before = store.used_bytes()
    assert store.prune(0, max_bytes=before // 2) > 0
    assert 0 < store.used_bytes() <= before // 2
    assert store.find("0000") == [] and store.find("4999")
    store.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < before * 0.75


def test_many_threads_may_add_and_find(store: SpanStore) -> None:
    def work(number: int) -> None:
        for n in range(20):
            store.add([one(f"{number}-{n}", "x", n, resource="shared")])
            store.find(f"{number}-{n}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.traces("shared")) == 80


async def test_batches_are_sent_whole_and_outside_any_trace() -> None:
    got: list[list[Span]] = []

    async def send(batch: list[Span]) -> None:
        assert current() is None
        got.append(batch)

    batcher = Batcher(RING, send, SystemClock())
    try:
        with within(begin("client")):
            for number in range(1200):
                with span("nova_api", str(number)):
                    pass
            await batcher.flush()
    finally:
        batcher.leave()
    assert [len(batch) for batch in got] == [500, 500, 200]
    assert (batcher.sent, batcher.dropped) == (1200, 0)


async def test_a_receiver_that_fails_or_hangs_costs_spans_and_nothing_else() -> None:
    async def fail(_batch: list[Span]) -> None:
        raise ConnectionError("broker is gone")

    ring = Ring()
    ring.add(one("t", "before", 0))
    batcher = Batcher(ring, fail, SystemClock(), pending=10)
    for number in range(25):
        ring.add(one("t", str(number), number))
    assert batcher.dropped == 15
    await batcher.flush()
    assert batcher.dropped == 25 and "broker is gone" in batcher.last_error

    async def hang(_batch: list[Span]) -> None:
        await asyncio.sleep(3600)

    batcher.leave()
    batcher = Batcher(ring, hang, SystemClock(), pending=10)
    ring.add(one("t", "x", 1))
    task = asyncio.ensure_future(batcher.flush())
    await asyncio.sleep(0)
    for number in range(30):
        ring.add(one("t", str(number), number))
    assert batcher.dropped == 20
    task.cancel()


def test_tenants_see_no_hosts_paths_or_addresses() -> None:
    spans = create_server(hosts=("node1", "rack-7.example"), fails_on=("node1", "rack-7.example"))
    extra = one("t", "x", 1, error="open /var/lib/kilonova/disk: 10.9.8.7:5672 refused by rack-7.example")
    extra.name = "cast compute.node1"
    extra.attributes = {"status": "500", "path": "/etc/kilonova.toml", "queue": "compute.node1"}
    shown = without_hosts([*spans, extra])
    text = msgspec.json.encode(shown).decode()
    for secret in ("node1", "rack-7", "/var/lib", "/etc/", "10.9.8.7", ".py:"):
        assert secret not in text
    assert shown[-1].attributes == {"status": "500"}
    assert "POST /v2.1/servers" in text and "Cannot allocate memory on (host)" in text
    assert extra.attributes["queue"] == "compute.node1"  # the operator's copy is whole
