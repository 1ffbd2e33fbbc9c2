"""Rules and the policy made of them: services declare rules, operators override them, requests are checked by name.

policy = Policy((*base_rules, *rules_of_the_service), overrides={"os_compute_api:servers:create": "role:builder"})
policy.enforce("os_compute_api:servers:create", caller, {"project_id": caller.project_id})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kilonova.base import faults
from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind
from kilonova.policy.closures import Closure, compile_check
from kilonova.policy.language import Check, RuleError, RuleReference, parse, references

DENIAL = "Policy doesn't allow {rule} to be performed."
REMEMBERED_CALLERS = 512


@dataclass(frozen=True, slots=True)
class Rule:
    """One named permission with its default check string.

    `operations` are the (method, path) pairs it guards, for the sample file. `scopes` are the kinds of token that may
    use it ("project", "domain", "system"); empty means any. An override under one of `deprecated_names` still counts.
    """

    name: str
    check: str
    description: str = ""
    operations: tuple[tuple[str, str], ...] = ()
    scopes: tuple[str, ...] = ("project",)
    deprecated_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Table:
    """What is in force: swapped whole, so that a reload never shows half of itself."""

    sources: dict[str, Any]
    closures: dict[str, Closure]
    warnings: tuple[str, ...]
    callers: dict[int, tuple[Caller, dict[str, Any], str]]  # with its attributes and the scope of its token


class Policy:
    """The rules in force for one service. Reading is lock-free and may happen on any thread."""

    def __init__(
        self,
        rules: Iterable[Rule],
        overrides: Mapping[str, Any] | None = None,
        *,
        enforce_scope: bool = True,
        denial: str = DENIAL,
    ) -> None:
        self.rules = tuple(rules)
        self._enforce_scope = enforce_scope
        self._denial = denial
        self._scopes: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            if rule.name in self._scopes:
                raise faults.bug(f"policy rule {rule.name} is declared twice")
            self._scopes[rule.name] = rule.scopes
        self._overrides: dict[str, Any] = {}  # those in force
        self._table = self._compiled({})
        if overrides:
            self.override(overrides)

    def override(self, overrides: Mapping[str, Any]) -> None:
        """Put the defaults plus these overrides in force; whatever was overridden before is forgotten.

        Raises INVALID, with `data["rule"]` naming the culprit, when one cannot be read or refers to what does not
        exist; then the policy stays as it was.
        """
        if dict(overrides) != self._overrides:
            self._table, self._overrides = self._compiled(overrides), dict(overrides)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of the overrides in force: unknown names, deprecated names."""
        return self._table.warnings

    def source(self, rule: str) -> Any:
        """The check string in force for `rule`."""
        return self._table.sources[rule]

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether `caller` may do what `rule` guards to `target` (the resource's attributes)."""
        table = self._table
        closure = table.closures.get(rule)
        if closure is None:
            raise faults.bug(f"policy rule {rule} was never declared")
        _, attributes, scope = table.callers.get(id(caller)) or _remember(table, caller)
        scopes = self._scopes.get(rule)
        return not (scopes and self._enforce_scope and scope not in scopes) and closure(attributes, target)

    def enforce(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> None:
        """Nothing when `allows`, else FORBIDDEN with a sentence that names the rule."""
        if self.allows(rule, caller, target):
            return
        hint = ""
        scopes, scope = self._scopes.get(rule), scope_of(caller)
        if scopes and self._enforce_scope and scope not in scopes:
            hint = f"It needs a token of {' or '.join(scopes)} scope, this one has {scope} scope."
        raise faults.forbidden(self._denial.format(rule=rule), hint=hint, code="PolicyNotAuthorized")

    def _compiled(self, overrides: Mapping[str, Any]) -> _Table:
        sources: dict[str, Any] = {rule.name: rule.check for rule in self.rules}
        sources.update(overrides)
        warnings = self._apply_deprecated(sources, overrides)
        trees: dict[str, Check] = {}
        for name, source in sources.items():
            try:
                trees[name] = parse(source)
            except RuleError as error:
                raise _broken(name, str(error)) from error
        linker = _Linker(trees)
        closures = {name: linker.closure(name) for name in trees}
        warnings.extend(self._unknown(overrides, trees))
        return _Table(sources, closures, tuple(warnings), {})

    def _apply_deprecated(self, sources: dict[str, Any], overrides: Mapping[str, Any]) -> list[str]:
        warnings = []
        for rule in self.rules:
            for old in rule.deprecated_names:
                if old not in overrides or old in self._scopes:
                    continue
                if rule.name in overrides:
                    warnings.append(f"Rule {old} is ignored: its new name {rule.name} is set too.")
                else:
                    sources[rule.name] = overrides[old]
                    warnings.append(f"Rule {old} is now called {rule.name}; it still counts, rename it.")
        return warnings

    def _unknown(self, overrides: Mapping[str, Any], trees: Mapping[str, Check]) -> Iterable[str]:
        """Names nobody declared and nothing refers to: probably typing errors. `default` is oslo.policy's fallback."""
        known = {*self._scopes, *(old for rule in self.rules for old in rule.deprecated_names), "default"}
        used = {reference.name for tree in trees.values() for reference in references(tree)}
        for name in overrides:
            if name in known or name in used:
                continue
            near = _close_to(name, known)
            yield f"Rule {name} is not known." + (f" Did you mean {' or '.join(near)}?" if near else "")


class _Linker:
    """Ties `rule:` references to closures, each rule compiled once; finds missing rules and circles."""

    def __init__(self, trees: Mapping[str, Check]) -> None:
        self._trees = trees
        self._done: dict[str, Closure] = {}
        self._open: list[str] = []

    def closure(self, name: str) -> Closure:
        if name in self._done:
            return self._done[name]
        if name in self._open:
            circle = [*self._open[self._open.index(name) :], name]
            raise _broken(name, f"it refers to itself: {' -> '.join(circle)}", among=circle)
        self._open.append(name)
        closure = compile_check(self._trees[name], self._resolve)
        self._open.pop()
        self._done[name] = closure
        return closure

    def _resolve(self, reference: RuleReference) -> Closure:
        if reference.name not in self._trees:
            near = _close_to(reference.name, self._trees)
            hint = f", did you mean {' or '.join(near)}?" if near else ""
            why = f"column {reference.position}: there is no rule called {reference.name!r}{hint}"
            raise _broken(self._open[-1], why)
        return self.closure(reference.name)


def _close_to(name: str, known: Iterable[str]) -> list[str]:
    """What somebody may have meant."""
    import difflib  # loaded for mistakes only

    return difflib.get_close_matches(name, list(known), n=3)


def _broken(name: str, why: str, among: Iterable[str] = ()) -> Fault:
    return Fault(
        Kind.INVALID,
        f"Policy rule {name} cannot be used: {why}",
        code="PolicyBroken",
        data={"rule": name, "among": list(among) or [name], "why": why},
    )


def scope_of(caller: Caller) -> str:
    """The scope of the caller's token: system, domain or project. Unscoped counts as project, as in oslo.policy."""
    if caller.system:
        return "system"
    return "domain" if caller.domain_id else "project"


def own(caller: Caller) -> dict[str, Any]:
    """The target for what belongs to the caller itself, such as a list or a creation in the caller's project."""
    return {"project_id": caller.project_id, "user_id": caller.user_id, "tenant_id": caller.project_id}


def _remember(table: _Table, caller: Caller) -> tuple[Caller, dict[str, Any], str]:
    """The caller's attributes and scope, kept by identity: a request checks many rules with one Caller.

    The entry holds the Caller itself, so its id cannot be given to another while the entry stands.
    """
    attributes = attributes_of(caller)
    admin = table.closures.get("context_is_admin")
    if admin is not None:
        attributes["is_admin"] = False  # while the rule that decides it is asked
        attributes["is_admin"] = admin(attributes, own(caller))
    if len(table.callers) >= REMEMBERED_CALLERS:
        table.callers.clear()
    table.callers[id(caller)] = remembered = (caller, attributes, scope_of(caller))
    return remembered


def attributes_of(caller: Caller) -> dict[str, Any]:
    """The caller as rules see it: oslo.context's names, None for what a token lacks, and keystone's nested `token`.

    `is_admin` is the role here; a policy with a rule `context_is_admin` lets that rule decide.
    """
    roles = [role.lower() for role in caller.roles]
    return {
        "user_id": caller.user_id or None,
        "user_name": caller.user_name or None,
        "user_domain_id": caller.user_domain_id or None,
        "project_id": caller.project_id or None,
        "tenant_id": caller.project_id or None,
        "project_name": caller.project_name or None,
        "project_domain_id": caller.project_domain_id or None,
        "domain_id": caller.domain_id or None,
        "domain_name": caller.domain_name or None,
        "system_scope": caller.system or None,
        "system": caller.system or None,
        "roles": roles,
        "is_admin": "admin" in roles,
        "is_admin_project": caller.is_admin_project,
        "service_user_id": caller.service_user_id or None,
        "service_roles": [role.lower() for role in caller.service_roles],
        "token": _token_of(caller),
    }


def _token_of(caller: Caller) -> dict[str, Any]:
    """The token's body in identity's own shape, for rules such as `token.project.domain.id:%(target.domain.id)s`."""
    token: dict[str, Any] = {
        "user": _named(caller.user_id, caller.user_name, caller.user_domain_id, caller.user_domain_name),
        "roles": [{"name": role.lower()} for role in caller.roles],
        "is_admin_project": caller.is_admin_project,
    }
    if caller.project_id:
        token["project"] = _named(
            caller.project_id, caller.project_name, caller.project_domain_id, caller.project_domain_name
        )
    if caller.domain_id:
        token["domain"] = {"id": caller.domain_id, "name": caller.domain_name}
    if caller.system:
        token["system"] = {caller.system: True}
    return token


def _named(id_: str, name: str, domain_id: str, domain_name: str) -> dict[str, Any]:
    return {"id": id_, "name": name, "domain": {"id": domain_id, "name": domain_name}}
