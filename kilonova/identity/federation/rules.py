"""Mappings: rules that turn what a provider says of somebody (claims) into a user, groups and projects here.

A rule applies when all of its `remote` requirements hold. Those that only name a claim, or filter its values, are what
`{0}`, `{1}`, … in `local` stand for, in order. Nothing is granted that no rule names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.base.faults import invalid
from kilonova.identity.token.bodies import DomainName

Claims = Mapping[str, list[str]]
RULES_MAXIMUM = 256
_PLACE = re.compile(r"\{(\d{1,3})\}")
_PREFIXES = ("HTTP_OIDC_CLAIM_", "OIDC_CLAIM_", "HTTP_OIDC_", "OIDC_", "OIDC-")  # as Apache's module hands claims on


class Remote(msgspec.Struct, forbid_unknown_fields=True):
    """What a claim must be; without conditions it must only be there."""

    type: str
    any_one_of: list[str] | None = None
    not_any_of: list[str] | None = None
    whitelist: list[str] | None = None
    blacklist: list[str] | None = None
    regex: bool = False


class LocalUser(msgspec.Struct, forbid_unknown_fields=True):
    """Who it is here: a user of the provider's own (`ephemeral`), or one that is here already (`local`)."""

    name: str = ""
    id: str = ""
    email: str = ""
    domain: DomainName | None = None
    type: str = "ephemeral"


class LocalGroup(msgspec.Struct, forbid_unknown_fields=True):
    """A group by id, or by name and domain."""

    id: str = ""
    name: str = ""
    domain: DomainName | None = None


class RoleToGive(msgspec.Struct, forbid_unknown_fields=True):
    """A role by name."""

    name: str


class LocalProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project of the provider's domain, made when it is not there, with roles for the user."""

    name: str
    roles: list[RoleToGive]


class Local(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody is here. `groups` and `group_ids` may stand for many: `{0}`."""

    user: LocalUser | None = None
    group: LocalGroup | None = None
    groups: str = ""
    group_ids: str = ""
    domain: DomainName | None = None
    projects: list[LocalProject] = []


class MappingRule(msgspec.Struct, forbid_unknown_fields=True):
    """Who fits `remote` is `local`, which may be nothing."""

    local: list[Local]
    remote: list[Remote]


class Mapped(msgspec.Struct):
    """What the rules made of somebody."""

    user: LocalUser | None = None
    groups: list[LocalGroup] = []
    projects: list[LocalProject] = []


def checked_rules(raw: list[Any]) -> list[MappingRule]:
    """The rules when they are such; INVALID otherwise."""
    if not 0 < len(raw) <= RULES_MAXIMUM:
        raise invalid(f"Invalid input for field mapping.rules: 1 to {RULES_MAXIMUM} are possible.")
    try:
        rules = msgspec.convert(raw, list[MappingRule])
    except msgspec.ValidationError as error:
        raise invalid(f"Invalid input for field mapping.rules: {error}.") from None
    for rule in rules:
        if not rule.remote:
            raise invalid("Invalid input for field mapping.rules: each has one or more of remote.")
        for one in rule.remote:
            _check(one)
        for local in rule.local:
            if local.user and local.user.type not in ("ephemeral", "local"):
                raise invalid("Invalid input for field mapping.rules: the type of a user is ephemeral or local.")
            if local.groups and not local.domain:
                raise invalid("Invalid input for field mapping.rules: groups need the domain that they are in.")
    return rules


def _check(remote: Remote) -> None:
    conditions = (remote.any_one_of, remote.not_any_of, remote.whitelist, remote.blacklist)
    given = [one for one in conditions if one is not None]
    if len(given) > 1:
        raise invalid("Invalid input for field mapping.rules: a requirement has one condition.")
    if remote.regex:
        for pattern in given[0] if given else []:
            try:
                re.compile(pattern)
            except re.error:
                raise invalid(
                    f"Invalid input for field mapping.rules: {pattern[:60]!r} is no regular expression."
                ) from None


def apply(rules: list[MappingRule], claims: Claims) -> Mapped:
    """What all rules that fit say together; the first user counts."""
    mapped = Mapped()
    for rule in rules:
        found = _fit(rule.remote, claims)
        if found is None:
            continue
        for local in rule.local:
            if local.user is not None and mapped.user is None:
                mapped.user = _user(local.user, found)
            mapped.groups += _groups(local, found)
            mapped.projects += [_filled_project(one, found) for one in local.projects]
    return mapped


def _fit(remote: list[Remote], claims: Claims) -> list[list[str]] | None:
    """The values that `{0}`, `{1}`, … stand for; None when a requirement does not hold."""
    places: list[list[str]] = []
    for one in remote:
        values = _values(one.type, claims)
        if not values:
            return None
        if one.any_one_of is not None:
            if not _chosen(values, one.any_one_of, one.regex):
                return None
        elif one.not_any_of is not None:
            if _chosen(values, one.not_any_of, one.regex):
                return None
        elif one.whitelist is not None:
            places.append(_chosen(values, one.whitelist, one.regex))
        elif one.blacklist is not None:
            refused = _chosen(values, one.blacklist, one.regex)
            places.append([value for value in values if value not in refused])
        else:
            places.append(values)
    return places


def _values(type_: str, claims: Claims) -> list[str]:
    if type_ in claims:
        return claims[type_]
    for prefix in _PREFIXES:
        if type_.startswith(prefix):
            name = type_.removeprefix(prefix)
            return claims.get(name) or claims.get(name.lower()) or []
    return []


def _chosen(values: list[str], patterns: list[str], regex: bool) -> list[str]:
    if not regex:
        return [value for value in values if value in patterns]
    return [value for value in values if any(re.search(pattern, value) for pattern in patterns)]


def _filled(thing: Any, places: list[list[str]]) -> Any:
    """A copy of a struct with the places in its texts filled, each by one value."""
    changed: dict[str, Any] = {}
    for field in thing.__struct_fields__:
        value = getattr(thing, field)
        if isinstance(value, str):
            changed[field] = _text(value, places)
        elif isinstance(value, DomainName):
            changed[field] = _filled(value, places)
    return msgspec.structs.replace(thing, **changed)


def _user(wanted: LocalUser, places: list[list[str]]) -> LocalUser | None:
    """None when a claim that shall be its name or id is not one text: the other must not stand in for it."""
    filled: LocalUser = _filled(wanted, places)
    whole = bool(filled.name) == bool(wanted.name) and bool(filled.id) == bool(wanted.id)
    return filled if whole else None


def _filled_project(one: LocalProject, places: list[list[str]]) -> LocalProject:
    return LocalProject(_text(one.name, places), [_filled(role, places) for role in one.roles])


def _text(text: str, places: list[list[str]]) -> str:
    """ "" when a place has no value, or several: they cannot be one name."""
    numbers = [int(number) for number in _PLACE.findall(text)]
    if any(number >= len(places) or len(places[number]) != 1 for number in numbers):
        return ""
    return _PLACE.sub(lambda found: places[int(found[1])][0], text)


def _many(text: str, places: list[list[str]]) -> list[str]:
    """All values of a text that is one place; else the one text."""
    alone = _PLACE.fullmatch(text.strip())
    if alone is None:
        return [filled] if (filled := _text(text, places)) else []
    return places[int(alone[1])] if int(alone[1]) < len(places) else []


def _groups(local: Local, places: list[list[str]]) -> list[LocalGroup]:
    found = [LocalGroup(id=id_) for id_ in _many(local.group_ids, places)] if local.group_ids else []
    if local.groups and local.domain:
        domain = _filled(local.domain, places)
        found += [LocalGroup(name=name, domain=domain) for name in _many(local.groups, places)]
    if local.group is not None:
        found.append(_filled(local.group, places))
    return found
