"""SQL that answers which roles a user has where: given, through groups, inherited, implied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement
from kilonova.identity.contract import RoleRef
from kilonova.identity.role.store import pairs
from kilonova.identity.schema import assignments, memberships, projects, roles
from kilonova.identity.token.payload import ScopeKind


class RoleGraph(msgspec.Struct, frozen=True):
    """Every role and what it implies. Roles that belong to one domain are not `shown`: only what they imply is."""

    shown: dict[str, RoleRef]
    pairs: list[tuple[str, ...]]  # (prior, implied)

    def reached(self, given: Iterable[str]) -> set[str]:
        """The roles given and all that they imply."""
        return implied_by(set(given), self.pairs)

    def refs(self, given: Iterable[str]) -> tuple[RoleRef, ...]:
        """The roles given and all that they imply, as tokens show them: sorted by name."""
        found = [self.shown[role_id] for role_id in self.reached(given) if role_id in self.shown]
        return tuple(sorted(found, key=lambda role: role.name))


def implied_by(given: set[str], pairs: Sequence[tuple[str, ...]]) -> set[str]:
    """The roles of `given` and all they imply by (prior, implied) pairs."""
    reached, front = set(given), set(given)
    while front:
        front = {implied for prior, implied in pairs if prior in front} - reached
        reached |= front
    return reached


_SHOWN = Statement(sa.select(roles.c.id, roles.c.name).where(roles.c.domain_id == ""))


def read_graph(connection: Connection) -> RoleGraph:
    """The cloud's roles: few, so that they can be remembered whole."""
    return RoleGraph({id_: RoleRef(id_, name) for id_, name in _SHOWN.all(connection)}, pairs(connection))


def by(user_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Assignments of the user, or of a group it is in."""
    return sa.or_(_its_own(user_id), _its_groups(user_id))


def _its_own(user_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    return sa.and_(assignments.c.actor == "user", assignments.c.actor_id == user_id)


def _its_groups(user_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    groups = sa.select(memberships.c.group_id).where(memberships.c.user_id == user_id)
    return sa.and_(assignments.c.actor == "group", assignments.c.actor_id.in_(groups))


def given(scope: ScopeKind) -> sa.Select[Any]:
    """Ids of the roles that :user_id was given at :scope_id, or, for a project, above it: the domain's id is the parent
    of the projects at the top.

    Each half asks for whole keys, so that nobody's many assignments are read.
    """
    here: sa.BindParameter[str] = sa.bindparam("scope_id")
    where: tuple[sa.ColumnElement[bool], ...] = (
        assignments.c.scope == scope,
        assignments.c.scope_id == here,
        assignments.c.inherited.is_(False),
    )
    if scope == "project":
        top = sa.select(projects.c.id).where(projects.c.id == here).cte("lineage", recursive=True)
        lineage = top.union(sa.select(projects.c.parent_id).join(top, projects.c.id == top.c.id))
        where = (
            assignments.c.scope.in_(("project", "domain")),
            assignments.c.scope_id.in_(sa.select(lineage.c.id)),
            assignments.c.inherited == (assignments.c.scope_id != here),
        )
    user_id: sa.BindParameter[str] = sa.bindparam("user_id")
    halves = (
        sa.select(assignments.c.role_id).where(half, *where) for half in (_its_own(user_id), _its_groups(user_id))
    )
    return sa.select(sa.union_all(*halves).subquery("given").c.role_id)


_GIVEN: dict[str, Statement] = {scope: Statement(given(scope)) for scope in ("project", "domain", "system")}


def roles_of(
    connection: Connection, user_id: str, scope: ScopeKind, scope_id: str, graph: RoleGraph | None = None
) -> tuple[RoleRef, ...]:
    """Roles given directly, through groups, or inherited from above, with all they imply; sorted by name.

    Roles that belong to one domain never show in tokens; only what they imply does. `graph` when it is known.
    """
    found = _GIVEN[scope].scalars(connection, user_id=user_id, scope_id=scope_id)
    return (graph or read_graph(connection)).refs(found) if found else ()
