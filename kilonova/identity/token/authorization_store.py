"""SQL that answers what a token is worth now: its user, its scope, and the roles that the user has there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.contract import ApplicationCredentialRef, DomainRef, ProjectRef, RoleRef, UserRef
from kilonova.identity.schema import (
    application_credentials,
    assignments,
    domains,
    implications,
    memberships,
    projects,
    roles,
    users,
)
from kilonova.identity.token.payload import ScopeKind


class Worth(msgspec.Struct, frozen=True):
    """What a user may do in a scope. Unscoped: no roles."""

    user: UserRef
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    roles: tuple[RoleRef, ...] = ()
    credential: ApplicationCredentialRef | None = None
    credential_expires_at: object = None

    @property
    def domain_ids(self) -> set[str]:
        """Of the user and of the scope."""
        found = {self.user.domain.id}
        if self.project:
            found.add(self.project.domain.id)
        if self.domain:
            found.add(self.domain.id)
        return found


def read_user(connection: Connection, user_id: str) -> UserRef | None:
    """The user, when it and its domain are enabled."""
    found = (
        sa.select(users.c.id, users.c.name, domains.c.id.label("domain_id"), domains.c.name.label("domain_name"))
        .join(domains, domains.c.id == users.c.domain_id)
        .where(users.c.id == user_id, users.c.enabled, domains.c.enabled)
    )
    row = connection.execute(found).first()
    return UserRef(row.id, row.name, DomainRef(row.domain_id, row.domain_name)) if row else None


def read_worth(
    connection: Connection, user_id: str, scope: ScopeKind, scope_id: str, credential_id: str = ""
) -> Worth | None:
    """What the user may do there; None when it may do nothing: it, the scope or a domain is gone or disabled."""
    user = read_user(connection, user_id)
    if user is None:
        return None
    project = domain = credential = expires_at = None
    if scope == "project" and (project := _project(connection, scope_id)) is None:
        return None
    if scope == "domain" and (domain := _domain(connection, scope_id)) is None:
        return None
    held = roles_of(connection, user_id, scope, scope_id) if scope else ()
    if credential_id:
        found = connection.execute(
            sa.select(application_credentials).where(
                application_credentials.c.id == credential_id, application_credentials.c.user_id == user_id
            )
        ).first()
        if found is None:
            return None
        allowed = _closure(connection, found.role_ids)
        held = tuple(role for role in held if role.id in allowed)
        credential = ApplicationCredentialRef(found.id, found.name, not found.unrestricted)
        expires_at = found.expires_at
    if scope and not held:
        return None
    return Worth(user, project, domain, held, credential, expires_at)


def _project(connection: Connection, project_id: str) -> ProjectRef | None:
    found = (
        sa.select(projects.c.id, projects.c.name, domains.c.id.label("domain_id"), domains.c.name.label("domain_name"))
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(projects.c.id == project_id, projects.c.enabled, domains.c.enabled)
    )
    row = connection.execute(found).first()
    return ProjectRef(row.id, row.name, DomainRef(row.domain_id, row.domain_name)) if row else None


def _domain(connection: Connection, domain_id: str) -> DomainRef | None:
    row = connection.execute(sa.select(domains).where(domains.c.id == domain_id, domains.c.enabled)).first()
    return DomainRef(row.id, row.name) if row else None


def roles_of(connection: Connection, user_id: str, scope: ScopeKind, scope_id: str) -> tuple[RoleRef, ...]:
    """Roles given directly, through groups, or inherited from above, with all they imply; sorted by name.

    Roles that belong to one domain never show in tokens; only what they imply does.
    """
    given = set(
        connection.scalars(sa.select(assignments.c.role_id).where(by(user_id), at(connection, scope, scope_id)))
    )
    if not given:
        return ()
    reached = _closure(connection, given)
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


def _closure(connection: Connection, given: Iterable[str]) -> set[str]:
    return implied_by(set(given), [tuple(row) for row in connection.execute(sa.select(implications))])


def implied_by(given: set[str], pairs: Sequence[tuple[str, ...]]) -> set[str]:
    """The roles of `given` and all they imply by (prior, implied) pairs."""
    reached, front = set(given), set(given)
    while front:
        front = {implied for prior, implied in pairs if prior in front} - reached
        reached |= front
    return reached
