"""Check strings of identity's policy that several nouns share; names, checks and scopes are Keystone's of today."""

from __future__ import annotations

from kilonova.policy.personas import ADMIN_REQUIRED, SYSTEM_READER
from kilonova.policy.rules import Rule

ANYWHERE = ("system", "domain", "project")
SYSTEM_OR_PROJECT = ("system", "project")
ADMIN = ADMIN_REQUIRED
READER = f"{ADMIN_REQUIRED} or ({SYSTEM_READER})"
READER_OR_DOMAIN_READER = f"({ADMIN_REQUIRED}) or ({SYSTEM_READER}) or (role:reader and domain_id:%(target.domain_id)s)"


def rule(name: str, check: str, scopes: tuple[str, ...], *operations: tuple[str, str]) -> Rule:
    """A rule of identity; operations are (method, path)."""
    return Rule(f"identity:{name}", check, operations=operations, scopes=scopes)
