"""Random rules, callers and targets: we must decide as oslo.policy does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as oslo

from kilonova.base.caller import Caller
from kilonova.policy.closures import Closure, compile_check
from kilonova.policy.language import RuleReference, parse
from kilonova.policy.personas import (
    base_rules,
    block_storage_base_rules,
    identity_base_rules,
    image_base_rules,
    placement_base_rules,
)
from kilonova.policy.rules import Policy, Rule, attributes_of

IDS = ("a", "b", "all", "None", "True", "1")
NAMES = ("project_id", "user_id", "domain_id", "target.user.domain_id", "network:tenant_id", "visibility")
ROLES = ("admin", "Member", "reader", "SERVICE")

_value = st.sampled_from(IDS) | st.sampled_from([f"%({name})s" for name in NAMES])
_value = _value | st.tuples(_value, _value).map("-".join)
_flat = ["project_id", "user_id", "domain_id", "system_scope", "is_admin_project", "service_roles", "missing"]
_nested = ["token.user.domain.id", "token.project.id", "token.roles.name"]
_attribute = st.sampled_from([*_flat, *_nested])
_kind = _attribute | st.sampled_from(["'a'", '"b"', "True", "None", "1"])
_check = st.one_of(
    st.sampled_from(["@", "!", "rule:base", "rule:other"]),
    st.sampled_from([*ROLES, "%(visibility)s"]).map("role:{}".format),
    st.tuples(_kind, _value).map(":".join),
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    word = st.sampled_from([" and ", " or ", " AND ", "  Or "])
    return st.one_of(
        st.tuples(inner, word, inner).map("".join),
        inner.map("not ({})".format),
        inner.map("( {} )".format),
        _check.map("not {}".format),
    )


rules = st.recursive(_check, _joined, max_leaves=8)
lists = st.lists(_check | st.lists(_check, max_size=3), max_size=3)
targets = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(IDS) | st.sampled_from([None, True, 1]))
callers = st.builds(
    Caller,
    user_id=st.sampled_from(("a", "b")),
    user_domain_id=st.sampled_from(("a", "b")),
    project_id=st.sampled_from(("", "a", "b")),
    domain_id=st.sampled_from(("", "a", "b")),
    system=st.sampled_from(("", "all")),
    roles=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
    is_admin_project=st.booleans(),
    service_roles=st.sampled_from(((), ("service",))),
)


def _their_answer(checks: dict[str, Any], name: str, attributes: dict[str, Any], target: dict[str, Any]) -> bool:
    enforcer = oslo.Enforcer(_conf(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict(checks), use_conf=False)
    return bool(enforcer.enforce(name, target, dict(attributes)))


def _conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([])
    return conf


def _our_answer(checks: dict[str, Any], name: str, attributes: dict[str, Any], target: dict[str, Any]) -> bool:
    def resolve(reference: RuleReference) -> Closure:
        return compile_check(parse(checks[reference.name]), resolve)

    return compile_check(parse(checks[name]), resolve)(attributes, target)


def _without_none(attributes: dict[str, Any]) -> dict[str, Any]:
    """oslo.policy lets a caller's None equal a target's; we never do, so the oracle is asked without the Nones."""
    return {key: value for key, value in attributes.items() if value is not None}


@given(source=rules | lists, caller=callers, target=targets)
def test_we_decide_as_oslo_policy_does(source: Any, caller: Caller, target: dict[str, Any]) -> None:
    checks = {"it": source, "base": "role:member and project_id:%(project_id)s", "other": "not rule:base"}
    attributes = _without_none(attributes_of(caller))
    assert _our_answer(checks, "it", attributes, target) == _their_answer(checks, "it", attributes, target)


@given(text=st.text(alphabet="ab:()%s@! andort'\"", max_size=24), caller=callers, target=targets)
def test_what_we_accept_means_the_same_to_oslo_policy_whatever_is_typed(
    text: str, caller: Caller, target: dict[str, Any]
) -> None:
    try:
        parse(text)
    except ValueError:
        return
    attributes = _without_none(attributes_of(caller))
    assert _our_answer({"it": text}, "it", attributes, target) == _their_answer({"it": text}, "it", attributes, target)


@given(
    family=st.sampled_from(
        [base_rules, identity_base_rules, block_storage_base_rules, image_base_rules, placement_base_rules]
    ),
    caller=callers,
    target=targets,
)
def test_the_shared_base_rules_decide_as_oslo_policy_does(
    family: tuple[Rule, ...], caller: Caller, target: dict[str, Any]
) -> None:
    ours = Policy(family)
    attributes = _without_none(attributes_of(caller))
    checks = {rule.name: rule.check for rule in family}
    for rule in family:
        assert ours.allows(rule.name, caller, target) == _their_answer(checks, rule.name, attributes, target), rule
