"""SQL that answers where a user could go: the scopes it has a role in."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.domain.store import Domain
from kilonova.identity.project.store import Project, with_tags
from kilonova.identity.schema import assignments, domains, projects
from kilonova.identity.token.roles_store import by


def projects_of(connection: Connection, user_id: str) -> list[Project]:
    """Enabled projects where the user has a role, given there or inherited."""
    given = _scopes(connection, user_id)
    direct = {scope_id for scope, scope_id, inherited in given if scope == "project" and not inherited}
    above = {scope_id for scope, scope_id, inherited in given if scope == "project" and inherited}
    whole = {scope_id for scope, scope_id, inherited in given if scope == "domain" and inherited}
    front = above
    while front:
        front = set(connection.scalars(sa.select(projects.c.id).where(projects.c.parent_id.in_(front)))) - direct
        direct |= front
    found = (
        sa.select(*store.columns(projects, Project))
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(
            projects.c.enabled,
            domains.c.enabled,
            sa.or_(projects.c.id.in_(direct), projects.c.domain_id.in_(whole)),
        )
        .order_by(projects.c.id)
    )
    return with_tags(connection, store.structs(connection, found, Project))


def domains_of(connection: Connection, user_id: str) -> list[Domain]:
    """Enabled domains where the user has a role."""
    ids = {
        scope_id for scope, scope_id, inherited in _scopes(connection, user_id) if scope == "domain" and not inherited
    }
    return store.listed(connection, domains, Domain, [("enabled", "equals", True)], ids)


def has_system_role(connection: Connection, user_id: str) -> bool:
    """Whether the user has a role on the system."""
    return any(scope == "system" for scope, _, _ in _scopes(connection, user_id))


def _scopes(connection: Connection, user_id: str) -> set[tuple[str, str, bool]]:
    table = assignments.c
    found = sa.select(table.scope, table.scope_id, table.inherited).where(by(user_id)).distinct()
    return {(row.scope, row.scope_id, bool(row.inherited)) for row in connection.execute(found)}
