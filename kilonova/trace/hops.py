"""Hops: the spans of one trace as a tree fit to be drawn: doubled hops joined, reads hidden, repeats folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from kilonova.trace.spans import Span

_READ: Final = re.compile(r"(select|pragma)\b", re.IGNORECASE)
SKEW_SECONDS: Final = 0.05  # how far two hosts' clocks may disagree before a child looks outside its parent


class Hop:
    """One span with what it caused. Times are adjusted so that causes come first."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.source, self.target = span.source, span.target
        self.start, self.end = span.start, max(span.end, span.start)
        self.work_end = 0.0  # of a cast: when the receiver was done
        self.error, self.where = span.error, span.where
        self.children: list[Hop] = []
        self.count = 1  # how many equal hops this one stands for
        self.hidden = 0  # hops inside that are not drawn
        self.took = self.end - self.start

    @property
    def is_self(self) -> bool:
        """Whether it stays within one participant."""
        return self.span.kind == "self" or (self.span.kind != "note" and self.source == self.target)

    @property
    def is_read(self) -> bool:
        """Whether it only reads a database."""
        return self.target == "database" and (
            self.span.attributes.get("read") == "true" or bool(_READ.match(self.span.name))
        )

    def shape(self) -> tuple[object, ...]:
        """Equal for hops that look alike, whatever time they took."""
        span = self.span
        inner = tuple(child.shape() for child in self.children)
        return (self.source, self.target, span.name, span.kind, self.error, self.hidden, inner)

    def everything(self) -> Iterator[Hop]:
        """This hop and all below it, causes first."""
        yield self
        for child in self.children:
            yield from child.everything()


def grow(spans: Sequence[Span], *, detail: bool = False, most: int = 400) -> list[Hop]:
    """The hops that nobody in `spans` caused, in order of time, each with its children; about `most` at the most.

    With `detail` nothing is hidden or folded. A span whose parent is not there (lost, or still running) is a root.
    """
    roots = _tree(spans)
    _name_hosts(roots)
    roots = _joined(roots)
    for root in roots:
        _align(root)
    if not detail:
        roots = _folded(_without_reads(roots))
        _shorten(roots, most)
    return roots


def _tree(spans: Sequence[Span]) -> list[Hop]:
    hops = {span.span_id: Hop(span) for span in spans}
    roots = []
    for hop in sorted(hops.values(), key=lambda one: one.start):
        parent = hops.get(hop.span.parent_id)
        if parent is None or parent is hop:
            roots.append(hop)
        else:
            parent.children.append(hop)
    return roots


def _name_hosts(roots: list[Hop]) -> None:
    """Give each host its own column when a participant (two compute agents of a migration) is on several."""
    hosts: dict[str, set[str]] = {}
    for root in roots:
        for hop in root.everything():
            if host := hop.span.attributes.get("host"):
                hosts.setdefault(hop.span.target, set()).add(host)
    several = {name for name, found in hosts.items() if len(found) > 1}

    def settle(hop: Hop, above: dict[str, str]) -> None:
        host = hop.span.attributes.get("host", "")
        hop.source = above.get(hop.span.source, hop.span.source)
        if hop.span.target in several and host:
            above = {**above, hop.span.target: f"{hop.span.target}@{host}"}
        hop.target = above.get(hop.span.target, hop.span.target)
        if hop.span.kind in ("self", "note") and hop.span.source == hop.span.target:
            hop.source = hop.target
        for child in hop.children:
            settle(child, above)

    for root in roots:
        settle(root, {})


def _joined(hops: list[Hop]) -> list[Hop]:
    """Join the two ends of one hop: what the caller saw, and what the callee saw of the same request."""
    for hop in hops:
        kept: list[Hop] = []
        for child in _joined(hop.children):
            if not _same_hop(hop, child):
                kept.append(child)
                continue
            hop.where = child.where or hop.where
            hop.error = hop.error or child.error
            if hop.span.kind == "cast":
                hop.work_end = max(hop.work_end, child.end, child.work_end)
            kept.extend(child.children)
        hop.children = sorted(kept, key=lambda one: one.start)
    return hops


def _same_hop(hop: Hop, child: Hop) -> bool:
    kinds = {hop.span.kind, child.span.kind}
    return (
        "note" not in kinds
        and child.target == hop.target
        and child.span.name == hop.span.name
        and (child.source in (hop.source, hop.target, "client"))
        and not (hop.is_self and child.is_self)
    )


def _align(hop: Hop) -> None:
    """Move what clocks of other hosts placed before its cause, and clip what they placed just after its end."""
    for child in hop.children:
        if child.start < hop.start:
            _shift(child, hop.start - child.start)
        sync = hop.span.kind != "cast" and child.span.kind != "cast"
        if sync and hop.end < child.end <= hop.end + SKEW_SECONDS and child.start <= hop.end:
            child.end = hop.end
        _align(child)


def _shift(hop: Hop, seconds: float) -> None:
    for one in hop.everything():
        one.start += seconds
        one.end += seconds
        if one.work_end:
            one.work_end += seconds


def _without_reads(hops: list[Hop]) -> list[Hop]:
    kept: list[Hop] = []
    for hop in hops:
        hop.children = _without_reads(hop.children)
        if hop.is_read and not hop.error:
            kept.extend(hop.children)
        else:
            kept.append(hop)
    return kept


def _folded(hops: list[Hop]) -> list[Hop]:
    """Let one hop stand for neighbours that look alike, as the polls of a volume do."""
    kept: list[Hop] = []
    for hop in hops:
        hop.children = _folded(hop.children)
        last = kept[-1] if kept else None
        if last is not None and last.shape() == hop.shape():
            last.count += 1
            last.took += hop.took
            last.end = max(last.end, hop.end)
            last.work_end = max(last.work_end, hop.work_end)
        else:
            kept.append(hop)
    return kept


def _shorten(roots: list[Hop], most: int) -> None:
    """Hide the deepest hops until about `most` are left; a failure and what led to it stay."""

    def depth_of(hop: Hop) -> int:
        return 1 + max((depth_of(child) for child in hop.children), default=0)

    def cut(hop: Hop, depth: int) -> None:
        if depth > 1:
            for child in hop.children:
                cut(child, depth - 1)
            return
        failed = [child for child in hop.children if any(one.error for one in child.everything())]
        dropped = [child for child in hop.children if child not in failed]
        hop.hidden += sum(1 for child in dropped for _ in child.everything())
        hop.children = failed

    depth = max((depth_of(root) for root in roots), default=0)
    while depth > 2 and sum(1 for root in roots for _ in root.everything()) > most:
        depth -= 1
        for root in roots:
            cut(root, depth)
    if len(roots) > most:
        del roots[most * 3 // 4 : len(roots) - most // 4]
    for root in roots:
        if len(root.children) > most:
            root.hidden += len(root.children) - most
            del root.children[most * 3 // 4 : len(root.children) - most // 4]
