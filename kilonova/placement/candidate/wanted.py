"""What a query asks of providers: `resources=`, `required=`, `in_tree=`."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.placement.words import BAD_QUERY_VALUE, MAXIMUM, MISSING_QUERY_VALUE, once, uuid_of


class Wanted(msgspec.Struct, frozen=True):
    """Amounts by resource class; groups of traits of which each needs one; traits that must not be there."""

    resources: dict[str, int] = {}
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()  # groups of aggregates, of which each must have the provider in one
    not_member_of: frozenset[str] = frozenset()
    in_tree: str = ""

    @property
    def traits(self) -> frozenset[str]:
        """All traits named."""
        return self.forbidden.union(*self.required)


def wanted_from(request: Request[Any]) -> Wanted:
    """What the request's query asks for; malformed values are 400 with the parameter's name."""
    required, forbidden = _traits(request)
    member_of, not_member_of = _aggregates(request)
    tree = once(request, "in_tree")
    resources = once(request, "resources")
    return Wanted(
        {} if resources is None else _resources(resources),
        required,
        forbidden,
        member_of,
        not_member_of,
        "" if tree is None else uuid_of(tree, "query parameter in_tree"),
    )


def _resources(text: str) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for part in text.split(","):
        name, _, amount = part.partition(":")
        whole = amount.isascii() and amount.isdigit() and len(amount) <= 10
        if not name or not whole or not 1 <= int(amount) <= MAXIMUM or name in amounts:
            raise invalid(
                f"Malformed resources parameter at {part[:60]!r}.",
                hint="Expected a list of the form VCPU:1,MEMORY_MB:512, each class once.",
                code=BAD_QUERY_VALUE,
            )
        amounts[name] = int(amount)
    return amounts


def _traits(request: Request[Any]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    values = request.query.all("required")
    if len(values) > 1 and request.version < (1, 39):
        once(request, "required")
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if value.startswith("in:") and request.version >= (1, 39):
            names = value.removeprefix("in:").split(",")
            _check(names, value)
            required.append(frozenset(names))
            continue
        names = value.split(",")
        _check([name.removeprefix("!") for name in names], value)
        if request.version < (1, 22):
            required += [frozenset([name]) for name in names]
            continue
        required += [frozenset([name]) for name in names if not name.startswith("!")]
        forbidden |= {name[1:] for name in names if name.startswith("!")}
    if clash := {name for group in required if len(group) == 1 for name in group} & forbidden:
        raise invalid(
            f"Traits {', '.join(sorted(clash))} are both required and forbidden.", hint="Choose one for each."
        )
    return tuple(required), frozenset(forbidden)


def _aggregates(request: Request[Any]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """`member_of=ID`, `in:ID,ID`; repeated from 1.24 on; `!ID`, `!in:ID,ID` from 1.32 on."""
    values = request.query.all("member_of")
    if len(values) > 1 and request.version < (1, 24):
        once(request, "member_of")
    member_of: list[frozenset[str]] = []
    not_member_of: frozenset[str] = frozenset()
    for value in values:
        forbidden = value.startswith("!") and request.version >= (1, 32)
        listed = value.removeprefix("!") if forbidden else value
        names = listed.removeprefix("in:").split(",") if listed.startswith("in:") else [listed]
        group = frozenset(uuid_of(name, "query parameter member_of") for name in names)
        if forbidden:
            not_member_of |= group
        else:
            member_of.append(group)
    return tuple(member_of), not_member_of


def _check(names: list[str], value: str) -> None:
    if not all(names) or any(name.startswith(("!", "in:")) for name in names):
        code = BAD_QUERY_VALUE if value else MISSING_QUERY_VALUE
        raise invalid(
            f"Invalid query parameter required: {value[:100]!r}.",
            hint="Expected traits, each but once: HW_CPU_X86_VMX,!CUSTOM_SLOW; from 1.39 also in:A,B.",
            code=code,
        )
