"""Comparing what is there with what flavors ask for: the operators of extra specs."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Final

_NUMBERS: Final[dict[str, Callable[[float, float], bool]]] = {
    "=": operator.ge,  # as it always was: at least
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: Final[dict[str, Callable[[str, str], bool]]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
}


def matches(has: str, wanted: str) -> bool:
    """`>= 4`, `s== text`, `<in> part`, `<all-in> a b`, `<or> a <or> b`; a plain word must be equal."""
    parts = wanted.split()
    if not parts:
        return has == wanted
    first, rest = parts[0], parts[1:]
    if first == "<or>":
        return has in [one.strip() for one in re.split(r"<or>", wanted) if one.strip()]
    if first == "<in>":
        return " ".join(rest) in has
    if first == "<all-in>":
        return all(one in has for one in rest)
    if first in _WORDS and rest:
        return _WORDS[first](has, " ".join(rest))
    if first in _NUMBERS and rest:
        try:
            return _NUMBERS[first](float(has), float(rest[0]))
        except ValueError:
            return False
    return has == wanted
