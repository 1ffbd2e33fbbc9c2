"""Text: the diagram for a terminal: time, what happened, and the lifelines with bars and arrows, one row per item."""

from __future__ import annotations

from typing import Final

from kilonova.trace.sequence import Activation, Arrow, Block, Item, Note, Sequence, arrow_text, duration

IDLE, ACTIVE = "│", "┃"
PITCH: Final = 8  # columns between two lifelines; fewer when there are many
CROWD: Final = 9
WORDS: Final = 56  # columns for what happened
TIME: Final = 9
RED, DIM, PLAIN = "\x1b[31m", "\x1b[2m", "\x1b[0m"


def render_text(sequence: Sequence, *, colour: bool = False, words: int = WORDS) -> str:
    """The diagram as lines: `time  what happened  lifelines`. Longer texts go on in the next row.

    With `colour`, failures are red and times dim (ANSI). `words` is how wide the middle column may be.
    """
    page = _Page(sequence, colour, words)
    for item in sequence.items:
        page.item(item, 0)
    return page.finished()


def one_line(text: str) -> str:
    """`text` without control characters, so that a label cannot move the cursor or add rows."""
    return "".join(letter if letter.isprintable() or letter == "\N{NO-BREAK SPACE}" else " " for letter in text)


class _Page:
    def __init__(self, sequence: Sequence, colour: bool, words: int) -> None:
        self.sequence = sequence
        self.colour = colour
        self.index = {one.key: number for number, one in enumerate(sequence.participants)}
        self.active = [0] * len(sequence.participants)
        self.timed = sequence.timed
        self.shown = ""
        self.pitch = PITCH if len(self.active) <= CROWD else PITCH - 2
        self.words = words
        self.rows: list[str] = []

    def finished(self) -> str:
        head = [one_line(self.sequence.title)] if self.sequence.title else []
        if self.sequence.subtitle:
            head.append(one_line(self.sequence.subtitle))
        names = self._names()
        return "\n".join(line.rstrip() for line in [*head, "", *names, *self.rows, *reversed(names)]) + "\n"

    def item(self, item: Item, depth: int) -> None:
        if isinstance(item, Arrow):
            self._arrow(item, depth)
        elif isinstance(item, Note):
            self._note(item, depth)
        elif isinstance(item, Block):
            self._block(item, depth)
        else:
            self._activation(item)

    def _names(self) -> list[str]:
        """The participants' names over their lifelines, on as many lines as keep them apart."""
        lines: list[str] = []
        for number, one in enumerate(self.sequence.participants):
            name = one_line(one.label.replace("\n", "@"))
            middle = self._left() + number * self.pitch
            start = max(0, middle - len(name) // 2)
            for row, line in enumerate(lines):
                if len(line) < start:
                    lines[row] = line.ljust(start) + name
                    break
            else:
                lines.append(" " * start + name)
        return lines

    def _left(self) -> int:
        return (TIME + 2 if self.timed else 0) + self.words + 4

    def _lines(self) -> list[str]:
        """The cells of an empty row: every lifeline as it is now."""
        cells = [" "] * (max(len(self.active) - 1, 0) * self.pitch + 1)
        for number, bars in enumerate(self.active):
            cells[number * self.pitch] = ACTIVE if bars else IDLE
        return cells

    def _row(self, text: str, cells: list[str], at: float | None = None, *, failed: bool = False) -> None:
        time = ""
        if at is not None and duration(at) != self.shown:
            time = self.shown = duration(at)
        for number, line in enumerate(_wrapped(text, self.words)):
            first = number == 0
            stamp = (time if first else "").rjust(TIME) + "  " if self.timed else ""
            middle = line.replace("\N{NO-BREAK SPACE}", " ").ljust(self.words)
            if self.colour:
                stamp = f"{DIM}{stamp}{PLAIN}" if stamp.strip() else stamp
                middle = f"{RED}{middle}{PLAIN}" if failed else middle
            self.rows.append(f"{stamp}{middle}    {''.join(cells if first else self._lines())}".rstrip())

    def _arrow(self, arrow: Arrow, depth: int) -> None:
        cells = self._lines()
        source, target = self.index[arrow.source], self.index[arrow.target]
        if arrow.opens:
            self.active[target] += 1
        if arrow.closes:
            self.active[source] = max(0, self.active[source] - 1)
        if source == target:
            place = source * self.pitch
            cells[place + 1 : place + 3] = ["◀", "┐"]
        else:
            _stroke(cells, (source * self.pitch, target * self.pitch), self.pitch, arrow.style)
        indent = "  " * (depth + (arrow.style == "return"))
        self._row(indent + arrow_text(arrow), cells, arrow.at, failed=arrow.failed)

    def _note(self, note: Note, depth: int) -> None:
        for number, line in enumerate(note.text.split("\n")):
            cells = self._lines()
            low, high = sorted((self.index[note.over[0]], self.index[note.over[-1]]))
            cells[low * self.pitch] = "◆"
            if high > low:
                cells[low * self.pitch + 1 : high * self.pitch] = ["═"] * ((high - low) * self.pitch - 1)
                cells[high * self.pitch] = "◆"
            self._row("  " * depth + "◆ " + line, cells, note.at if number == 0 else None, failed=note.failed)

    def _activation(self, item: Activation) -> None:
        number = self.index[item.participant]
        self.active[number] = max(0, self.active[number] + (1 if item.active else -1))

    def _block(self, block: Block, depth: int) -> None:
        for number, section in enumerate(block.sections):
            word = block.kind if number == 0 else "else"
            guard = f" [{section.label}]" if section.label else ""
            self._row("  " * depth + ("┌─ " if number == 0 else "├─ ") + word + guard, self._lines())
            for item in section.items:
                self.item(item, depth + 1)
        self._row("  " * depth + "└─", self._lines())


def _stroke(cells: list[str], ends: tuple[int, int], pitch: int, style: str) -> None:
    """Draw an arrow between two lifelines; a lifeline under it shows as a crossing."""
    start, end = ends
    body = "╌" if style == "return" else "─"
    low, high = sorted((start, end))
    for place in range(low + 1, high):
        cells[place] = body if place % pitch else "┼"
    tips = {"call": ("▶", "◀"), "cast": (">", "<"), "return": ("▷", "◁")}[style]
    if end > start:
        cells[start], cells[end - 1] = "├", tips[0]
    else:
        cells[start], cells[end + 1] = "┤", tips[1]


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`, later ones indented two more than the first."""
    body = one_line(text)
    indent = len(body) - len(body.lstrip(" ")) + 2
    lines = []
    while len(body) > width:
        cut = body.rfind(" ", indent + width // 3, width + 1)
        cut = cut if cut > 0 else width
        lines.append(body[:cut])
        body = " " * indent + body[cut:].lstrip(" ")
    return [*lines, body]
