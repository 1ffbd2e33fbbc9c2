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


def admin_crud(noun: str, path: str, read: str = READER, scopes: tuple[str, ...] = SYSTEM_OR_PROJECT) -> list[Rule]:
    """The five rules of a noun that only administrators write."""
    one = f"{path}/{{{noun}_id}}"
    return [
        rule(f"get_{noun}", read, scopes, ("GET", one), ("HEAD", one)),
        rule(f"list_{noun}s", read, scopes, ("GET", path), ("HEAD", path)),
        rule(f"create_{noun}", ADMIN, SYSTEM_OR_PROJECT, ("POST", path)),
        rule(f"update_{noun}", ADMIN, SYSTEM_OR_PROJECT, ("PATCH", one)),
        rule(f"delete_{noun}", ADMIN, SYSTEM_OR_PROJECT, ("DELETE", one)),
    ]
