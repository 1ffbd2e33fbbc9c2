"""The rule language: what each form of check allows, and what a broken one says."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.caller import Caller
from kilonova.policy.language import RuleError, parse
from kilonova.policy.rules import Policy, Rule

MEMBER = Caller(
    user_id="u1",
    user_domain_id="default",
    project_id="p1",
    project_domain_id="d1",
    roles=("Member", "reader"),
    service_roles=("service",),
)
ADMIN = Caller(user_id="u0", project_id="p0", roles=("admin",))
SYSTEM = Caller(user_id="u9", system="all", roles=("reader",))

MINE: dict[str, Any] = {"project_id": "p1", "user_id": "u1"}
OTHERS: dict[str, Any] = {"project_id": "p2", "user_id": "u2"}


def allows(check: Any, caller: Caller, target: dict[str, Any]) -> bool:
    return Policy((Rule("it", check, scopes=()),)).allows("it", caller, target)


@pytest.mark.parametrize(
    ("check", "caller", "target", "allowed"),
    [
        ("", MEMBER, {}, True),
        ("@", MEMBER, {}, True),
        ("!", ADMIN, {}, False),
        (None, ADMIN, {}, False),
        ("role:member", MEMBER, {}, True),
        ("role:MEMBER", MEMBER, {}, True),
        ("role:admin", MEMBER, {}, False),
        ("role:%(wanted)s", MEMBER, {"wanted": "Reader"}, True),
        ("role:%(wanted)s", MEMBER, {}, False),
        ("project_id:%(project_id)s", MEMBER, MINE, True),
        ("project_id:%(project_id)s", MEMBER, OTHERS, False),
        ("project_id:%(project_id)s", MEMBER, {}, False),
        ("tenant_id:%(network:tenant_id)s", MEMBER, {"network:tenant_id": "p1"}, True),
        ("user_id:%(target.user.id)s", MEMBER, {"target.user.id": "u1"}, True),
        ("user_id:%(target.user.id)s", MEMBER, {"target": {"user": {"id": "u1"}}}, True),
        ("user_id:%(target.user.id)s", MEMBER, {"target": {"user": "u1"}}, False),
        ("token.project.domain.id:%(target.domain.id)s", MEMBER, {"target": {"domain": {"id": "d1"}}}, True),
        ("token.project.domain.id:%(target.domain.id)s", SYSTEM, {"target": {"domain": {"id": "d1"}}}, False),
        ('"public":%(visibility)s', MEMBER, {"visibility": "public"}, True),
        ("'public':%(visibility)s", MEMBER, {"visibility": "private"}, False),
        ("True:%(enabled)s", MEMBER, {"enabled": True}, True),
        ("None:%(owner)s", MEMBER, {"owner": None}, True),
        ("system_scope:all", SYSTEM, {}, True),
        ("system_scope:all", MEMBER, {}, False),
        ("project_id:None", SYSTEM, {}, True),
        ("is_admin:True", ADMIN, {}, True),
        ("is_admin:True", MEMBER, {}, False),
        ("is_admin_project:True", MEMBER, {}, True),
        ("service_roles:service", MEMBER, {}, True),
        ("service_roles:service", ADMIN, {}, False),
        ("nonsense:1", ADMIN, {}, False),
        ("project_id:x-%(a)s-%(b)s%%", Caller(project_id="x-1-2%"), {"a": 1, "b": 2}, True),
        ("field:networks:shared=True", MEMBER, {"shared": True}, True),
        ("field:networks:shared=True", MEMBER, {"shared": False}, False),
        ("field:networks:shared=True", MEMBER, {}, False),
        ("field:port:device_owner=~^network:", MEMBER, {"device_owner": "network:dhcp"}, True),
        ("field:port:device_owner=~^network:", MEMBER, {"device_owner": "compute:nova"}, False),
        ("not role:admin", MEMBER, {}, True),
        ("not not role:admin", MEMBER, {}, False),
        ("not role:admin and role:ghost", MEMBER, {}, False),
        ("not (role:admin and role:ghost)", MEMBER, {}, True),
        ("role:member or role:ghost and role:ghost", MEMBER, {}, True),
        ("(role:member or role:ghost) and role:ghost", MEMBER, {}, False),
        ("role:ghost OR (role:member AND project_id:%(project_id)s)", MEMBER, MINE, True),
        ([], MEMBER, {}, True),
        ([[]], MEMBER, {}, False),
        (["role:ghost", "role:member"], MEMBER, {}, True),
        ([["role:member", "role:ghost"]], MEMBER, {}, False),
        ([["role:ghost"], ["role:member", "project_id:%(project_id)s"]], MEMBER, MINE, True),
    ],
)
def test_a_check_allows_and_denies(check: Any, caller: Caller, target: dict[str, Any], allowed: bool) -> None:
    assert allows(check, caller, target) is allowed


def test_who_has_no_project_does_not_own_what_belongs_to_no_project() -> None:
    """The one place where we deny and oslo.policy allows."""
    assert not allows("project_id:%(project_id)s", SYSTEM, {"project_id": None})
    assert not allows("project_id:%(project_id)s", SYSTEM, {"project_id": ""})
    assert not allows("project_id:%(project_id)s", SYSTEM, {"project_id": "None"})


@pytest.mark.parametrize(
    ("check", "column", "told"),
    [
        ("role:admin andd role:member", 12, "expected 'and', 'or' or the end, found 'andd'"),
        ("role:admin role:member", 12, "'and', 'or' or the end"),
        ("role:admin and", 15, "found the end"),
        ("and role:admin", 1, "expected a check"),
        ("(role:admin", 12, "')'"),
        ("role:admin)", 11, "found ')'"),
        ("()", 2, "expected a check"),
        ("   ", 4, "expected a check"),
        ("role:member or admin", 16, "expected kind:value"),
        ("role:", 1, "value after ':'"),
        (":x", 1, "name before"),
        ('"open:%(x)s', 1, "quoted literal"),
        ("project_id:%(project_id)", 12, "expected %(attribute)s"),
        ("project_id:%s", 12, "expected %(attribute)s"),
        ("project_id:%", 12, "expected %(attribute)s"),
        ("project_id:100%%-%(a)s-%d", 24, "found '%d'"),
        ("role:admin or http://127.0.0.1:9/check", 15, "not supported"),
        ("https://example.org/%(name)s", 1, "not supported"),
        ("field:networks", 1, "field:resource:name=value"),
        ("field:port:name=~(", 1, "pattern"),
        ("(" * 200 + "@" + ")" * 200, 101, "deeper"),
        ("not " * 200 + "@", 401, "deeper"),
        (7, 1, "found int"),
        ([7], 1, "list of check strings"),
        ([["role:admin", 7]], 1, "list of check strings"),
    ],
)
def test_a_broken_rule_says_where_and_what_was_expected(check: Any, column: int, told: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(check)
    assert caught.value.position == column
    assert told in str(caught.value)
