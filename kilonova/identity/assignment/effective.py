"""Assignments in effect: groups become their members, implied roles are spelled out, inherited ones reach projects."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kilonova.identity.assignment.store import Assignment, Wider
from kilonova.identity.token.roles_store import implied_by


class Effect(msgspec.Struct, frozen=True):
    """One user's role at one scope, and where it comes from."""

    shown: Assignment
    given: Assignment
    group_id: str = ""
    prior_role_id: str = ""


def effects(given: list[Assignment], wider: Wider) -> list[Effect]:
    """Every effect of the assignments; the same role by two ways stands there twice, as both are reasons."""
    return [effect for one in given for effect in _of(one, wider)]


def _of(one: Assignment, wider: Wider) -> Iterator[Effect]:
    actors = [one.actor_id] if one.actor == "user" else wider.members.get(one.actor_id, [])
    scopes = [(one.scope, one.scope_id)]
    if one.inherited:
        scopes = [("project", below) for below in _below(one.scope_id, wider)]
    for user_id in actors:
        for scope, scope_id in scopes:
            for role_id in sorted(implied_by({one.role_id}, wider.implied) - wider.hidden):
                yield Effect(
                    Assignment("user", user_id, scope, scope_id, role_id),
                    one,
                    one.actor_id if one.actor == "group" else "",
                    one.role_id if role_id != one.role_id else "",
                )


def _below(id_: str, wider: Wider) -> list[str]:
    found: list[str] = []
    front = [id_]
    while front:
        front = [below for above in front for below in wider.below.get(above, ())]
        found += front
    return found
