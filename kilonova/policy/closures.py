"""Closures: a parsed rule becomes nested functions, so that a check costs about a microsecond.

A closure takes the caller's attributes (`attributes_of` in rules.py; `roles` lower-cased) and the target, and says
whether the caller may. Nothing in here raises for what a target lacks: a missing attribute denies, as in oslo.policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kilonova.policy.language import (
    AttributeCheck,
    Check,
    Conjunction,
    Constant,
    Disjunction,
    FieldCheck,
    LiteralCheck,
    Negation,
    Place,
    RoleCheck,
    RuleReference,
    Template,
)

Attributes = Mapping[str, Any]
Closure = Callable[[Attributes, Attributes], bool]

_TRUE_WORDS = frozenset(("true", "1", "yes", "on", "t", "y"))


def compile_check(check: Check, resolve: Callable[[RuleReference], Closure]) -> Closure:
    """The closure of a tree; `resolve` gives the closure of a rule it refers to (and raises when there is none)."""
    if isinstance(check, Constant):
        return _constant(check.allow)
    if isinstance(check, RuleReference):
        return resolve(check)
    if isinstance(check, Negation):
        return _negation(compile_check(check.check, resolve))
    if isinstance(check, Conjunction):
        return _conjunction(tuple(compile_check(inner, resolve) for inner in check.checks))
    if isinstance(check, Disjunction):
        return _disjunction(tuple(compile_check(inner, resolve) for inner in check.checks))
    if isinstance(check, RoleCheck):
        return _role(check.wanted)
    if isinstance(check, LiteralCheck):
        return _literal(check.literal, check.wanted)
    if isinstance(check, FieldCheck):
        return _field(check)
    return _attribute(check)


def _constant(allow: bool) -> Closure:
    return lambda attributes, target: allow


def _negation(inner: Closure) -> Closure:
    return lambda attributes, target: not inner(attributes, target)


def _conjunction(checks: tuple[Closure, ...]) -> Closure:
    if len(checks) == 2:
        first, second = checks
        return lambda attributes, target: first(attributes, target) and second(attributes, target)

    def every(attributes: Attributes, target: Attributes) -> bool:
        for check in checks:  # noqa: SIM110  (a generator under all() costs three times the loop)
            if not check(attributes, target):
                return False
        return True

    return every


def _disjunction(checks: tuple[Closure, ...]) -> Closure:
    if len(checks) == 2:
        first, second = checks
        return lambda attributes, target: first(attributes, target) or second(attributes, target)

    def some(attributes: Attributes, target: Attributes) -> bool:
        for check in checks:  # noqa: SIM110
            if check(attributes, target):
                return True
        return False

    return some


def _role(wanted: Template) -> Closure:
    if wanted.constant is not None:
        name = wanted.constant.lower()
        return lambda attributes, target: name in attributes.get("roles", ())
    fill = _filler(wanted)

    def holds_named(attributes: Attributes, target: Attributes) -> bool:
        filled = fill(target)
        return filled is not None and filled.lower() in attributes.get("roles", ())

    return holds_named


def _literal(literal: str, wanted: Template) -> Closure:
    if wanted.constant is not None:
        return _constant(wanted.constant == literal)
    fill = _filler(wanted)
    return lambda attributes, target: fill(target) == literal


def _attribute(check: AttributeCheck) -> Closure:
    path, fixed = check.path, check.wanted.constant
    if fixed is not None:
        return lambda attributes, target: _holds(attributes, path, fixed, True)
    fill = _filler(check.wanted)
    if len(path) > 1:

        def owns_within(attributes: Attributes, target: Attributes) -> bool:
            filled = fill(target)
            return filled is not None and _holds(attributes, path, filled, False)

        return owns_within
    key = path[0]

    def owns(attributes: Attributes, target: Attributes) -> bool:
        held = attributes.get(key)
        if type(held) is str:  # nearly always: an id
            return held == fill(target)
        filled = fill(target)
        return filled is not None and _holds(attributes, path, filled, False)

    return owns


def _holds(value: Any, path: tuple[str, ...], wanted: str, none_counts: bool) -> bool:
    """Whether the value at `path`, or for lists any of the values, reads as `wanted`.

    None equals the written text `None` only. It never equals a target's None (as it would in oslo.policy): who
    has no project must not own what belongs to no project.
    """
    if not path:
        return (value is not None or none_counts) and str(value) == wanted
    if not isinstance(value, Mapping) or path[0] not in value:
        return False
    inner, rest = value[path[0]], path[1:]
    if isinstance(inner, list | tuple):
        return any(_holds(item, rest, wanted, none_counts) for item in inner)
    return _holds(inner, rest, wanted, none_counts)


def _field(check: FieldCheck) -> Closure:
    name, value = check.field, check.value
    if value.startswith("~"):
        pattern = re.compile(value[1:])
        return lambda attributes, target: target.get(name) is not None and bool(pattern.match(str(target[name])))
    truth = value.lower() in _TRUE_WORDS

    def has_value(attributes: Attributes, target: Attributes) -> bool:
        held = target.get(name)
        if isinstance(held, bool):
            return held is truth
        return held is not None and str(held) == value

    return has_value


def _filler(template: Template) -> Callable[[Attributes], str | None]:
    """A function that gives the template filled from a target, None when the target lacks an attribute."""
    if len(template.parts) == 1 and isinstance(template.parts[0], Place):
        return _reader(template.parts[0].name)
    pieces = tuple(_reader(part.name) if isinstance(part, Place) else _text(part) for part in template.parts)

    def fill(target: Attributes) -> str | None:
        filled = []
        for piece in pieces:
            text = piece(target)
            if text is None:
                return None
            filled.append(text)
        return "".join(filled)

    return fill


def _text(text: str) -> Callable[[Attributes], str | None]:
    return lambda target: text


def _reader(name: str) -> Callable[[Attributes], str | None]:
    """Reads one attribute as text: under its whole name first, then along its dots."""
    path = name.split(".")

    def read(target: Attributes) -> str | None:
        value: Any
        try:
            value = target[name]
        except KeyError:
            value = target
            for step in path:
                if not isinstance(value, Mapping) or step not in value:
                    return None
                value = value[step]
        return str(value)

    return read
