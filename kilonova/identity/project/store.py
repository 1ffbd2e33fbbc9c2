"""SQL about projects and their tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.domain.store import Domain
from kilonova.identity.schema import assignments, credentials, domains, limits, project_tags, projects, users
from kilonova.identity.store import Filter


class Project(msgspec.Struct):
    """What owns servers, networks and volumes. `parent_id` is the domain's id at the top of the tree."""

    id: str
    domain_id: str
    parent_id: str
    name: str
    description: str = ""
    enabled: bool = True
    extra: dict[str, Any] = {}
    tags: list[str] = []
    options: dict[str, Any] | None = None
    is_domain: bool = False  # a domain, shown as the project that it acts as: in no domain, below nothing


class TagFilter(msgspec.Struct):
    """tags (all of), tags-any, not-tags (not all of), not-tags-any."""

    all: frozenset[str] = frozenset()
    any: frozenset[str] = frozenset()
    not_all: frozenset[str] = frozenset()
    not_any: frozenset[str] = frozenset()

    def passes(self, tags: Iterable[str]) -> bool:
        """Whether a project with these tags is listed."""
        have = set(tags)
        return (
            self.all <= have
            and (not self.any or bool(self.any & have))
            and (not self.not_all or not self.not_all <= have)
            and not self.not_any & have
        )


def with_tags(connection: Connection, found: list[Project]) -> list[Project]:
    """The projects, each with its tags: one query for all."""
    mine: dict[str, list[str]] = {project.id: [] for project in found}
    rows = sa.select(project_tags).order_by(project_tags.c.name)
    if len(found) < 500:
        rows = rows.where(project_tags.c.project_id.in_(mine))
    for row in connection.execute(rows):
        if row.project_id in mine:
            mine[row.project_id].append(row.name)
    for project in found:
        project.tags = mine[project.id]
    return found


def get(connection: Connection, project_id: str) -> Project | None:
    """The project of that id."""
    found = store.get(connection, projects, Project, project_id)
    return with_tags(connection, [found])[0] if found else None


def get_or_domain(connection: Connection, id_: str) -> Project | None:
    """The project of that id, or the domain of that id as a project."""
    project = get(connection, id_)
    if project is None:
        domain = store.get(connection, domains, Domain, id_)
        return as_project(domain) if domain else None
    return project


def as_project(domain: Domain) -> Project:
    """A domain, as the project that it acts as."""
    return Project(
        domain.id, "", "", domain.name, domain.description, domain.enabled, options=domain.options, is_domain=True
    )


def listed(connection: Connection, filters: Sequence[Filter], tags: TagFilter) -> list[Project]:
    """Projects that pass the filters."""
    found = with_tags(connection, store.listed(connection, projects, Project, filters))
    return [project for project in found if tags.passes(project.tags)]


def insert(connection: Connection, project: Project) -> None:
    """A new project with its tags."""
    taken = f"Conflict occurred attempting to store project - Duplicate entry found with name {project.name}."
    store.insert(connection, projects, project, taken)
    set_tags(connection, project.id, project.tags)


def set_tags(connection: Connection, project_id: str, tags: Iterable[str]) -> None:
    """These tags and no others."""
    connection.execute(project_tags.delete().where(project_tags.c.project_id == project_id))
    for tag in dict.fromkeys(tags):
        connection.execute(project_tags.insert().values(project_id=project_id, name=tag))


def children(connection: Connection, project_ids: Iterable[str]) -> list[Project]:
    """The projects right below."""
    found = sa.select(*store.columns(projects, Project)).where(projects.c.parent_id.in_(list(project_ids)))
    return with_tags(connection, store.structs(connection, found.order_by(projects.c.id), Project))


def subtree(connection: Connection, project_id: str) -> list[Project]:
    """All projects below, level by level."""
    found: list[Project] = []
    front = [project_id]
    while front:
        below = children(connection, front)
        found += below
        front = [project.id for project in below]
    return found


def parents(connection: Connection, project: Project) -> list[Project]:
    """All projects above, nearest first."""
    found: list[Project] = []
    while project.parent_id != project.domain_id:
        above = get(connection, project.parent_id)
        if above is None or above in found:
            break
        found.append(above)
        project = above
    return found


def delete(connection: Connection, project_id: str) -> None:
    """The project and all that is of it: tags, assignments, limits, keys, application credentials, trusts."""
    connection.execute(
        assignments.delete().where(assignments.c.scope == "project", assignments.c.scope_id == project_id)
    )
    connection.execute(users.update().where(users.c.default_project_id == project_id).values(default_project_id=None))
    connection.execute(limits.delete().where(limits.c.project_id == project_id))
    connection.execute(credentials.delete().where(credentials.c.project_id == project_id))
    store.remove(connection, projects, project_id)
