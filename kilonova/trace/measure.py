"""Measure: how wide text will be, from a table, so that a diagram is laid out without a font at hand."""

from __future__ import annotations

from typing import Final

# Advance widths of DejaVu Sans in thousandths of the size, U+0020 to U+007E. Verdana's are within 2 %, and
# the usual sans-serif faces are narrower, so text laid out by this table fits wherever it is shown.
_WIDTHS: Final = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
)  # fmt: skip
_OTHER: Final = 838  # symbols and most alphabets
_WIDE: Final = 1000  # ideographs, kana, full-width forms, emoji
BOLD: Final = 1.1  # the bold face is this much wider
FONT: Final = "DejaVu Sans, Verdana, Geneva, sans-serif"


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that one line of `text` takes at `size` pixels."""
    thousandths = sum(_letter(ord(letter)) for letter in text)
    return thousandths * size / 1000 * (BOLD if bold else 1.0)


def wrap(text: str, width: float, size: float) -> list[str]:
    """`text` as lines no wider than `width`, broken at spaces, or inside a word that is too long by itself."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if width_of(joined, size) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            line = word
            while width_of(line, size) > width and len(line) > 1:
                head = _head(line, width, size)
                lines.append(line[:head])
                line = line[head:]
        lines.append(line)
    return lines


def _letter(code: int) -> int:
    if 32 <= code < 127:
        return _WIDTHS[code - 32]
    if code == 0xA0:  # no-break space
        return _WIDTHS[0]
    if 0xC0 <= code <= 0x24F:  # accented Latin, about as wide as its letters
        return 640
    return _WIDE if code >= 0x2E80 else _OTHER


def _head(word: str, width: float, size: float) -> int:
    """How many letters of `word` fit in `width`; breaks after / . - _ : when that wastes less than half."""
    fits = 1
    while fits < len(word) and width_of(word[: fits + 1], size) <= width:
        fits += 1
    for cut in range(fits, fits // 2, -1):
        if word[cut - 1] in "/.-_:,=&?":
            return cut
    return fits
