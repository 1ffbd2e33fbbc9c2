"""Columns: where each participant of a drawn diagram stands, so that every label has room between two lines."""

from __future__ import annotations

from typing import Final

from kilonova.trace.measure import width_of, wrap
from kilonova.trace.sequence import Arrow, Block, Item, Note, Sequence, arrow_text, walk

LABEL_SIZE: Final = 12.0
WHERE_SIZE: Final = 9.0
HEAD_SIZE: Final = 12.5
LABEL_WIDTH: Final = 216.0  # labels between neighbours are wrapped to this
NOTE_WIDTH: Final = 230.0
ROOM: Final = 26.0  # arrow head, bar and air beside a label
LOOP_WIDTH: Final = 26.0  # how far a self arrow reaches out


def short_where(where: str) -> str:
    """`compute/server/create.py:create` of a full file:function; the first of several."""
    return where.split("\n", 1)[0].removeprefix("kilonova/")


class Columns:
    """x of every participant, and the space that arrows and notes have. Pixels."""

    def __init__(self, sequence: Sequence, left: float) -> None:
        self._index = {one.key: index for index, one in enumerate(sequence.participants)}
        self.heads = [max(64.0, *(self._head(line) for line in p.label.split("\n"))) for p in sequence.participants]
        self._gaps = [(a + b) / 2 + 18 for a, b in zip(self.heads, self.heads[1:], strict=False)]
        items = list(walk(sequence.items))
        for span in range(1, len(self.heads)):
            for item in items:
                self._widen(item, span)
        self._left, self._right = left, 0.0
        self._overhang(items)
        self.x = [self._left]
        for gap in self._gaps:
            self.x.append(self.x[-1] + gap)
        self.right = (self.x[-1] if self.heads else self._left) + self._right

    def at(self, key: str) -> float:
        """The x of participant `key`'s line."""
        return self.x[self._index[key]]

    def label_lines(self, arrow: Arrow) -> list[str]:
        """An arrow's label, wrapped to the room it has."""
        text = arrow_text(arrow)
        if arrow.source == arrow.target:
            return wrap(text, LABEL_WIDTH, LABEL_SIZE) if text else []
        room = abs(self.at(arrow.source) - self.at(arrow.target)) - ROOM
        return wrap(text, max(room, 60.0), LABEL_SIZE) if text else []

    def note_lines(self, note: Note) -> list[str]:
        """A note's text, wrapped; a note over several participants is as wide as they are apart."""
        spread = abs(self.at(note.over[0]) - self.at(note.over[-1]))
        return [line for part in note.text.split("\n") for line in wrap(part, max(NOTE_WIDTH, spread), LABEL_SIZE - 1)]

    def extent(self, items: list[Item]) -> tuple[float, float]:
        """The leftmost and rightmost line that `items` touch."""
        found = [x for item in walk(items) for x in self._touched(item)]
        return (min(found), max(found)) if found else (self.x[0], self.x[-1])

    def _touched(self, item: Item) -> list[float]:
        if isinstance(item, Arrow):
            ends = [self.at(item.source), self.at(item.target)]
            return [*ends, ends[0] + self._self_room(item)] if item.source == item.target else ends
        if isinstance(item, Note):
            low, high = sorted((self.at(item.over[0]), self.at(item.over[-1])))
            half = max(self._note_width(item), high - low + 40 if high > low else 0.0) / 2
            middle = (low + high) / 2
            if item.side != "over":
                middle += (half + 10) * (1 if item.side == "right of" else -1)
            return [middle - half, middle + half]
        return [] if isinstance(item, Block) else [self.at(item.participant)]

    def _head(self, line: str) -> float:
        return width_of(line, HEAD_SIZE, bold=True) + 20

    def _widen(self, item: Item, span: int) -> None:
        if not isinstance(item, Arrow):
            return
        first, last = sorted((self._index[item.source], self._index[item.target]))
        if first == last:
            if span == 1 and last < len(self._gaps):
                self._gaps[last] = max(self._gaps[last], self._self_room(item))
        elif last - first == span:
            lines = wrap(arrow_text(item), LABEL_WIDTH, LABEL_SIZE)
            wanted = max(width_of(line, LABEL_SIZE) for line in lines)
            if span == 1:
                wanted = max(wanted, min(width_of(short_where(item.where), WHERE_SIZE), LABEL_WIDTH))
            missing = wanted + ROOM - sum(self._gaps[first:last])
            if missing > 0:
                self._gaps[last - 1] += missing + 1  # so that rounding never wraps what fits

    def _self_room(self, arrow: Arrow) -> float:
        lines = wrap(arrow_text(arrow), LABEL_WIDTH, LABEL_SIZE)
        wide = [width_of(line, LABEL_SIZE) for line in lines]
        return max([*wide, min(width_of(short_where(arrow.where), WHERE_SIZE), LABEL_WIDTH)]) + LOOP_WIDTH + 26

    def _note_width(self, note: Note) -> float:
        lines = [line for part in note.text.split("\n") for line in wrap(part, NOTE_WIDTH, LABEL_SIZE - 1)]
        return max(width_of(line, LABEL_SIZE - 1) for line in lines) + 20

    def _overhang(self, items: list[Item]) -> None:
        """Room left of the first and right of the last line for heads, notes and self arrows that reach out."""
        if not self.heads:
            return
        last = len(self.heads) - 1
        before, after = self.heads[0] / 2, self.heads[-1] / 2
        starts = [0.0]
        for gap in self._gaps:
            starts.append(starts[-1] + gap)
        for item in items:
            if isinstance(item, Note):
                width = self._note_width(item)
                low, high = sorted((starts[self._index[item.over[0]]], starts[self._index[item.over[-1]]]))
                middle = (low + high) / 2
                if item.side != "over":
                    middle += (width / 2 + 10) * (1 if item.side == "right of" else -1)
                before = max(before, width / 2 - middle)
                after = max(after, middle + width / 2 - starts[last])
            elif isinstance(item, Arrow) and item.source == item.target == self._last_key():
                after = max(after, self._self_room(item))
        depth = 14.0 if any(isinstance(item, Block) for item in items) else 0.0
        self._left += before + depth
        self._right = after + depth

    def _last_key(self) -> str:
        return next(key for key, index in self._index.items() if index == len(self.heads) - 1)
