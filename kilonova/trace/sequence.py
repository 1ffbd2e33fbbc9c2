"""Sequence: a sequence diagram as data. Made from spans or parsed from source; drawn by text, mermaid, wsd and svg."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

Style = Literal["call", "cast", "return"]
BlockKind = Literal["alt", "opt", "loop"]
Side = Literal["over", "left of", "right of"]

FAILED: Final = "✗"  # stands before the text of whatever failed, in every format


class Participant(msgspec.Struct, frozen=True):
    """One column: `key` is what items refer to, `label` what is shown (may hold newlines)."""

    key: str
    label: str


class Arrow(msgspec.Struct, kw_only=True):
    """One hop. `call` is solid, `cast` is solid with an open head, `return` is dashed."""

    source: str
    target: str
    label: str
    style: Style = "call"
    opens: bool = False  # the target is active from here
    closes: bool = False  # the source is active until here
    failed: bool = False
    at: float | None = None  # seconds since the diagram's first event
    took: float | None = None  # seconds; set where no return follows that would carry it
    where: str = ""  # file:function that did it


class Activation(msgspec.Struct, kw_only=True):
    """A bar that begins or ends without an arrow."""

    participant: str
    active: bool
    at: float | None = None


class Note(msgspec.Struct, kw_only=True):
    """A remark over one or more neighbours, or beside one: a check, a decision, a record written."""

    over: tuple[str, ...]
    text: str
    side: Side = "over"
    failed: bool = False
    at: float | None = None
    where: str = ""


class Section(msgspec.Struct):
    """One branch of a block."""

    label: str
    items: list[Item]


class Block(msgspec.Struct):
    """A frame around items: alt with its elses, opt or loop (one section each)."""

    kind: BlockKind
    sections: list[Section]


Item = Arrow | Activation | Note | Block


class Sequence(msgspec.Struct):
    """A diagram: participants from left to right, items from top to bottom."""

    title: str
    participants: list[Participant]
    items: list[Item]
    subtitle: str = ""

    def place(self, key: str) -> int:
        """The column of participant `key`, from 0."""
        return next(index for index, one in enumerate(self.participants) if one.key == key)

    @property
    def timed(self) -> bool:
        """Whether items carry elapsed times, as those made from spans do."""
        return any(getattr(item, "at", None) is not None for item in walk(self.items))


def walk(items: list[Item]) -> Iterator[Item]:
    """Every item, blocks and what is in them included, from top to bottom."""
    for item in items:
        yield item
        if isinstance(item, Block):
            for section in item.sections:
                yield from walk(section.items)


def duration(seconds: float) -> str:
    """`0.4 ms`, `12.3 ms`, `345 ms`, `3.21 s`, `2 min 03 s`: as precise as a reader can use."""
    milliseconds = seconds * 1000
    if milliseconds < 99.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def arrow_text(arrow: Arrow) -> str:
    """An arrow's label with the time it took, where no return follows that would tell it; the two stay on one line."""
    if arrow.took is None:
        return arrow.label
    took = duration(arrow.took).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{arrow.label} ({took})" if arrow.label else took
