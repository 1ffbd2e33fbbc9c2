"""Bodies and queries: typed structs, strict, with fields that exist only at some microversions.

A field says when it exists: `tags: Annotated[list[str], since("2.52")] = []`. A key that the asked version does not
know is refused as unknown, exactly as if it had never been written.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from kilonova.base.faults import Fault, invalid
from kilonova.http.versions import Version, within

T = TypeVar("T")


class _Span(msgspec.Struct, frozen=True):
    since: str = ""
    until: str = ""


def since(version: str, until: str = "") -> Any:
    """Metadata for `Annotated`: the field exists from `version` on (to `until`)."""
    return _Span(version, until)


def until(version: str) -> Any:
    """Metadata for `Annotated`: the field exists up to `version`."""
    return _Span("", version)


@functools.cache
def _spans(struct: type) -> tuple[tuple[str, _Span], ...]:
    """(encoded name, span) of the struct's fields that have one."""
    hints = get_type_hints(struct, include_extras=True)
    encoded = {f.name: f.encode_name for f in msgspec.structs.fields(struct)}
    return tuple(
        (encoded[name], meta)
        for name, hint in hints.items()
        if get_origin(hint) is Annotated and name in encoded
        for meta in get_args(hint)[1:]
        if isinstance(meta, _Span)
    )


_SUSPECT = re.compile(rb"\\u0000|\d{19}")
_INTEGER_BITS = 63


def decode_json(raw: bytes) -> Any:
    """The JSON value of a body. INVALID when malformed, with the position, and for what no database holds: the
    character NUL, and integers of more than 64 bits."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The request body is not valid JSON: {error}.", hint="Send a JSON object.") from None
    if _SUSPECT.search(raw):
        _check_storable(value)
    return value


def _check_storable(value: Any) -> None:
    """INVALID for what no database holds, anywhere in a JSON value."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += (*one.keys(), *one.values())
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str) and "\0" in one:
            raise invalid("The request body holds the character NUL, which no text may have.")
        elif isinstance(one, int) and one.bit_length() > _INTEGER_BITS:
            raise invalid(f"The request body holds an integer that is too large: {str(one)[:24]}….")


def convert(value: Any, struct: type[T], version: Version, where: str, *, strict: bool = True) -> T:
    """`value` as `struct` at `version`. Faults name the field: "Invalid input for field server.name: …"."""
    if isinstance(value, dict) and issubclass(struct, msgspec.Struct):
        for name, lifetime in _spans(struct):
            if name in value and not within(version, lifetime.since, lifetime.until):
                raise invalid(
                    f"Additional properties are not allowed ({name!r} was unexpected) in {where or 'body'}.",
                    hint=f"{name!r} exists {_when(lifetime)}.",
                )
    try:
        return msgspec.convert(value, struct, strict=strict)
    except msgspec.ValidationError as error:
        raise _explained(str(error), where) from None


def _when(lifetime: _Span) -> str:
    parts = []
    if lifetime.since:
        parts.append(f"from API version {lifetime.since}")
    if lifetime.until:
        parts.append(f"up to API version {lifetime.until}")
    return " ".join(parts)


def _explained(text: str, where: str) -> Fault:
    problem, _, path = text.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    field = ".".join(part for part in (where, path) if part) or "body"
    problem = problem.replace("`", "'").replace("Object ", "The object ")
    return invalid(f"Invalid input for field {field}: {problem}.", hint="See the API reference for its form.")
