"""SVG: the diagram as a picture, laid out here; valid XML whatever the labels hold. Readable at 100 %."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

from kilonova.trace.columns import HEAD_SIZE, LABEL_SIZE, LOOP_WIDTH, WHERE_SIZE, Columns, short_where
from kilonova.trace.measure import FONT, width_of, wrap
from kilonova.trace.sequence import Activation, Arrow, Block, Item, Note, Sequence, duration

INK, MUTED, LINE, RED = "#1e293b", "#7c8798", "#cbd5e1", "#c81e1e"
MARGIN: Final = 24.0
GUTTER: Final = 66.0  # for the elapsed time
BAR: Final = 5.0  # half the width of an activation bar
STEP: Final = 4.0  # how far a bar inside a bar is moved
LEADING: Final = 15.0
REPEAT_HEADS: Final = 900.0  # after so many pixels the names stand between the lines again
_BAD_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Fill, border of a participant, by what it is: the user, identity, a control service, data, a host's side.
_COLOURS: Final = {
    "client": ("#f1f5f9", "#64748b"),
    "keystone": ("#ecfeff", "#0e7490"),
    "database": ("#ecfdf5", "#15803d"),
    "libvirt": ("#faf5ff", "#7e22ce"),
    "nova_compute": ("#fff7ed", "#c2410c"),
}
_PLAIN: Final = ("#eff6ff", "#1d4ed8")


def render_svg(sequence: Sequence) -> str:
    """The SVG document, with a time column when the items carry times and `where` as tooltip and small print."""
    return _Picture(sequence).document()


def xml(text: str) -> str:
    """`text` fit for XML content and attributes; what XML cannot hold becomes U+FFFD."""
    return escape(_BAD_XML.sub("\N{REPLACEMENT CHARACTER}", text), {'"': "&quot;", "'": "&apos;"})


class _Picture:
    """One drawing under way: `y` moves down, shapes are kept by layer."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.columns = Columns(sequence, MARGIN + (GUTTER if sequence.timed else 0.0))
        self.width = max(self.columns.right, self._title_width()) + MARGIN
        self.frames: list[str] = []
        self.lines: list[str] = []
        self.bars: list[tuple[int, str]] = []  # by nesting: an inner bar ends first but lies on top
        self.front: list[str] = []
        self.active: dict[str, list[float | None]] = {}  # start y of each bar, by nesting; None is a free level
        self.time_shown = ""
        self.y = MARGIN

    def document(self) -> str:
        self._titles()
        top = self.y
        self.y = self._heads(self.y) + 16
        self.last_heads = self.y
        for item in self.sequence.items:
            if self.y - self.last_heads > REPEAT_HEADS:
                self._names_again()
            self._item(item, 0)
        self.y += 8
        for key, levels in self.active.items():
            for level, start in enumerate(levels):
                if start is not None:
                    self._bar(key, level, start)
        bottom = self._heads(self.y)
        for x in self.columns.x:
            self.lines.append(_line(x, top + 8, x, self.y, LINE, 'stroke-dasharray="2 4"'))
        height = bottom + MARGIN
        body = "\n".join([*self.frames, *self.lines, *(shape for _, shape in sorted(self.bars)), *self.front])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {height:.0f}" font-family="{FONT}" font-size="{LABEL_SIZE:g}" '
            f'fill="{INK}" role="img">\n<title>{xml(self.sequence.title)}</title>\n'
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
        )

    def _title_width(self) -> float:
        lines = wrap(self.sequence.title, 900, 18)
        return MARGIN + max([width_of(line, 18, bold=True) for line in lines] + [width_of(self.sequence.subtitle, 11)])

    def _titles(self) -> None:
        for line in wrap(self.sequence.title, 900, 18) if self.sequence.title else []:
            self.y += 18
            self.front.append(_text(MARGIN, self.y, line, 'font-size="18" font-weight="bold"'))
            self.y += 5
        if self.sequence.subtitle:
            self.y += 12
            self.front.append(_text(MARGIN, self.y, self.sequence.subtitle, f'font-size="11" fill="{MUTED}"'))
        self.y += 18

    def _heads(self, y: float) -> float:
        """Boxes with the participants' names, their top at `y`; the y below them."""
        rows = max([one.label.count("\n") + 1 for one in self.sequence.participants], default=1)
        height = rows * 16.0 + 14
        for one, x, width in zip(self.sequence.participants, self.columns.x, self.columns.heads, strict=True):
            fill, border = _colours(one.key)
            box = f'x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"'
            self.front.append(f'<rect {box} fill="{fill}" stroke="{border}" stroke-width="1.2"/>')
            lines = one.label.split("\n")
            for number, line in enumerate(lines):
                middle = y + height / 2 + (number - (len(lines) - 1) / 2) * 16 + 4.5
                weight = f'font-size="{HEAD_SIZE:g}" font-weight="bold"' if number == 0 else 'font-size="11"'
                self.front.append(_text(x, middle, line, f'{weight} fill="{border}" text-anchor="middle"'))
        return y + height

    def _names_again(self) -> None:
        self.y += 10
        for one, x in zip(self.sequence.participants, self.columns.x, strict=True):
            name = one.label.replace("\n", " ")
            self._plate(x - width_of(name, 10) / 2, self.y - 2, width_of(name, 10), 14)
            style = f'font-size="10" fill="{_colours(one.key)[1]}" fill-opacity="0.75" text-anchor="middle"'
            self.front.append(_text(x, self.y + 9, name, style))
        self.y += 22
        self.last_heads = self.y

    def _item(self, item: Item, depth: int) -> None:
        if isinstance(item, Arrow):
            self._arrow(item)
        elif isinstance(item, Note):
            self._note(item)
        elif isinstance(item, Block):
            self._block(item, depth)
        elif item.active:
            self._open(item.participant, self.y)
        else:
            self._close(item)

    # bars

    def _open(self, key: str, y: float) -> None:
        levels = self.active.setdefault(key, [])
        free = next((level for level, start in enumerate(levels) if start is None), len(levels))
        if free == len(levels):
            levels.append(None)
        levels[free] = y

    def _close(self, item: Activation) -> None:
        self._end_bar(item.participant, self.y + 2)
        self.y += 6

    def _end_bar(self, key: str, y: float) -> None:
        levels = self.active.get(key, [])
        level = self._level(key)
        start = levels[level] if level >= 0 else None
        if start is not None:
            self.y = max(self.y, y)
            self._bar(key, level, start, y)
            levels[level] = None

    def _level(self, key: str) -> int:
        """The innermost bar of `key`, -1 when it is idle."""
        return max((level for level, start in enumerate(self.active.get(key, [])) if start is not None), default=-1)

    def _bar(self, key: str, level: int, start: float, end: float | None = None) -> None:
        fill, border = _colours(key)
        x, stop = self.columns.at(key) - BAR + level * STEP, self.y if end is None else end
        box = f'x="{x:.1f}" y="{start:.1f}" width="{2 * BAR:g}" height="{max(stop - start, 4):.1f}" rx="1.5"'
        shape = f'<rect {box} fill="{fill}" stroke="{border}" stroke-width="1"/>'
        self.bars.append((level, shape))

    def _edge(self, key: str, towards: float) -> float:
        """Where an arrow that comes from or goes to x `towards` touches `key`: its line, or its bar's edge."""
        x, level = self.columns.at(key), self._level(key)
        if level < 0:
            return x
        return x + level * STEP + BAR if towards > x else x - BAR

    # arrows

    def _arrow(self, arrow: Arrow) -> None:
        lines = self.columns.label_lines(arrow)
        colour = RED if arrow.failed else INK
        self.front.append("<g>" + (f"<title>{xml(arrow.where)}</title>" if arrow.where else ""))
        if arrow.source == arrow.target:
            self._loop(arrow, lines, colour)
        else:
            self._straight(arrow, lines, colour)
        self.front.append("</g>")

    def _straight(self, arrow: Arrow, lines: list[str], colour: str) -> None:
        back = arrow.style == "return"
        self.y += (3 if back else 9) + len(lines) * LEADING
        y = self.y
        self._time(arrow.at, y + 4)
        source, target = self.columns.at(arrow.source), self.columns.at(arrow.target)
        start = self._edge(arrow.source, target)
        if arrow.opens:
            self._open(arrow.target, y - 3)
        end = self._edge(arrow.target, source)
        way = 1 if end > start else -1
        near = sum(1 for x in self.columns.x if min(source, target) < x < max(source, target)) == 0
        if near:
            place, anchor = (start + end) / 2, "middle"
        else:
            place, anchor = start + way * 10, "start" if way > 0 else "end"
        size = LABEL_SIZE - 1 if back and not arrow.failed else LABEL_SIZE
        tint = MUTED if back and not arrow.failed else colour
        self._label(lines, place, y - 5, anchor, (size, tint))
        where = short_where(arrow.where)
        if where and not back:
            room = abs(source - target) - 20
            small = wrap(where, max(room, 60), WHERE_SIZE)[0]
            self._label([small], place, y + 11, anchor, (WHERE_SIZE, MUTED))
            self.y += 9
        dash = ' stroke-dasharray="5 4"' if back else ""
        line_colour = MUTED if back and not arrow.failed else colour
        self.front.append(
            _line(start, y, end - way * (1 if arrow.style == "cast" else 6), y, line_colour, dash.strip())
        )
        self.front.append(_head(end, y, way, line_colour, filled=arrow.style == "call"))
        if arrow.closes:
            self._end_bar(arrow.source, y + 3)
        self.y += 6

    def _loop(self, arrow: Arrow, lines: list[str], colour: str) -> None:
        self.y += 8
        y, x = self.y, self.columns.at(arrow.source)
        self._time(arrow.at, y + 6)
        level = self._level(arrow.source)
        out = x + (level * STEP + BAR if level >= 0 else 0)
        small = short_where(arrow.where)
        height = max(14.0, len(lines) * LEADING + (10 if small else 0) - 4)
        if arrow.opens:
            self._open(arrow.target, y + height - 3)
        inner = x + (self._level(arrow.source) * STEP + BAR if self._level(arrow.source) >= 0 else 0)
        reach = out + LOOP_WIDTH - 6
        dash = ' stroke-dasharray="5 4"' if arrow.style == "return" else ""
        self.front.append(
            f'<path d="M{out:.1f} {y:.1f}H{reach:.1f}V{y + height:.1f}H{inner + 6:.1f}" fill="none" '
            f'stroke="{colour}" stroke-width="1.2"{dash}/>'
        )
        self.front.append(_head(inner, y + height, -1, colour, filled=arrow.style == "call"))
        base = y + 9 + (len(lines) - 1) * LEADING
        self._label(lines, reach + 7, base, "start", (LABEL_SIZE, colour))
        if small:
            self._label([wrap(small, 230, WHERE_SIZE)[0]], reach + 7, base + 12, "start", (WHERE_SIZE, MUTED))
        self.y += height
        if arrow.closes:
            self._end_bar(arrow.source, self.y + 3)
        self.y += 8

    def _label(self, lines: list[str], x: float, base: float, anchor: str, look: tuple[float, str]) -> None:
        """Lines of text, the last one's base line at `base`, on a plate that keeps lifelines off the letters."""
        size, colour = look
        wide = max((width_of(line, size) for line in lines), default=0.0)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        if lines:
            self._plate(left, base - size - (len(lines) - 1) * LEADING, wide, (len(lines) - 1) * LEADING + size + 3)
        for number, line in enumerate(lines):
            y = base - (len(lines) - 1 - number) * LEADING
            self.front.append(_text(x, y, line, f'font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"'))

    def _plate(self, x: float, y: float, width: float, height: float) -> None:
        box = f'x="{x - 2:.1f}" y="{y:.1f}" width="{width + 4:.1f}" height="{height:.1f}"'
        self.front.append(f'<rect {box} fill="#ffffff" fill-opacity="0.85"/>')

    def _time(self, at: float | None, y: float) -> None:
        text = "" if at is None else duration(at)
        if text and text != self.time_shown:
            style = f'font-size="10" fill="{MUTED}" text-anchor="end"'
            self.front.append(_text(MARGIN + GUTTER - 14, y, text, style))
            self.time_shown = text

    # notes and blocks

    def _note(self, note: Note) -> None:
        lines = self.columns.note_lines(note)
        size = LABEL_SIZE - 1
        width = max(width_of(line, size) for line in lines) + 20
        low, high = sorted((self.columns.at(note.over[0]), self.columns.at(note.over[-1])))
        middle = (low + high) / 2
        if len(note.over) > 1:
            width = max(width, high - low + 40)
        if note.side != "over":
            middle += (width / 2 + 10) * (1 if note.side == "right of" else -1)
        self.y += 6
        x, y, height = middle - width / 2, self.y, len(lines) * (LEADING - 0.5) + 10
        fill, border, ink = ("#fef2f2", "#f19999", RED) if note.failed else ("#fffbe6", "#e6cf73", INK)
        self._time(note.at, y + 14)
        self.front.append("<g>" + (f"<title>{xml(note.where)}</title>" if note.where else ""))
        corner = f"M{x:.1f} {y:.1f}h{width - 8:.1f}l8 8v{height - 8:.1f}h{-width:.1f}z"
        fold = f"M{x + width - 8:.1f} {y:.1f}v8h8"
        self.front.append(f'<path d="{corner}" fill="{fill}" stroke="{border}"/>')
        self.front.append(f'<path d="{fold}" fill="none" stroke="{border}"/>')
        for number, line in enumerate(lines):
            base = y + 16 + number * (LEADING - 0.5)
            self.front.append(_text(x + 10, base, line, f'font-size="{size:g}" fill="{ink}"'))
        self.front.append("</g>")
        self.y += height + 6

    def _block(self, block: Block, depth: int) -> None:
        low, high = self.columns.extent([item for section in block.sections for item in section.items])
        inset = max(8.0, 26.0 - depth * 6)
        x, width = low - inset, high - low + 2 * inset
        self.y += 10
        top = self.y
        for number, section in enumerate(block.sections):
            if number:
                self.y += 6
                self.frames.append(_line(x, self.y, x + width, self.y, MUTED, 'stroke-dasharray="6 4"'))
            tab = width_of(block.kind, 11, bold=True) + 18 if number == 0 else 0.0
            if number == 0:
                shape = f"M{x:.1f} {top:.1f}h{tab:.1f}v12l-6 6h{6 - tab:.1f}z"
                self.front.append(f'<path d="{shape}" fill="#e2e8f0" stroke="{MUTED}"/>')
                self.front.append(_text(x + 8, top + 13, block.kind, 'font-size="11" font-weight="bold"'))
            guard = f"[{section.label}]" if section.label else ""
            if guard:
                self._label([guard], x + tab + 8, self.y + 13, "start", (11, INK))
            self.y += 22
            for item in section.items:
                self._item(item, depth + 1)
        self.y += 8
        box = f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{self.y - top:.1f}" rx="3"'
        self.frames.append(f'<rect {box} fill="none" stroke="{MUTED}"/>')
        self.y += 6


def _colours(key: str) -> tuple[str, str]:
    return _COLOURS.get(key.partition("@")[0], _PLAIN)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" xml:space="preserve" {style}>{xml(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, style: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="1.2" {style}/>'


def _head(x: float, y: float, way: int, colour: str, *, filled: bool) -> str:
    points = f"M{x - way * 9:.1f} {y - 4.5:.1f}L{x:.1f} {y:.1f}L{x - way * 9:.1f} {y + 4.5:.1f}"
    if filled:
        return f'<path d="{points}z" fill="{colour}"/>'
    return f'<path d="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
