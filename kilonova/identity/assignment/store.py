"""SQL about assignments: grants, and lists of them as given or as they take effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.db.statements import Statement, read
from kilonova.identity.role.store import pairs
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


_COLUMNS = tuple(assignments.c[name] for name in Assignment.__struct_fields__)
_ORDER = (assignments.c.actor_id, assignments.c.scope_id, assignments.c.role_id)
_OF_USER = Statement(sa.select(*_COLUMNS).where(by(sa.bindparam("user_id"))).order_by(*_ORDER))


def listed(connection: Connection, wanted: dict[str, Any], user_id: str = "") -> list[Assignment]:
    """As given, with these column values; with `user_id` those of the user and of the groups it is in."""
    if not user_id:
        return [Assignment(*row) for row in read(connection, _COLUMNS, wanted, order=_ORDER)]
    found = (Assignment(*row) for row in _OF_USER.all(connection, user_id=user_id))
    return [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]


def _below() -> Statement:
    """Projects below :tops, each with what is right above it."""
    columns = (projects.c.id, projects.c.parent_id)
    right_below = sa.select(*columns).where(projects.c.parent_id.in_(sa.bindparam("tops", expanding=True)))
    tree = right_below.cte("tree", recursive=True)
    return Statement(sa.select(tree.union(sa.select(*columns).join(tree, projects.c.parent_id == tree.c.id))))


_BELOW = _below()
_HIDDEN = Statement(sa.select(roles.c.id).where(roles.c.domain_id != ""))


def in_effect(connection: Connection, wanted: dict[str, Any], user_id: str = "") -> tuple[list[Assignment], Wider]:
    """Assignments as given, and what turns them into those in effect: memberships, implied roles, projects below.

    Of one user only what concerns it is read, however many others there are.
    """
    given = listed(connection, wanted, user_id)
    columns, mine = (memberships.c.group_id, memberships.c.user_id), {"user_id": user_id} if user_id else {}
    members: dict[str, list[str]] = {}
    for group_id, member_id in read(connection, columns, mine):
        members.setdefault(group_id, []).append(member_id)
    below: dict[str, list[str]] = {}
    for tops in _pieces({one.scope_id for one in given if one.inherited}):
        for id_, parent_id in _BELOW.all(connection, tops=tops):
            below.setdefault(parent_id, []).append(id_)
    return given, Wider(members, pairs(connection), below, frozenset(_HIDDEN.scalars(connection)))


def read_names(connection: Connection, found: list[Assignment]) -> Names:
    """Names of the users, groups, roles, projects and domains in `found`."""
    of_users = _rows(connection, users, {one.actor_id for one in found if one.actor == "user"})
    of_groups = _rows(connection, groups, {one.actor_id for one in found if one.actor == "group"})
    of_projects = _rows(connection, projects, {one.scope_id for one in found if one.scope == "project"})
    of_roles = _rows(connection, roles, {one.role_id for one in found})
    around = {row[2] for rows in (of_users, of_groups, of_projects, of_roles) for row in rows}
    around |= {one.scope_id for one in found if one.scope == "domain"}
    named = {id_: name for id_, name, _ in _rows(connection, domains, around)}

    def known(rows: list[tuple[Any, ...]]) -> dict[str, Named]:
        return {id_: Named(name, domain_id, named.get(domain_id, "")) for id_, name, domain_id in rows}

    return Names(known(of_users), known(of_groups), known(of_projects), known(of_roles), named)


def _rows(connection: Connection, table: sa.Table, ids: set[str]) -> list[tuple[Any, ...]]:
    """(id, name, id of its domain) of the rows with these ids."""
    columns = (table.c.id, table.c.name, table.c.get("domain_id", table.c.id))
    return [row for piece in _pieces(ids) for row in read(connection, columns, {"id": piece})]


def _pieces(ids: set[str]) -> Iterator[list[str]]:
    """The ids by the thousand: databases take some ten thousand values in one statement."""
    whole = sorted(ids)
    return (whole[at : at + 1000] for at in range(0, len(whole), 1000))
