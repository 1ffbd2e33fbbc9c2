"""Entries of a directory as users and groups: which attribute is what, who is enabled, who is a member. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import ldap.dn
import ldap.filter
import msgspec

from kilonova.identity.ldap.options import LdapOptions

Attributes = Mapping[str, list[bytes]]
Entry = tuple[str, Attributes]  # distinguished name, attributes
NAME_CHARACTERS = 255
_NESTED = ":1.2.840.113556.1.4.1941:"  # Active Directory: members of members too


class Person(msgspec.Struct):
    """A user of the directory. `dn_key`: its distinguished name, as such names are compared."""

    local_id: str
    name: str
    dn: str
    dn_key: str
    enabled: bool = True
    default_project_id: str | None = None
    extra: dict[str, str] = {}


class Team(msgspec.Struct):
    """A group of the directory. `members` are distinguished names as they are compared, or ids."""

    local_id: str
    name: str
    description: str = ""
    members: list[str] = []


def dn_key(dn: str) -> str:
    """The form in which distinguished names are compared: without case, and without spaces that say nothing."""
    try:
        parts = ldap.dn.str2dn(dn)
    except ldap.DECODING_ERROR:
        return dn.strip().casefold()
    return ",".join(
        "+".join(sorted(f"{kind.lower()}={ldap.dn.escape_dn_chars(' '.join(value.split()).casefold())}"
                        for kind, value, _ in together))
        for together in parts
    )  # fmt: skip


def _text(attributes: Attributes, name: str | None) -> str:
    """The first value of an attribute; names of attributes have no case. "" for none, and for what is no text."""
    for value in _all(attributes, name):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return ""
    return ""


def _all(attributes: Attributes, name: str | None) -> list[bytes]:
    wanted = (name or "").lower()
    return next((values for kind, values in attributes.items() if kind.lower() == wanted), [])


def _id_of(dn: str, attributes: Attributes, name: str) -> str:
    """The value that identifies an entry; of several, the one that its distinguished name has."""
    if len(_all(attributes, name)) > 1:
        for kind, value, _ in ldap.dn.str2dn(dn)[0]:
            if kind.lower() == name.lower():
                return str(value)
    return _text(attributes, name)


class Reader:
    """Reads entries by the options of one directory, and writes the filters that find them."""

    def __init__(self, options: LdapOptions) -> None:
        self._options = options
        self._ignored = frozenset(options.user_attribute_ignore)
        pairs = [pair.partition(":") for pair in options.user_additional_attribute_mapping if ":" in pair]
        self._more = {ours: theirs for theirs, _, ours in pairs}

    @property
    def user_attributes(self) -> list[str]:
        """What to ask for of users: nothing else leaves the directory."""
        options = self._options
        wanted = (
            options.user_id_attribute,
            options.user_name_attribute,
            self._unless("description", options.user_description_attribute),
            self._unless("email", options.user_mail_attribute),
            self._unless("enabled", options.user_enabled_attribute),
            self._unless("default_project_id", options.user_default_project_id_attribute),
            *self._more.values(),
        )
        return [name for name in dict.fromkeys(wanted) if name]

    @property
    def group_attributes(self) -> list[str]:
        """What to ask for of groups."""
        options = self._options
        described = None if "description" in options.group_attribute_ignore else options.group_desc_attribute
        named = (options.group_id_attribute, options.group_name_attribute, options.group_member_attribute, described)
        return [name for name in dict.fromkeys(named) if name]

    def _unless(self, ours: str, theirs: str | None) -> str | None:
        return None if ours in self._ignored or (ours == "email" and "mail" in self._ignored) else theirs

    def person(self, entry: Entry, enabled: frozenset[str] | None = None) -> Person | None:
        """The user that an entry is; None when it has no id or name that can be one. `enabled`: who is, where a
        group says so."""
        (dn, attributes), options = entry, self._options
        local_id, name = (
            _id_of(dn, attributes, options.user_id_attribute),
            _text(attributes, options.user_name_attribute),
        )
        if not _fits(local_id) or not _fits(name):
            return None
        key = dn_key(dn)
        extra = {ours: _text(attributes, theirs) for ours, theirs in self._more.items()}
        extra["email"] = _text(attributes, self._unless("email", options.user_mail_attribute))
        extra["description"] = _text(attributes, self._unless("description", options.user_description_attribute))
        project = self._unless("default_project_id", options.user_default_project_id_attribute)
        return Person(
            local_id,
            name,
            dn,
            key,
            key in enabled if enabled is not None else self._is_enabled(attributes),
            _text(attributes, project) or None,
            {ours: value for ours, value in sorted(extra.items()) if value},
        )

    def _is_enabled(self, attributes: Attributes) -> bool:
        options = self._options
        name = self._unless("enabled", options.user_enabled_attribute)
        said = (_text(attributes, name) if name else "") or options.user_enabled_default
        if options.user_enabled_mask:
            value = int(said) if said.strip().lstrip("-").isdigit() else 0
            return value & options.user_enabled_mask != options.user_enabled_mask
        return (said.strip().lower() in ("true", "yes", "1", "on")) is not options.user_enabled_invert

    def team(self, entry: Entry) -> Team | None:
        """The group that an entry is; None when it has no id or name that can be one."""
        (dn, attributes), options = entry, self._options
        local_id, name = (
            _id_of(dn, attributes, options.group_id_attribute),
            _text(attributes, options.group_name_attribute),
        )
        if not _fits(local_id) or not _fits(name):
            return None
        described = None if "description" in options.group_attribute_ignore else options.group_desc_attribute
        return Team(local_id, name, _text(attributes, described), self.members(attributes))

    def members(self, attributes: Attributes, name: str = "") -> list[str]:
        """Who is in a group: distinguished names as they are compared, or ids."""
        found = []
        for value in _all(attributes, name or self._options.group_member_attribute):
            text = value.decode(errors="replace")
            found.append(text if self._options.group_members_are_ids and not name else dn_key(text))
        return found

    def users_filter(self, attribute: str = "", value: str = "") -> str:
        """Finds users: all, or those with a value of an attribute."""
        return _filter(self._options.user_objectclass, self._options.user_filter, attribute, value)

    def groups_filter(self, attribute: str = "", value: str = "") -> str:
        """Finds groups: all, or those with a value of an attribute."""
        return _filter(self._options.group_objectclass, self._options.group_filter, attribute, value)

    def groups_of_filter(self, person: Person) -> str:
        """Finds the groups that a user is in."""
        options = self._options
        nested = _NESTED if options.group_ad_nesting else ""
        value = person.local_id if options.group_members_are_ids else person.dn
        return self.groups_filter(options.group_member_attribute + nested, value)


def _fits(text: str) -> bool:
    """Whether a text can be a name or id here."""
    return bool(text.strip()) and len(text) <= NAME_CHARACTERS and text.isprintable()


def _filter(objectclass: str, more: str | None, attribute: str, value: str) -> str:
    """Whatever stands in `value` is a value: none of it is taken for a part of the filter (RFC 4515)."""
    parts = [f"(objectClass={ldap.filter.escape_filter_chars(objectclass)})"]
    if more:
        parts.append(more if more.startswith("(") else f"({more})")
    if attribute:
        parts.append(f"({attribute}={ldap.filter.escape_filter_chars(value)})")
    return f"(&{''.join(parts)})"
