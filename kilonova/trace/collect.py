"""Collect: spans leave a process in batches that never hold up its work, and are kept for a week to be drawn."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.units import GIB
from kilonova.trace.spans import Ring, Span, trace_id_of, within

MAX_AGE_SECONDS: Final = 7 * 86_400.0
MAX_BYTES: Final = GIB
BATCH: Final = 500
WAIT_SECONDS: Final = 0.5
PENDING: Final = 20_000
MOST_TRACES: Final = 100
_PRUNE_TRACES: Final = 200  # traces dropped per transaction, so that writers wait little
_ITEM_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|\{|/action$")

_SCHEMA: Final = """
DROP TABLE IF EXISTS spans;
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, start REAL NOT NULL, spans INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunks_by_trace ON chunks (trace_id, start);
CREATE INDEX IF NOT EXISTS chunks_by_start ON chunks (start);
CREATE TABLE IF NOT EXISTS names (name TEXT, trace_id TEXT, PRIMARY KEY (name, trace_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS names_by_trace ON names (trace_id);
"""
# A chunk is what one batch holds of one trace: a row and its index entries for each span would cost more than all the
# rest of watching. Names are the requests and resources that a trace is about; the request that began it has its id.


class TraceSummary(msgspec.Struct, frozen=True):
    """One trace of a list: what began it, when (seconds since the epoch), how long it ran and how it ended."""

    trace_id: str
    request_id: str
    name: str  # of the first span
    start: float
    seconds: float
    spans: int
    failed: bool
    source: str = "client"  # who began it

    @property
    def creates(self) -> bool:
        """Whether a client made something: POST on a collection, not on one item or its actions."""
        method, _, path = self.name.partition(" ")
        return self.source == "client" and self._posts(method, path)

    def _posts(self, method: str, path: str) -> bool:
        return (method == "POST" and not _ITEM_ID.search(path)) or self.name.startswith("create")


class SpanStore:
    """Spans in an SQLite file of their own. Sync and thread-safe: call it through `World.blocking`.

    Losing the last moments to a power cut is accepted (a trace is never the only copy of anything), so commits do
    not wait for the disk.
    """

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        import sqlite3  # only who keeps traces needs it

        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before the first page is written, or it has no effect
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Span]).decode

    def add(self, spans: Iterable[Span]) -> None:
        """Keep `spans`; one that is there already (a batch sent twice) is shown once."""
        by_trace: dict[str, list[Span]] = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
        chunks, names = [], set()
        for trace_id, several in by_trace.items():
            chunks.append((trace_id, min(one.start for one in several), len(several), self._encode(several)))
            known = {name for one in several for name in (one.request_id, one.resource) if name}
            names |= {(name, trace_id) for name in known if trace_id_of(name) != trace_id}
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO chunks (trace_id, start, spans, body) VALUES (?, ?, ?, ?)", chunks)
            self._db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", names)

    def traces(self, id: str) -> list[TraceSummary]:
        """The traces that `id` (of a trace, a request or a resource) names, newest first, 100 at the most."""
        with self._lock:
            found = self._db.execute(
                "SELECT trace_id, min(start) AS begun FROM chunks WHERE trace_id IN (:id, :begun) "
                "OR trace_id IN (SELECT trace_id FROM names WHERE name = :id) "
                "GROUP BY trace_id ORDER BY begun DESC, trace_id LIMIT :most",
                {"id": id, "begun": trace_id_of(id), "most": MOST_TRACES},
            ).fetchall()
        return [_summary(self._spans(trace_id)) for trace_id, _ in found]

    def find(self, id: str, nth: int | None = None) -> list[Span]:
        """The spans of one trace that `id` names, by start; empty when there is none.

        Of several, the newest that created something, else the newest; `nth` chooses from `traces(id)`, from 0.
        """
        found = self.traces(id)
        if nth is not None:
            found = found[nth : nth + 1] if nth >= 0 else []
        chosen = next((one for one in found if one.creates), found[0] if found else None)
        return self._spans(chosen.trace_id) if chosen else []

    def prune(self, now: float, *, max_age_seconds: float = MAX_AGE_SECONDS, max_bytes: int = MAX_BYTES) -> int:
        """Drop what is too old, then the oldest traces while the file is too large; how many spans went."""
        gone = self._drop("start < ?", now - max_age_seconds)
        while self.used_bytes() > max_bytes:
            oldest = "trace_id IN (SELECT DISTINCT trace_id FROM (SELECT trace_id FROM chunks ORDER BY start LIMIT ?))"
            dropped = self._drop(oldest, _PRUNE_TRACES)
            gone += dropped
            if not dropped:
                break
        with self._lock:
            self._db.executescript("PRAGMA incremental_vacuum")  # execute() would give back one page only
        return gone

    def _drop(self, which: str, value: float) -> int:
        """Delete these chunks, and the names of traces of which nothing is left; how many spans went."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            rows = self._db.execute(f"DELETE FROM chunks WHERE {which} RETURNING trace_id, spans", (value,)).fetchall()
            for trace_id in {trace_id for trace_id, _ in rows}:
                left = "SELECT 1 FROM chunks WHERE trace_id = :trace"
                self._db.execute(
                    f"DELETE FROM names WHERE trace_id = :trace AND NOT EXISTS ({left})", {"trace": trace_id}
                )
        return sum(spans for _, spans in rows)

    def used_bytes(self) -> int:
        """Bytes of the file that hold spans; pages given back by deletes do not count."""
        with self._lock:
            pages, free, size = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _spans(self, trace_id: str) -> list[Span]:
        with self._lock:
            rows = self._db.execute("SELECT body FROM chunks WHERE trace_id = ? ORDER BY id", (trace_id,)).fetchall()
        once = {span.span_id: span for (body,) in rows for span in self._decode(body)}
        return sorted(once.values(), key=lambda span: span.start)


def _summary(spans: list[Span]) -> TraceSummary:
    known = {span.span_id for span in spans}
    first = next((span for span in spans if span.parent_id not in known and span.kind != "note"), spans[0])
    return TraceSummary(
        trace_id=first.trace_id,
        request_id=next((span.request_id for span in spans if span.request_id), ""),
        name=first.name,
        start=spans[0].start,
        seconds=max(span.end for span in spans) - spans[0].start,
        spans=len(spans),
        failed=any(span.error for span in spans),
        source=first.source,
    )


class Batcher:
    """Hands on what a ring gets, in batches, until `leave`: `world.spawn(Batcher(RING, send, clock).run(), …)`.

    It never holds up who adds a span, on any thread. When the receiver is slow or gone the oldest spans are dropped
    and counted in `dropped`; a batch that could not be sent counts too, and is not tried again.
    """

    def __init__(
        self, ring: Ring, send: Callable[[list[Span]], Awaitable[None]], clock: Clock, *, pending: int = PENDING
    ) -> None:
        self.sent = 0
        self.last_error = ""
        self._send = send
        self._clock = clock
        self._pending: deque[Span] = deque(maxlen=pending)
        self._ring = ring
        self._seen = ring.added  # of all that the ring ever got: what was there before, taken from `_pending`, or lost
        self._lost = 0  # with batches that were not sent
        ring.sinks.append(self._pending.append)

    def leave(self) -> None:
        """Take no more spans; what is pending can still be sent."""
        self._ring.sinks.remove(self._pending.append)

    @property
    def dropped(self) -> int:
        """Spans that were not and will not be sent."""
        return self._ring.added - self._seen - len(self._pending) + self._lost

    @property
    def waiting(self) -> int:
        """Spans that are still to be sent."""
        return len(self._pending)

    async def run(self) -> None:
        """Send what has gathered every 0.5 s, in batches of at most 500, until cancelled."""
        while True:
            await self._clock.sleep(WAIT_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Send all that is pending now. What arrives meanwhile waits for the next time."""
        with within(None):  # sending is no part of any trace, or every batch would make another
            for _ in range(-(-len(self._pending) // BATCH)):
                batch = self._take()
                try:
                    await self._send(batch)
                except Exception as error:  # the edge: whatever the receiver's fault is, the work goes on
                    self._lost += len(batch)
                    self.last_error = f"{type(error).__name__}: {error}"
                else:
                    self.sent += len(batch)

    def _take(self) -> list[Span]:
        taken: list[Span] = []
        while self._pending and len(taken) < BATCH:
            taken.append(self._pending.popleft())
        self._seen += len(taken)
        return taken
