"""Entries of directories as users and groups: filters, names, who is enabled."""

from __future__ import annotations

import ldap.filter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.base.faults import Fault
from kilonova.identity.ldap.entries import Person, Reader, dn_key
from kilonova.identity.ldap.options import LdapOptions, read_options


@given(st.text(max_size=40))
def test_no_value_is_a_part_of_a_filter(value: str) -> None:
    made = Reader(LdapOptions()).users_filter("cn", value)
    inside = made.removeprefix("(&(objectClass=inetOrgPerson)(cn=").removesuffix("))")
    assert not set(inside) & set("()*\0")
    assert inside == ldap.filter.escape_filter_chars(value)


@pytest.mark.parametrize("more", ["(memberOf=cn=x)", "memberOf=cn=x"])
def test_the_filter_of_the_operator_is_one_part_of_all(more: str) -> None:
    reader = Reader(LdapOptions(user_filter=more))
    assert reader.users_filter() == "(&(objectClass=inetOrgPerson)(memberOf=cn=x))"
    nested = Reader(LdapOptions(group_ad_nesting=True))
    wanted = "(&(objectClass=groupOfNames)(member:1.2.840.113556.1.4.1941:=cn=a\\2ab,dc=c))"
    assert nested.groups_of_filter(Person("a", "a", "cn=a*b,dc=c", "")) == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("uid=a,dc=b", "UID=A, DC=b"),
        ("cn=a\\2Cb,dc=c", "cn=a\\,b,dc=c"),
        ("cn=x+uid=y,dc=c", "uid=Y+CN=X,dc=c"),
        ("cn=two  words,dc=c", "cn=two words,dc=c"),
        ("cn=Jürgen,dc=c", "cn=J\\C3\\BCrgen,dc=c"),
    ],
)
def test_the_same_name_written_in_two_ways(one: str, other: str) -> None:
    assert dn_key(one) == dn_key(other)


def test_other_names_stay_others() -> None:
    names = ["cn=a,dc=b", "cn=a\\,dc=b,dc=c", "cn=a,dc=b,dc=c", "cn=a\\+uid=b,dc=c", "cn=a+uid=b,dc=c", "nonsense", ""]
    assert len({dn_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("options", "said", "enabled"),
    [
        ({}, None, True),
        ({}, "FALSE", False),
        ({}, "true", True),
        ({"user_enabled_default": False}, None, False),
        ({"user_enabled_invert": True, "user_enabled_default": False}, None, True),
        ({"user_enabled_invert": True}, "TRUE", False),
        ({"user_enabled_mask": 2, "user_enabled_default": 512}, None, True),
        ({"user_enabled_mask": 2}, "514", False),
        ({"user_enabled_mask": 2}, "66048", True),
        ({"user_attribute_ignore": ["enabled"]}, "FALSE", True),
    ],
)
def test_who_is_enabled(options: dict[str, object], said: str | None, enabled: bool) -> None:
    attributes = {"CN": [b"a"], "sn": [b"A"]} | ({"enabled": [said.encode()]} if said else {})
    found = Reader(read_options(options)).person(("cn=a,dc=b", attributes))
    assert found is not None and found.enabled is enabled


@pytest.mark.parametrize("name", [b"", b"  ", b"\xff\xfe", b"x" * 256, b"line\nbreak"])
def test_what_is_no_name_is_nobody(name: bytes) -> None:
    assert Reader(LdapOptions()).person(("cn=a,dc=b", {"cn": [b"a"], "sn": [name]})) is None


def test_of_several_ids_that_of_the_name_counts() -> None:
    found = Reader(LdapOptions()).person(("cn=second,dc=b", {"cn": [b"first", b"second"], "sn": [b"A"]}))
    assert found is not None and found.local_id == "second"


def test_texts_stand_for_what_they_say_and_refusals_do_not_repeat_secrets() -> None:
    options = read_options({"use_tls": "true", "page_size": "50", "user_attribute_ignore": "mail, enabled"})
    assert options.use_tls and options.page_size == 50 and options.user_attribute_ignore == ("mail", "enabled")
    with pytest.raises(Fault) as caught:
        read_options({"password": ["canary-4711"]})
    assert "canary" not in repr(caught.value) and "password" in caught.value.message


@pytest.mark.parametrize(
    ("options", "private"),
    [
        ({"url": "ldap://127.0.0.1"}, True),
        ({"url": "ldap://there"}, False),
        ({"url": "ldaps://there,ldap://elsewhere"}, False),
        ({"url": "ldaps://there ldaps://elsewhere"}, True),
        ({"url": "ldap://there", "use_tls": True}, True),
        ({"url": "ldapi://%2Frun%2Fslapd"}, True),
    ],
)
def test_what_others_can_hear(options: dict[str, object], private: bool) -> None:
    assert read_options(options).is_private is private
