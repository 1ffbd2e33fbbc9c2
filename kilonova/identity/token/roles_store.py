"""SQL that answers which roles a user has where: given, through groups, inherited, implied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.contract import RoleRef
from kilonova.identity.schema import assignments, implications, memberships, projects, roles
from kilonova.identity.token.payload import ScopeKind


def roles_of(connection: Connection, user_id: str, scope: ScopeKind, scope_id: str) -> tuple[RoleRef, ...]:
    """Roles given directly, through groups, or inherited from above, with all they imply; sorted by name.

    Roles that belong to one domain never show in tokens; only what they imply does.
    """
    given = set(
        connection.scalars(sa.select(assignments.c.role_id).where(by(user_id), at(connection, scope, scope_id)))
    )
    if not given:
        return ()
    reached = closure(connection, given)
    found = sa.select(roles.c.id, roles.c.name).where(roles.c.id.in_(reached), roles.c.domain_id == "")
    return tuple(sorted((RoleRef(row.id, row.name) for row in connection.execute(found)), key=lambda role: role.name))


def by(user_id: str) -> sa.ColumnElement[bool]:
    """Assignments of the user, or of a group it is in."""
    its_groups = sa.select(memberships.c.group_id).where(memberships.c.user_id == user_id)
    return sa.or_(
        sa.and_(assignments.c.actor == "user", assignments.c.actor_id == user_id),
        sa.and_(assignments.c.actor == "group", assignments.c.actor_id.in_(its_groups)),
    )


def at(connection: Connection, scope: ScopeKind, scope_id: str) -> sa.ColumnElement[bool]:
    """Assignments that count in the scope; for a project also what it inherits."""
    there = sa.and_(
        assignments.c.scope == scope, assignments.c.scope_id == scope_id, assignments.c.inherited.is_(False)
    )
    if scope != "project":
        return there
    above, domain_id = ancestors(connection, scope_id)
    return sa.or_(
        there,
        sa.and_(
            assignments.c.inherited,
            sa.or_(
                sa.and_(assignments.c.scope == "project", assignments.c.scope_id.in_(above)),
                sa.and_(assignments.c.scope == "domain", assignments.c.scope_id == domain_id),
            ),
        ),
    )


def ancestors(connection: Connection, project_id: str) -> tuple[list[str], str]:
    """(ids of the projects above, nearest first; the domain's id)."""
    above: list[str] = []
    row = connection.execute(
        sa.select(projects.c.parent_id, projects.c.domain_id).where(projects.c.id == project_id)
    ).first()
    if row is None:
        return [], ""
    parent_id, domain_id = row.parent_id, row.domain_id
    while parent_id and parent_id != domain_id and parent_id not in above:
        above.append(parent_id)
        parent_id = connection.scalar(sa.select(projects.c.parent_id).where(projects.c.id == parent_id))
    return above, domain_id


def closure(connection: Connection, given: Iterable[str]) -> set[str]:
    """The roles given and all that they imply."""
    return implied_by(set(given), [tuple(row) for row in connection.execute(sa.select(implications))])


def implied_by(given: set[str], pairs: Sequence[tuple[str, ...]]) -> set[str]:
    """The roles of `given` and all they imply by (prior, implied) pairs."""
    reached, front = set(given), set(given)
    while front:
        front = {implied for prior, implied in pairs if prior in front} - reached
        reached |= front
    return reached
