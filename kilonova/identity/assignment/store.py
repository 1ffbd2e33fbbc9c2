"""SQL about assignments: grants, and lists of them as given or as they take effect."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity.schema import (
    application_credentials,
    assignments,
    domains,
    groups,
    memberships,
    projects,
    roles,
    users,
)
from kilonova.identity.token.roles_store import by


class Assignment(msgspec.Struct, frozen=True):
    """A role of an actor at a scope. `inherited`: in the projects below the scope, not at it."""

    actor: str  # user | group
    actor_id: str
    scope: str  # project | domain | system
    scope_id: str
    role_id: str
    inherited: bool = False


class Named(msgspec.Struct, frozen=True):
    """A thing with its name, and its domain's."""

    name: str
    domain_id: str
    domain_name: str


class Names(msgspec.Struct, frozen=True):
    """Names of all that some assignments mention, by id."""

    users: dict[str, Named]
    groups: dict[str, Named]
    projects: dict[str, Named]
    roles: dict[str, Named]
    domains: dict[str, str]


class Wider(msgspec.Struct, frozen=True):
    """What turns assignments as given into assignments in effect."""

    members: dict[str, list[str]]  # group → users
    implied: list[tuple[str, str]]
    below: dict[str, list[str]]  # project or domain → projects right below
    hidden: frozenset[str]  # roles of one domain: no token shows them, only what they imply


def _where(one: Assignment) -> sa.ColumnElement[bool]:
    return sa.and_(*(assignments.c[name] == value for name, value in msgspec.structs.asdict(one).items()))


def is_given(connection: Connection, one: Assignment) -> bool:
    """Whether exactly this was given."""
    return connection.execute(sa.select(assignments.c.role_id).where(_where(one))).first() is not None


def give(connection: Connection, one: Assignment) -> None:
    """Give it; it may have been given before."""
    if not is_given(connection, one):
        connection.execute(assignments.insert().values(**msgspec.structs.asdict(one)))


def take(connection: Connection, one: Assignment) -> int:
    """Take it back; 0 when it was not given.

    Application credentials of the users concerned at that project go too: they held roles that are gone.
    """
    gone = connection.execute(assignments.delete().where(_where(one))).rowcount
    if gone and one.scope == "project":
        if one.actor == "user":
            whose = application_credentials.c.user_id == one.actor_id
        else:
            members = sa.select(memberships.c.user_id).where(memberships.c.group_id == one.actor_id)
            whose = application_credentials.c.user_id.in_(members)
        table = application_credentials
        connection.execute(table.delete().where(table.c.project_id == one.scope_id, whose))
    return gone


def role_ids(connection: Connection, like: Assignment) -> list[str]:
    """Ids of the roles that the actor was given there; the role of `like` says nothing."""
    wanted = {name: value for name, value in msgspec.structs.asdict(like).items() if name != "role_id"}
    found = sa.select(assignments.c.role_id).where(*(assignments.c[name] == value for name, value in wanted.items()))
    return list(connection.scalars(found))


def listed(connection: Connection, wanted: dict[str, object], user_id: str = "") -> list[Assignment]:
    """As given, with these column values; with `user_id` those of the user and of the groups it is in."""
    found = sa.select(assignments).where(*(assignments.c[name] == value for name, value in wanted.items()))
    if user_id:
        found = found.where(by(user_id))
    rows = connection.execute(found.order_by(assignments.c.actor_id, assignments.c.scope_id, assignments.c.role_id))
    return [Assignment(**row._mapping) for row in rows]


def read_wider(
    connection: Connection, implied: Iterable[tuple[str, str]], user_id: str = "", tree: bool = True
) -> Wider:
    """Memberships (of one user), implications, and the tree of projects when it is needed."""
    members: dict[str, list[str]] = {}
    joined = sa.select(memberships)
    if user_id:
        joined = joined.where(memberships.c.user_id == user_id)
    for row in connection.execute(joined):
        members.setdefault(row.group_id, []).append(row.user_id)
    below: dict[str, list[str]] = {}
    if tree:
        for row in connection.execute(sa.select(projects.c.id, projects.c.parent_id)):
            below.setdefault(row.parent_id, []).append(row.id)
    hidden = connection.scalars(sa.select(roles.c.id).where(roles.c.domain_id != ""))
    return Wider(members, list(implied), below, frozenset(hidden))


def read_names(connection: Connection, found: list[Assignment]) -> Names:
    """Names of the users, groups, roles, projects and domains in `found`: one query for each kind."""

    def named(table: sa.Table, ids: set[str]) -> dict[str, Named]:
        rows = sa.select(table.c.id, table.c.name, table.c.domain_id).where(table.c.id.in_(ids))
        return {
            row.id: Named(row.name, row.domain_id, known.get(row.domain_id, "")) for row in connection.execute(rows)
        }

    known = {row.id: row.name for row in connection.execute(sa.select(domains.c.id, domains.c.name))}
    return Names(
        named(users, {one.actor_id for one in found if one.actor == "user"}),
        named(groups, {one.actor_id for one in found if one.actor == "group"}),
        named(projects, {one.scope_id for one in found if one.scope == "project"}),
        named(roles, {one.role_id for one in found}),
        known,
    )
