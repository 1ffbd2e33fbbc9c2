"""The sample file: every declared rule with its default, commented out, for an operator to start from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable

from kilonova.policy.rules import Rule


def sample(rules: Iterable[Rule]) -> str:
    """A policy.yaml in which everything is a comment: description, operations, scopes, default; one block per rule."""
    return "\n".join(_block(rule) for rule in rules)


def _block(rule: Rule) -> str:
    lines = textwrap.wrap(rule.description, 78)
    lines += [f"{method:<6} {path}" for method, path in rule.operations]
    if rule.scopes:
        lines.append(f"Intended scope(s): {', '.join(rule.scopes)}")
    if rule.deprecated_names:
        lines.append(f"Formerly: {', '.join(rule.deprecated_names)}")
    setting = f"#{json.dumps(rule.name)}: {json.dumps(rule.check)}"
    return "".join(f"# {line}\n" for line in lines) + setting + "\n"
