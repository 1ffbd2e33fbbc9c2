"""Values as Compute's older clients send them: numbers in quotes, booleans as words; and names that people type."""

from __future__ import annotations

import unicodedata

from kilonova.base.faults import Fault, invalid

LARGEST = 0x7FFFFFFF
_TRUE = {"true", "1", "on", "yes", "t", "y"}
_FALSE = {"false", "0", "off", "no", "f", "n"}
_UNPRINTABLE = ("Cc", "Cs", "Cn", "Zl", "Zp")


def whole(value: int | str, field: str, *, minimum: int = 0, maximum: int = LARGEST) -> int:
    """A whole number, also when it came as its digits in a string. INVALID outside minimum…maximum."""
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(value) > 18:
            raise _wrong(field, value, "is not an integer")
        value = int(value)
    if isinstance(value, bool) or not minimum <= value <= maximum:
        raise _wrong(field, str(value), f"is not between {minimum} and {maximum}")
    return value


def truth(value: bool | str | int, field: str) -> bool:
    """A boolean, also when it came as one of the words and digits that mean one."""
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _wrong(field, str(value), "is not a boolean")


def printable_name(text: str, field: str) -> str:
    """1 to 255 printable characters without space at either end."""
    if not 1 <= len(text) <= 255 or text != text.strip():
        raise _wrong(field, text, "is not 1 to 255 characters without leading or trailing space")
    return printable(text, field)


def printable(text: str, field: str) -> str:
    """Text without control characters (line breaks included)."""
    if any(unicodedata.category(one) in _UNPRINTABLE for one in text):
        raise _wrong(field, text, "has a character that cannot be printed")
    return text


def _wrong(field: str, value: str, problem: str) -> Fault:
    return invalid(f"Invalid input for field/attribute {field}. Value: {value[:80]}. {value[:80]!r} {problem}.")
