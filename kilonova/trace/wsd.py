"""WebSequenceDiagrams source: written from a diagram, and read from hand-written files.

The language is described at https://www.websequencediagrams.com/examples.html; what is read here: title, participant,
arrows with activation, activate and deactivate, notes, alt, else, opt, loop, end, and comments.
"""

from __future__ import annotations

import re
from typing import Final, cast

from kilonova.base.faults import Fault, invalid
from kilonova.trace.sequence import (
    FAILED,
    Activation,
    Arrow,
    Block,
    BlockKind,
    Item,
    Note,
    Participant,
    Section,
    Sequence,
    Side,
    Style,
    arrow_text,
)

_WRITTEN: Final = {"call": "->", "cast": "->>", "return": "-->"}
_READ: Final[dict[str, Style]] = {"->": "call", "->>": "cast", "-->": "return", "-->>": "return"}
_ARROW: Final = re.compile(r"""("[^"]*"|[^"]*?)\s*(-->>|-->|->>|->)\s*([+-]?)\s*("[^"]*"|[^":]*?)\s*(?::(.*))?""")
_NOTE: Final = re.compile(r"note\s+(over|left\s+of|right\s+of)\s+([^:]+?)\s*(?::(.*))?", re.IGNORECASE)
_PARTICIPANT: Final = re.compile(r'(?:participant|actor)\s+("[^"]*"|\S.*?)(?:\s+as\s+("[^"]*"|\S+))?', re.IGNORECASE)
_BLOCK: Final = re.compile(r"(alt|opt|loop)\b\s*(.*)", re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_RESERVED: Final = {
    "title", "participant", "actor", "note", "alt", "opt", "loop", "else", "end", "activate", "deactivate", "destroy",
}  # fmt: skip
_EXPECTED: Final = (
    "title, participant, A->B: text, activate, deactivate, note over A: text, alt, else, opt, loop, end or a # comment"
)


def render_wsd(sequence: Sequence) -> str:
    """WebSequenceDiagrams source that `parse_wsd` reads back. Times follow the labels; `where` is left out."""
    return _Source(sequence).text()


def parse_wsd(source: str, *, name: str = "source") -> Sequence:
    """The diagram that `source` describes; a mistake is a Fault that names the line and what was expected there."""
    return _Parser(source, name).sequence()


class _Source:
    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.names = {one.key: _name(one.key) for one in sequence.participants}
        self.lines: list[str] = []

    def text(self) -> str:
        if self.sequence.title:
            self.lines.append(f"title {_escaped(self.sequence.title)}")
        if self.sequence.subtitle:
            self.lines.append(f"# {_escaped(self.sequence.subtitle)}")
        for one in self.sequence.participants:
            label = _escaped(one.label).replace('"', "'")
            same = label == self.names[one.key]
            self.lines.append(f"participant {label}" if same else f'participant "{label}" as {self.names[one.key]}')
        self._items(self.sequence.items, "")
        return "\n".join([*self.lines, ""])

    def _items(self, items: list[Item], indent: str) -> None:
        for item in items:
            if isinstance(item, Block):
                for number, section in enumerate(item.sections):
                    word = item.kind if number == 0 else "else"
                    self.lines.append(f"{indent}{word} {_escaped(section.label)}".rstrip())
                    self._items(section.items, indent + "    ")
                self.lines.append(f"{indent}end")
            else:
                self.lines.append(indent + self._line(item))

    def _line(self, item: Arrow | Note | Activation) -> str:
        if isinstance(item, Activation):
            return f"{'activate' if item.active else 'deactivate'} {self.names[item.participant]}"
        if isinstance(item, Note):
            over = ", ".join(self.names[key] for key in item.over)
            return f"note {item.side} {over}: {_escaped(item.text)}"
        mark = "+" if item.opens else "-" if item.closes else ""
        way = f"{self.names[item.source]}{_WRITTEN[item.style]}{mark}{self.names[item.target]}"
        return f"{way}: {_escaped(arrow_text(item))}".rstrip()


def _name(key: str) -> str:
    if _PLAIN_NAME.fullmatch(key) and key.lower() not in _RESERVED:
        return key
    return '"' + _escaped(key).replace('"', "'") + '"'


def _escaped(text: str) -> str:
    kept = text.strip().replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(letter if letter.isprintable() else " " for letter in kept)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda found: "\n" if found[1] == "n" else "\\", text.strip())


class _Parser:
    """Reads line by line; `open` holds the blocks that are not ended yet, with their line numbers."""

    def __init__(self, source: str, name: str) -> None:
        self.name = name
        self.lines = source.removeprefix("\ufeff").splitlines()
        self.number = 0
        self.title = ""
        self.labels: dict[str, str] = {}  # key → label, in order of appearance
        self.items: list[Item] = []
        self.open: list[tuple[Block, int]] = []

    def sequence(self) -> Sequence:
        while self.number < len(self.lines):
            self.number += 1
            line = self.lines[self.number - 1].strip()
            if line and not line.startswith("#"):
                self._line(line)
        if self.open:
            block, begun = self.open[-1]
            raise self._wrong(f"the source ends inside the {block.kind} of line {begun}", "end")
        people = [Participant(key, label) for key, label in self.labels.items()]
        return Sequence(self.title, people, self.items)

    def _line(self, line: str) -> None:
        word = line.split(None, 1)[0].lower()
        rest = line[len(word) :].strip()
        if not _ARROW_START.match(line) and word in _RESERVED:
            getattr(self, f"_read_{_READERS.get(word, word)}")(word, rest, line)
        else:
            self._read_arrow(line)

    def _read_title(self, _word: str, rest: str, _line: str) -> None:
        if not rest:
            raise self._wrong("a title without text", "title TEXT")
        self.title = _unescaped(rest)

    def _read_participant(self, word: str, _rest: str, line: str) -> None:
        found = _PARTICIPANT.fullmatch(line)
        if not found:
            raise self._wrong(f"not a {word}: {line}", f'{word} NAME, or {word} "Long name" as NAME')
        label = _unescaped(_bare(found[1]))
        key = _bare(found[2]) if found[2] else label
        self.labels[_unescaped(key)] = label

    def _read_bar(self, word: str, rest: str, _line: str) -> None:
        if not rest:
            raise self._wrong(f"{word} of nobody", f"{word} NAME")
        self._add(Activation(participant=self._person(rest), active=word == "activate"))

    def _read_note(self, _word: str, _rest: str, line: str) -> None:
        found = _NOTE.fullmatch(line)
        if not found:
            raise self._wrong(
                f"not a note: {line}", "note over A[, B]: TEXT, note left of A: TEXT, note right of A: TEXT"
            )
        text = found[3] if found[3] is not None else self._note_lines()
        side = cast(Side, " ".join(found[1].lower().split()))
        over = tuple(self._person(one) for one in found[2].split(","))
        if side != "over" and len(over) > 1:
            raise self._wrong(f"a note {side} several participants", f"note {side} one NAME")
        said = _unescaped(text)
        self._add(Note(over=over, text=said, side=side, failed=said.startswith(FAILED)))

    def _note_lines(self) -> str:
        """The text of a note that goes on until `end note`."""
        begun, text = self.number, list[str]()
        while self.number < len(self.lines):
            self.number += 1
            line = self.lines[self.number - 1].strip()
            if line.lower().split() == ["end", "note"]:
                return "\\n".join(text)
            text.append(line)
        raise self._wrong(f"the note of line {begun} does not end", "end note, or a colon before the note's text")

    def _read_block(self, _word: str, _rest: str, line: str) -> None:
        found = _BLOCK.fullmatch(line)
        if found is None:
            raise self._wrong(f"not a block: {line}", "alt, opt or loop, and a condition")
        block = Block(cast(BlockKind, found[1].lower()), [Section(_unescaped(found[2]), [])])
        self._add(block)
        self.open.append((block, self.number))

    def _read_else(self, _word: str, rest: str, _line: str) -> None:
        if not self.open or self.open[-1][0].kind != "alt":
            inside = (
                f"inside the {self.open[-1][0].kind} of line {self.open[-1][1]}" if self.open else "outside any alt"
            )
            raise self._wrong(f"else {inside}", "alt before it")
        self.open[-1][0].sections.append(Section(_unescaped(rest), []))

    def _read_end(self, _word: str, rest: str, _line: str) -> None:
        if rest or not self.open:
            said = f"end {rest}" if rest else "end with nothing to end"
            raise self._wrong(said, "end only after alt, opt or loop")
        self.open.pop()

    def _read_arrow(self, line: str) -> None:
        found = _ARROW.fullmatch(line)
        if not found:
            raise self._wrong(f"cannot read: {line}", _EXPECTED)
        source, style, mark, target, text = found.groups()
        if not source or not target:
            raise self._wrong("an arrow without both ends", "A->B: TEXT")
        said = _unescaped(text or "")
        self._add(
            Arrow(
                source=self._person(source),
                target=self._person(target),
                label=said,
                style=_READ[style],
                opens=mark == "+",
                closes=mark == "-",
                failed=said.startswith(FAILED),
            )
        )

    def _person(self, written: str) -> str:
        key = _unescaped(_bare(written))
        if not key:
            raise self._wrong("a participant without a name", "a NAME")
        self.labels.setdefault(key, key)
        return key

    def _add(self, item: Item) -> None:
        (self.open[-1][0].sections[-1].items if self.open else self.items).append(item)

    def _wrong(self, said: str, expected: str) -> Fault:
        where = f"{self.name} line {self.number}"
        return invalid(f"{where}: {said}.", hint=f"Expected {expected}.", code="BadDiagramSource")


_ARROW_START: Final = re.compile(r'("[^"]*"|[\w.]+)\s*-')
_READERS: Final = {
    "actor": "participant", "activate": "bar", "deactivate": "bar", "destroy": "bar",
    "alt": "block", "opt": "block", "loop": "block",
}  # fmt: skip


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
