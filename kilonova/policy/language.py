"""The policy language: check strings as operators have written them for a decade, parsed into small trees.

The grammar is oslo.policy's: `role:member and (project_id:%(project_id)s or "public":%(visibility)s)`, with `@` (all),
`!` (nobody), the older list of lists, and the network service's `field:networks:shared=True`. Where oslo.policy logs a
broken rule and denies, `parse` raises `RuleError`, so that a typing error is found at load and not by a user.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

DEEPEST_NESTING = 100

_WORD = re.compile(r"\S+")
_PLACE = re.compile(r"%(?:\((?P<name>[^)]+)\)s|(?P<percent>%))")


class RuleError(ValueError):
    """A check string that cannot be read: `position` is its column, from 1; `expected` says what belongs there."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        super().__init__(f"column {position} of {text!r}: {expected}")
        self.text = text
        self.position = position
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Template:
    """What a check compares with: fixed text (`str`) and target attributes (`Place`), in order."""

    parts: tuple[str | Place, ...]

    @property
    def constant(self) -> str | None:
        """The text when nothing of the target goes into it, else None."""
        fixed = [part for part in self.parts if isinstance(part, str)]
        return "".join(fixed) if len(fixed) == len(self.parts) else None


@dataclass(frozen=True, slots=True)
class Place:
    """`%(name)s`: the target's attribute of that name, dotted names also reach into nested mappings."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """`@` or `!`."""

    allow: bool


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """`role:member`."""

    wanted: Template


@dataclass(frozen=True, slots=True)
class RuleReference:
    """`rule:name`; the column is kept for the error when there is no such rule."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class AttributeCheck:
    """`project_id:%(project_id)s`: the caller's attribute, a path, against the template."""

    path: tuple[str, ...]
    wanted: Template


@dataclass(frozen=True, slots=True)
class LiteralCheck:
    """`"public":%(visibility)s`: a literal against the template."""

    literal: str
    wanted: Template


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """`field:networks:shared=True`: the target's own field, or `=~pattern`."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Negation:
    """`not check`."""

    check: Check


@dataclass(frozen=True, slots=True)
class Conjunction:
    """Checks joined by `and`."""

    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """Checks joined by `or`."""

    checks: tuple[Check, ...]


Check = (
    Constant
    | RoleCheck
    | RuleReference
    | AttributeCheck
    | LiteralCheck
    | FieldCheck
    | Negation
    | Conjunction
    | Disjunction
)

ALLOW = Constant(True)
DENY = Constant(False)


def parse(source: Any) -> Check:
    """The tree of a check string, of the older list of lists, or of None (nobody). An empty string or list allows all.

    None denies here although oslo.policy allows it: a key whose value was forgotten must not open an API.
    """
    if source is None:
        return DENY
    if isinstance(source, str):
        return _Reader(source).read() if source else ALLOW
    if isinstance(source, Sequence):
        return _parse_lists(source)
    raise RuleError(str(source), 1, f"expected a check string or a list, found {type(source).__name__}")


def references(check: Check) -> Iterator[RuleReference]:
    """Every `rule:` in the tree, in order."""
    if isinstance(check, RuleReference):
        yield check
    elif isinstance(check, Negation):
        yield from references(check.check)
    elif isinstance(check, Conjunction | Disjunction):
        for inner in check.checks:
            yield from references(inner)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "(", ")", "and", "or", "not", "check"
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    """Words split at white space; parentheses count only at a word's ends, since `%(name)s` has its own."""
    found = []
    for word in _WORD.finditer(text):
        start, body = word.start() + 1, word.group()
        while body.startswith("("):
            found.append(_Token("(", "(", start))
            start, body = start + 1, body[1:]
        bare = body.rstrip(")")
        if bare:
            lowered = bare.lower()
            found.append(_Token(lowered if lowered in ("and", "or", "not") else "check", bare, start))
        for offset in range(len(bare), len(body)):
            found.append(_Token(")", ")", start + offset))
    return found


class _Reader:
    """Recursive descent: or < and < not < check."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def read(self) -> Check:
        tree = self._either()
        if self._kind():
            raise self._error("expected 'and', 'or' or the end")
        return tree

    def _kind(self) -> str:
        return self._tokens[self._next].kind if self._next < len(self._tokens) else ""

    def _error(self, expected: str) -> RuleError:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            return RuleError(self._text, token.position, f"{expected}, found {token.text!r}")
        return RuleError(self._text, len(self._text) + 1, f"{expected}, found the end")

    def _either(self) -> Check:
        checks = [self._both()]
        while self._kind() == "or":
            self._next += 1
            checks.append(self._both())
        return checks[0] if len(checks) == 1 else Disjunction(tuple(checks))

    def _both(self) -> Check:
        checks = [self._one()]
        while self._kind() == "and":
            self._next += 1
            checks.append(self._one())
        return checks[0] if len(checks) == 1 else Conjunction(tuple(checks))

    def _one(self) -> Check:
        kind = self._kind()
        if kind == "check":
            token = self._tokens[self._next]
            tree = _parse_check(self._text, token.text, token.position)
            self._next += 1
            return tree
        if kind not in ("not", "("):
            raise self._error("expected a check such as role:member, 'not' or '('")
        if self._depth >= DEEPEST_NESTING:
            raise self._error(f"nested deeper than {DEEPEST_NESTING} levels")
        self._next += 1
        self._depth += 1
        tree = Negation(self._one()) if kind == "not" else self._group()
        self._depth -= 1
        return tree

    def _group(self) -> Check:
        tree = self._either()
        if self._kind() != ")":
            raise self._error("expected 'and', 'or' or ')'")
        self._next += 1
        return tree


def _parse_check(text: str, word: str, position: int) -> Check:
    """One check: `@`, `!` or `kind:match`."""
    if word in ("@", "!"):
        return ALLOW if word == "@" else DENY
    kind, colon, match = word.partition(":")
    if not colon:
        raise RuleError(text, position, f"expected kind:value, '@' or '!', found {word!r}")
    if not kind or not match:
        raise RuleError(text, position, f"expected a name before and a value after ':', found {word!r}")
    if kind in ("http", "https"):
        raise RuleError(text, position, f"{kind}: checks, which ask another server, are not supported")
    if kind == "rule":
        return RuleReference(match, position)
    if kind == "field":
        return _parse_field(text, match, position)
    wanted = _parse_template(text, match, position + len(kind) + 1)
    if kind == "role":
        return RoleCheck(wanted)
    try:
        return LiteralCheck(str(ast.literal_eval(kind)), wanted)
    except ValueError:
        return AttributeCheck(tuple(kind.split(".")), wanted)
    except SyntaxError:
        raise RuleError(text, position, f"expected a caller's attribute or a quoted literal, found {kind!r}") from None


def _parse_field(text: str, match: str, position: int) -> FieldCheck:
    """`resource:field=value`; the resource is for the reader, the rule is used on that resource only."""
    _, colon, condition = match.partition(":")
    field, equals, value = condition.partition("=")
    if not (colon and equals and field):
        raise RuleError(text, position, f"expected field:resource:name=value, found {'field:' + match!r}")
    if value.startswith("~"):
        try:
            re.compile(value[1:])
        except re.error as error:
            raise RuleError(text, position, f"the pattern {value[1:]!r} is broken: {error}") from None
    return FieldCheck(field, value)


def _parse_template(text: str, match: str, position: int) -> Template:
    parts: list[str | Place] = []
    end = 0
    for place in [*_PLACE.finditer(match), None]:
        fixed = match[end : place.start() if place else None]
        if "%" in fixed:  # one that is no place, such as %s or %(name
            offset = end + fixed.index("%")
            raise RuleError(text, position + offset, f"expected %(attribute)s, found {match[offset:]!r}")
        if fixed:
            parts.append(fixed)
        if place:
            parts.append("%" if place["percent"] else Place(place["name"]))
            end = place.end()
    return Template(tuple(parts))


def _parse_lists(source: Sequence[Any]) -> Check:
    """The older form: the outer list is joined by `or`, the inner lists by `and`; `[]` allows all, `[[]]` nobody."""
    if not source:
        return ALLOW
    alternatives: list[Check] = []
    for inner in source:
        words = [inner] if isinstance(inner, str) else inner
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise RuleError(str(source), 1, f"expected a list of check strings, found {inner!r}")
        checks = tuple(_parse_check(word, word, 1) for word in words if word)
        if checks:
            alternatives.append(checks[0] if len(checks) == 1 else Conjunction(checks))
    if not alternatives:
        return DENY
    return alternatives[0] if len(alternatives) == 1 else Disjunction(tuple(alternatives))
