"""Unfold: the spans of one trace become a sequence diagram, hop by hop, with times."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Final

from kilonova.trace.hops import Hop, grow
from kilonova.trace.sequence import FAILED, Activation, Arrow, Item, Note, Participant, Sequence, duration
from kilonova.trace.spans import Span

# From the user's side to the machine's, as operators draw it; the rest follow as they appear.
ORDER: Final = (
    "client", "keystone", "nova_api", "database", "nova_conductor", "nova_scheduler", "placement",
    "nova_compute", "glance", "neutron", "cinder", "libvirt",
)  # fmt: skip
ERROR_LETTERS: Final = 200
NOTE_LINES: Final = 6


def from_spans(spans: SequenceOf[Span], *, detail: bool = False, title: str = "") -> Sequence:
    """The diagram of one trace. Database reads are hidden and repeats folded to `×N` unless `detail`.

    Calls are solid and come back dashed with the time they took; casts have an open head; whoever works has a bar;
    notes stand over their participant; a failure is shown where it happened. Concurrent hops interleave by time.
    """
    roots = grow(spans, detail=detail)
    if not roots:
        return Sequence(title or "empty trace", [], [])
    writer = _Writer(min(root.start for root in roots))
    for root in roots:
        writer.hop(root)
    items = _merged_notes(writer.in_order())
    main = max(roots, key=lambda root: sum(1 for _ in root.everything()))
    return Sequence(title or main.span.name, _participants(items), items, _summary(spans, roots))


def _summary(spans: SequenceOf[Span], roots: list[Hop]) -> str:
    ends = [max(one.end, one.work_end) for root in roots for one in root.everything()]
    request = next((span.request_id for span in spans if span.request_id), "")
    failed = any(one.error for root in roots for one in root.everything())
    facts = [request or f"trace {spans[0].trace_id}", duration(max(ends) - roots[0].start), f"{len(spans)} spans"]
    return " · ".join([*facts, f"{FAILED} failed"] if failed else facts)


def _participants(items: list[Item]) -> list[Participant]:
    seen: dict[str, None] = {}
    for item in items:
        if isinstance(item, Arrow):
            seen.update({item.source: None, item.target: None})
        elif isinstance(item, Note):
            seen.update(dict.fromkeys(item.over))
    rank = {name: index for index, name in enumerate(ORDER)}
    keys = sorted(seen, key=lambda key: rank.get(key.partition("@")[0], len(ORDER)))
    return [Participant(key, key.replace("@", "\n")) for key in keys]


def _merged_notes(items: list[Item]) -> list[Item]:
    """Neighbouring notes over the same participant share one box."""
    merged: list[Item] = []
    for item in items:
        last = merged[-1] if merged else None
        if (
            isinstance(item, Note)
            and isinstance(last, Note)
            and item.over == last.over
            and item.failed == last.failed
            and last.text.count("\n") + 1 < NOTE_LINES
        ):
            last.text += f"\n{item.text}"
            last.where = last.where if item.where in last.where.split("\n") else f"{last.where}\n{item.where}".strip()
        else:
            merged.append(item)
    return merged


class _Writer:
    """Writes items with their time; sorted by time at the end, ties stay in the order of causes."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._items: list[tuple[float, Item]] = []
        self._told: set[str] = set()  # errors that an inner hop showed already

    def in_order(self) -> list[Item]:
        """The items from top to bottom."""
        return [item for _, item in sorted(self._items, key=lambda timed: timed[0])]

    def hop(self, hop: Hop) -> float:
        """Write one hop and all it caused; when it, and what it waited for, was over."""
        if hop.span.kind == "note":
            note = Note(over=(hop.target,), text=_label(hop), failed=bool(hop.error), where=hop.where)
            self._put(hop.start, note)
            return max([hop.start, *(self.hop(child) for child in hop.children)])
        if hop.is_self:
            return self._self_call(hop)
        if hop.span.kind == "cast":
            return self._cast(hop)
        return self._call(hop)

    def _call(self, hop: Hop) -> float:
        inline = hop.target == "database" and not hop.children and not hop.error
        self._put(hop.start, self._arrow(hop, opens=not inline, took=hop.took if inline else None))
        for child in hop.children:
            self.hop(child)
        if not inline:
            back = Arrow(source=hop.target, target=hop.source, label=self._outcome(hop), style="return", closes=True)
            back.failed = bool(hop.error)
            self._put(hop.end, back)
        return hop.end

    def _cast(self, hop: Hop) -> float:
        works = bool(hop.children) or hop.work_end > 0
        self._put(hop.start, self._arrow(hop, opens=works))
        ends = [self.hop(child) for child in hop.children if child.span.kind != "cast"]
        for child in hop.children:
            if child.span.kind == "cast":
                ends.append(child.start)
                self.hop(child)
        end = max([hop.end if not works else hop.start, hop.work_end, *ends])
        self._finish(hop, end, works)
        return end

    def _self_call(self, hop: Hop) -> float:
        opens = bool(hop.children)
        self._put(hop.start, self._arrow(hop, opens=opens, took=hop.took))
        for child in hop.children:
            self.hop(child)
        self._finish(hop, hop.end, opens)
        return hop.end

    def _finish(self, hop: Hop, end: float, opened: bool) -> None:
        if hop.error and hop.error not in self._told:
            self._put(end, Note(over=(hop.target,), text=self._outcome(hop), failed=True, where=hop.where))
        if opened:
            self._put(end, Activation(participant=hop.target, active=False))

    def _arrow(self, hop: Hop, *, opens: bool, took: float | None = None) -> Arrow:
        return Arrow(
            source=hop.source,
            target=hop.target,
            label=_label(hop),
            style="cast" if hop.span.kind == "cast" else "call",
            opens=opens,
            failed=bool(hop.error) and (hop.span.kind == "cast" or hop.is_self),
            took=took,
            where=hop.where,
        )

    def _outcome(self, hop: Hop) -> str:
        if not hop.error:
            return duration(hop.took)
        said = hop.error if len(hop.error) <= ERROR_LETTERS else f"{hop.error[:ERROR_LETTERS]}…"
        text = f"{FAILED} {duration(hop.took)}" if hop.error in self._told else f"{FAILED} {said}"
        self._told.add(hop.error)
        return text

    def _put(self, when: float, item: Arrow | Note | Activation) -> None:
        item.at = max(0.0, when - self._begun)
        self._items.append((when, item))


def _label(hop: Hop) -> str:
    text = hop.span.name
    if hop.count > 1:
        text += f" ×{hop.count}"
    if hop.hidden:
        text += f" (+{hop.hidden} inside)"
    return text
