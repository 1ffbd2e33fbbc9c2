"""Query strings as `Wanted` and `Asked`: `resources=`, `required=`, `member_of=`, `in_tree=`, suffixed or not."""

from __future__ import annotations

import re
from typing import Any, Final

from kilonova.base.faults import invalid
from kilonova.http.request import Request
from kilonova.http.versions import Version
from kilonova.placement.candidate.wanted import NESTED, Asked, Wanted
from kilonova.placement.words import BAD_QUERY_VALUE, MAXIMUM, MISSING_QUERY_VALUE, once, only, uuid_of

ANY_TRAIT: Final[Version] = (1, 39)
SAME_SUBTREE: Final[Version] = (1, 36)
_NUMBERED: Final[Version] = (1, 25)
_NAMED: Final[Version] = (1, 33)
_GROUPED: Final[tuple[tuple[str, Version], ...]] = (
    ("resources", (1, 10)),
    ("required", (1, 17)),
    ("member_of", (1, 21)),
    ("in_tree", (1, 31)),
)
_WHOLE: Final[tuple[tuple[str, Version], ...]] = (
    ("limit", (1, 16)),
    ("group_policy", (1, 25)),
    ("root_required", (1, 35)),
    ("same_subtree", SAME_SUBTREE),
)
_NUMBER: Final = "[1-9][0-9]*"
_NAME: Final = "[a-zA-Z0-9_-]{1,64}"


def wanted_from(request: Request[Any], suffix: str = "") -> Wanted:
    """What one group of the request's query asks for; malformed values are 400 with the parameter's name."""
    required, forbidden = _traits(request, "required" + suffix)
    member_of, not_member_of = _aggregates(request, "member_of" + suffix)
    tree = once(request, "in_tree" + suffix)
    resources = once(request, "resources" + suffix)
    return Wanted(
        {} if resources is None else _resources(resources, "resources" + suffix),
        required,
        forbidden,
        member_of,
        not_member_of,
        "" if tree is None else uuid_of(tree, "query parameter in_tree" + suffix),
    )


def asked_from(request: Request[Any]) -> Asked:
    """The whole search that the request's query asks for."""
    suffixes = _suffixes(request)
    groups = {suffix: wanted_from(request, suffix) for suffix in sorted(suffixes)}
    same_subtree = _same_subtree(request, suffixes)
    _check_resources(request, groups, frozenset().union(*same_subtree))
    if "" in groups and not groups[""].resources:
        del groups[""]
    limit = request.query.get("limit")  # of several the first counts
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) < 12 and int(limit) > 0):
        raise _bad("limit", limit, "Expected a positive whole number.")
    policy = request.query.get("group_policy")
    if policy not in (None, "none", "isolate"):
        raise _bad("group_policy", policy or "", "Expected none or isolate.")
    if policy is None and len([suffix for suffix in groups if suffix]) > 1:
        raise invalid(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.',
            code=MISSING_QUERY_VALUE,
        )
    roots, not_roots = _root_traits(request)
    return Asked(
        groups,
        policy == "isolate",
        same_subtree,
        roots,
        not_roots,
        None if limit is None else int(limit),
        request.version >= NESTED,
    )


def _suffixes(request: Request[Any]) -> set[str]:
    """The suffixes that were used; a parameter that is not known at this version is 400."""
    version = request.version
    grouped = [name for name, first in _GROUPED if version >= first]
    suffix = _NAME if version >= _NAMED else _NUMBER if version >= _NUMBERED else "(?!)"
    pattern = re.compile(f"(?:{'|'.join(grouped)})({suffix})?\\Z")
    found = {name: match[1] or "" for name in sorted(request.query.keys()) if (match := pattern.match(name))}
    only(request, *grouped, *found, *(name for name, first in _WHOLE if version >= first))
    return set(found.values())


def _check_resources(request: Request[Any], groups: dict[str, Wanted], subtrees: frozenset[str]) -> None:
    if not any(group.resources for group in groups.values()):
        raise invalid("There must be at least one resources or resources[$S] parameter.", code=MISSING_QUERY_VALUE)
    if not (empty := [suffix for suffix, group in groups.items() if not group.resources]):
        return
    if "" in empty or request.version < SAME_SUBTREE:
        raise invalid("All request groups must specify resources.", code=BAD_QUERY_VALUE)
    if alone := sorted(set(empty) - subtrees):
        raise invalid(
            "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - "
            f"{', '.join(alone)}.",
            code=BAD_QUERY_VALUE,
        )


def _same_subtree(request: Request[Any], suffixes: set[str]) -> tuple[frozenset[str], ...]:
    made = []
    for value in request.query.all("same_subtree"):
        named = frozenset(value.strip().split(","))
        if "" in named:
            raise invalid(
                "Empty string (unsuffixed group) can not be specified in `same_subtree`.", code=BAD_QUERY_VALUE
            )
        if strange := sorted(named - suffixes):
            raise invalid(
                f"Real suffixes should be specified in `same_subtree`: {', '.join(strange)[:200]} not found in "
                f"{', '.join(sorted(suffixes - {''}))}.",
                code=BAD_QUERY_VALUE,
            )
        made.append(named)
    return tuple(made)


def _root_traits(request: Request[Any]) -> tuple[frozenset[str], frozenset[str]]:
    value = once(request, "root_required")
    if value is None:
        return frozenset(), frozenset()
    names = value.split(",")
    _check([name.removeprefix("!") for name in names], value, "root_required")
    required = frozenset(name for name in names if not name.startswith("!"))
    forbidden = frozenset(name[1:] for name in names if name.startswith("!"))
    _refuse_clash([frozenset([name]) for name in required], forbidden, "root_required")
    return required, forbidden


def _resources(text: str, parameter: str) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for part in text.strip().split(","):
        name, _, amount = part.partition(":")
        whole = amount.isascii() and amount.isdigit() and len(amount) <= 10
        if not name or not whole or not 1 <= int(amount) <= MAXIMUM or name in amounts:
            raise _bad(parameter, part, "Expected a list of the form VCPU:1,MEMORY_MB:512, each class once.")
        amounts[name] = int(amount)
    return amounts


def _traits(request: Request[Any], parameter: str) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    values = request.query.all(parameter)
    if request.version < ANY_TRAIT:
        values = values[-1:]  # of several the last counts
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in map(str.strip, values):
        if value.startswith("in:") and request.version >= ANY_TRAIT:
            names = value.removeprefix("in:").split(",")
            _check(names, value, parameter)
            required.append(frozenset(names))
            continue
        names = value.split(",")
        if request.version < (1, 22):
            _check(names, value, parameter)
        _check([name.removeprefix("!") for name in names], value, parameter)
        required += [frozenset([name]) for name in names if not name.startswith("!")]
        forbidden |= {name[1:] for name in names if name.startswith("!")}
    _refuse_clash(required, frozenset(forbidden), parameter)
    return tuple(required), frozenset(forbidden)


def _refuse_clash(required: list[frozenset[str]], forbidden: frozenset[str], parameter: str) -> None:
    if clash := {name for group in required if group <= forbidden for name in group}:
        raise invalid(
            f"Conflicting required and forbidden traits found in the following traits keys: {parameter}: "
            f"({', '.join(sorted(clash))}).",
            hint="Choose one for each.",
            code=BAD_QUERY_VALUE,
        )


def _aggregates(request: Request[Any], parameter: str) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """`member_of=ID`, `in:ID,ID`; repeated from 1.24 on; `!ID`, `!in:ID,ID` from 1.32 on."""
    values = request.query.all(parameter)
    if len(values) > 1 and request.version < (1, 24):
        once(request, parameter)
    member_of: list[frozenset[str]] = []
    not_member_of: frozenset[str] = frozenset()
    for value in values:
        forbidden = value.startswith("!") and request.version >= (1, 32)
        listed = value.removeprefix("!") if forbidden else value
        names = listed.removeprefix("in:").split(",") if listed.startswith("in:") else [listed]
        group = frozenset(uuid_of(name.strip(), f"query parameter {parameter}") for name in names)
        if forbidden:
            not_member_of |= group
        else:
            member_of.append(group)
    return tuple(member_of), not_member_of


def _check(names: list[str], value: str, parameter: str) -> None:
    if not all(names) or any(name.startswith(("!", "in:")) for name in names):
        raise _bad(parameter, value, "Expected traits: HW_CPU_X86_VMX,!CUSTOM_SLOW; from 1.39 also in:A,B.")


def _bad(parameter: str, value: str, hint: str) -> Exception:
    return invalid(f"Invalid query parameter {parameter}: {value[:100]!r}.", hint=hint, code=BAD_QUERY_VALUE)
