"""`kilonova trace ID`: the sequence diagram of what really happened, from the collector's store."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from kilonova.base.faults import not_found
from kilonova.cli.state import State
from kilonova.trace.collect import SpanStore
from kilonova.trace.draw import draw
from kilonova.trace.spans import Span
from kilonova.trace.unfold import from_spans


def trace_file(state: State) -> Path:
    """Where the collector keeps spans."""
    return state.databases / "trace.sqlite"


def run(options: argparse.Namespace) -> int:
    """Draw one trace, or list those about the id."""
    if options.config:
        from kilonova.cli.settings import read_settings

        file = trace_file(State(Path(read_settings(str(options.config)).cluster.directory)))
        if not file.exists():
            raise not_found("Trace store", str(file))
    else:
        state = State(options.state)
        state.need()
        file = trace_file(state)
    store = SpanStore(file)
    try:
        if options.list:
            return _list(store, options.id)
        spans = with_login(store, store.find(options.id, options.nth if options.nth else None))
    finally:
        store.close()
    if not spans:
        raise not_found("A trace of", options.id)
    drawn = draw(from_spans(spans, detail=options.detail), options.format)
    emit(drawn, options.output)
    return 0


def with_login(store: SpanStore, spans: list[Span]) -> list[Span]:
    """The spans, after those of the login that gave the token they were asked with, when that is still known."""
    audits = [span.attributes["audit"] for span in spans if span.attributes.get("audit") and not span.parent_id]
    login = list(store.find(audits[0], 0)) if audits else []
    known = {span.span_id for span in spans}
    return [one for one in login if one.span_id not in known] + spans


def emit(data: bytes, output: Path | None) -> None:
    """To the file, or to the terminal."""
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(data)
        print(output)


def _list(store: SpanStore, id_: str) -> int:
    for number, one in enumerate(store.traces(id_)):
        begun = datetime.fromtimestamp(one.start, UTC).strftime("%Y-%m-%d %H:%M:%S")
        failed = "  FAILED" if one.failed else ""
        print(f"{number:3}  {begun}  {one.seconds:8.3f} s  {one.request_id or one.trace_id}  {one.name}{failed}")
    return 0
