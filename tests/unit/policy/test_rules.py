"""Policies: overrides, scopes, references, deprecated names, and the refusal a user reads."""

from __future__ import annotations

import pytest

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind
from kilonova.policy.personas import (
    PROJECT_MEMBER_OR_ADMIN,
    PROJECT_READER_OR_ADMIN,
    base_rules,
    network_base_rules,
)
from kilonova.policy.rules import Policy, Rule, own

CREATE = "os_compute_api:servers:create"
SHOW = "os_compute_api:servers:show"
HOSTS = "os_compute_api:os-hypervisors:list"

RULES = (
    *base_rules,
    Rule(CREATE, PROJECT_MEMBER_OR_ADMIN, "Create a server.", (("POST", "/servers"),)),
    Rule(SHOW, PROJECT_READER_OR_ADMIN, "Show a server.", (("GET", "/servers/{server_id}"),)),
    Rule(HOSTS, "rule:context_is_admin", scopes=("project", "system"), deprecated_names=("os_compute_api:hosts",)),
)
MEMBER = Caller(user_id="u1", project_id="p1", roles=("member", "reader"))
READER = Caller(user_id="u2", project_id="p1", roles=("reader",))
ADMIN = Caller(user_id="u0", project_id="p0", roles=("admin", "member", "reader"))
MINE = {"project_id": "p1"}


def test_members_create_readers_look_admins_do_both_anywhere() -> None:
    policy = Policy(RULES)
    assert [policy.allows(CREATE, caller, MINE) for caller in (MEMBER, READER, ADMIN)] == [True, False, True]
    assert [policy.allows(SHOW, caller, MINE) for caller in (MEMBER, READER, ADMIN)] == [True, True, True]
    assert not policy.allows(SHOW, MEMBER, {"project_id": "p2"})


def test_a_refusal_names_the_rule() -> None:
    with pytest.raises(Fault) as caught:
        Policy(RULES).enforce(CREATE, READER, MINE)
    assert caught.value.kind is Kind.FORBIDDEN
    assert caught.value.message == f"Policy doesn't allow {CREATE} to be performed."


def test_a_service_may_word_the_refusal() -> None:
    policy = Policy(RULES, denial="You are not authorized to perform the requested action: {rule}.")
    with pytest.raises(Fault, match=f"requested action: {CREATE}"):
        policy.enforce(CREATE, READER, MINE)


def test_enforce_is_silent_when_allowed() -> None:
    Policy(RULES).enforce(CREATE, MEMBER, own(MEMBER))


def test_an_undeclared_rule_is_our_bug_and_never_allows() -> None:
    with pytest.raises(Fault) as caught:
        Policy(RULES).allows("os_compute_api:servers:creat", ADMIN, MINE)
    assert caught.value.kind is Kind.BUG
    with pytest.raises(Fault, match="unexpected"):
        Policy((*RULES, RULES[-1]))


def test_scopes_are_enforced_unless_switched_off() -> None:
    system = Caller(user_id="u9", system="all", roles=("admin",))
    domain = Caller(user_id="u9", domain_id="d1", roles=("admin",))
    assert Policy(RULES).allows(HOSTS, system, {})
    assert not Policy(RULES).allows(HOSTS, domain, {})
    assert Policy(RULES, enforce_scope=False).allows(HOSTS, domain, {})
    with pytest.raises(Fault) as caught:
        Policy(RULES).enforce(CREATE, system, MINE)
    assert "token of project scope, this one has system scope" in caught.value.hint


def test_an_override_replaces_the_default_and_may_bring_its_own_rules() -> None:
    policy = Policy(RULES, {CREATE: "rule:builders", "builders": "role:builder", "builder": "!"})
    assert not policy.allows(CREATE, ADMIN, MINE)
    assert policy.allows(CREATE, Caller(project_id="p1", roles=("builder",)), MINE)
    assert policy.warnings == ("Rule builder is not known.",)
    assert policy.source(CREATE) == "rule:builders"


def test_overriding_a_base_rule_changes_every_rule_that_uses_it() -> None:
    policy = Policy(RULES, {"context_is_admin": "role:boss"})
    boss = Caller(project_id="p0", roles=("boss",))
    assert policy.allows(CREATE, boss, MINE)
    assert not policy.allows(CREATE, Caller(project_id="p0", roles=("admin",)), MINE)
    assert policy.allows("admin_api", boss, {})  # is_admin:True follows context_is_admin
    assert not policy.allows("admin_api", ADMIN, {})


def test_an_override_under_the_old_name_counts_with_a_warning() -> None:
    policy = Policy(RULES, {"os_compute_api:hosts": "role:reader"})
    assert policy.allows(HOSTS, READER, {})
    assert policy.warnings == (f"Rule os_compute_api:hosts is now called {HOSTS}; it still counts, rename it.",)
    both = Policy(RULES, {"os_compute_api:hosts": "role:reader", HOSTS: "!"})
    assert not both.allows(HOSTS, READER, {})
    assert "is ignored" in both.warnings[0]


def test_an_unknown_name_is_a_warning_with_near_misses() -> None:
    policy = Policy(RULES, {"os_compute_api:server:create": "!"})
    assert "os_compute_api:server:create is not known. Did you mean os_compute_api:servers:create" in policy.warnings[0]
    assert policy.allows(CREATE, MEMBER, MINE)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({CREATE: "rule:project_membr_api"}, "no rule called 'project_membr_api', did you mean project_member_api"),
        ({"a": "rule:b", "b": "not rule:a"}, "it refers to itself: a -> b -> a"),
        ({"a": "role:x or rule:a"}, "it refers to itself: a -> a"),
        ({CREATE: "role:member adn role:x"}, "column 13"),
        ({CREATE: "http://example.org"}, "not supported"),
    ],
)
def test_a_broken_override_is_refused_and_the_old_policy_stays(overrides: dict[str, str], told: str) -> None:
    policy = Policy(RULES, {SHOW: "!"})
    with pytest.raises(Fault) as caught:
        policy.override(overrides)
    assert caught.value.kind is Kind.INVALID
    assert told in caught.value.message
    assert caught.value.data["rule"] in overrides
    assert not policy.allows(SHOW, MEMBER, MINE)
    assert policy.allows(CREATE, MEMBER, MINE)


def test_a_new_override_forgets_the_last_one_also_for_callers_seen_before() -> None:
    policy = Policy(RULES, {"context_is_admin": "role:reader"})
    assert policy.allows("admin_api", READER, {})
    policy.override({})
    assert not policy.allows("admin_api", READER, {})


def test_many_callers_are_never_mixed_up() -> None:
    policy = Policy(RULES)
    for number in range(2000):
        caller = Caller(user_id=str(number), project_id=f"p{number}", roles=("member",))
        assert policy.allows(CREATE, caller, {"project_id": f"p{number}"})
        assert not policy.allows(CREATE, caller, {"project_id": f"p{number + 1}"})


def test_networks_rules_know_owner_parent_and_shared() -> None:
    policy = Policy(network_base_rules)
    assert policy.allows("admin_or_owner", MEMBER, {"tenant_id": "p1"})
    assert not policy.allows("admin_or_owner", MEMBER, {"tenant_id": "p2"})
    assert policy.allows("network_owner", MEMBER, {"network:tenant_id": "p1"})
    assert policy.allows("shared", MEMBER, {"shared": True})
    assert policy.allows("regular_user", READER, {})
