"""Mermaid: the diagram as source for https://mermaid.js.org/syntax/sequenceDiagram.html."""

from __future__ import annotations

import re
from typing import Final

from kilonova.trace.sequence import Activation, Arrow, Block, Item, Note, Sequence, arrow_text

_ARROWS: Final = {"call": "->>", "cast": "-)", "return": "-->>"}
_PLAIN: Final = re.compile(r"(?!P\d|end|note|loop|alt|opt|else|rect|par|title|box)[A-Za-z][A-Za-z0-9_]*", re.IGNORECASE)
FAILED_BACKGROUND: Final = "rgb(254, 226, 226)"


def render_mermaid(sequence: Sequence) -> str:
    """Mermaid source. Failures stand on a red ground; times follow the labels; `where` is left out."""
    page = _Page(sequence)
    for item in sequence.items:
        page.item(item, 1)
    return "\n".join([*page.lines, ""])


def safe(text: str) -> str:
    """`text` with the characters that Mermaid or HTML would take for syntax as numbered entities."""
    written = []
    for letter in text:
        if letter == "\n":
            written.append("<br/>")
        elif letter in '#;<>&"{}%`':
            written.append(f"#{ord(letter)};")
        else:
            written.append(letter if letter.isprintable() else " ")
    said = "".join(written).strip() or " "
    return f"#101;{said[1:]}" if said.lower().startswith("end") else said  # a label `end` would close a block


class _Page:
    def __init__(self, sequence: Sequence) -> None:
        self.names = {one.key: _name(one.key, number) for number, one in enumerate(sequence.participants)}
        self.active = dict.fromkeys(self.names, 0)
        title = " ".join(sequence.title.split())
        self.lines = ["---", f"title: {_quoted(title)}", "---"] if title else []
        self.lines.append("sequenceDiagram")
        for one in sequence.participants:
            self.lines.append(f"    participant {self.names[one.key]} as {safe(one.label)}")

    def item(self, item: Item, depth: int) -> None:
        if isinstance(item, Arrow):
            self._arrow(item, depth)
        elif isinstance(item, Note):
            over = ",".join(self.names[key] for key in item.over[:1] + item.over[1:][-1:])
            self._put(f"Note {item.side} {over}: {safe(item.text)}", depth, failed=item.failed)
        elif isinstance(item, Block):
            self._block(item, depth)
        else:
            self._activation(item, depth)

    def _arrow(self, arrow: Arrow, depth: int) -> None:
        source, target = self.names[arrow.source], self.names[arrow.target]
        line = f"{source}{_ARROWS[arrow.style]}{target}: {safe(arrow_text(arrow))}"
        self._put(line, depth, failed=arrow.failed)
        if arrow.opens:
            self._activation(Activation(participant=arrow.target, active=True), depth)
        if arrow.closes:
            self._activation(Activation(participant=arrow.source, active=False), depth)

    def _activation(self, item: Activation, depth: int) -> None:
        if item.active:
            self.active[item.participant] += 1
        elif self.active[item.participant] == 0:
            return  # Mermaid refuses to end a bar that never began
        else:
            self.active[item.participant] -= 1
        self._put(f"{'activate' if item.active else 'deactivate'} {self.names[item.participant]}", depth)

    def _block(self, block: Block, depth: int) -> None:
        for number, section in enumerate(block.sections):
            self._put(f"{block.kind if number == 0 else 'else'} {safe(section.label)}".rstrip(), depth)
            for item in section.items:
                self.item(item, depth + 1)
        self._put("end", depth)

    def _put(self, line: str, depth: int, *, failed: bool = False) -> None:
        indent = "    " * depth
        if failed:
            self.lines += [f"{indent}rect {FAILED_BACKGROUND}", f"{indent}    {line}", f"{indent}end"]
        else:
            self.lines.append(indent + line)


def _name(key: str, number: int) -> str:
    """What the source calls participant `key`: the key itself where Mermaid cannot mistake it."""
    return key if _PLAIN.fullmatch(key) else f"P{number}"


def _quoted(text: str) -> str:
    """A YAML double-quoted scalar."""
    escaped = text.replace("<", "‹").replace(">", "›").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(letter if letter.isprintable() else " " for letter in escaped) + '"'
