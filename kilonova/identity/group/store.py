"""SQL about groups and who is in them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.schema import assignments, directory_entries, groups, memberships


class Group(msgspec.Struct):
    """Users who share roles."""

    id: str
    domain_id: str
    name: str
    description: str = ""


def is_member(connection: Connection, group_id: str, user_id: str) -> bool:
    """Whether the user is in the group."""
    found = sa.select(memberships).where(memberships.c.group_id == group_id, memberships.c.user_id == user_id)
    return connection.execute(found).first() is not None


def add(connection: Connection, group_id: str, user_id: str) -> None:
    """The user is in the group; it may have been before."""
    if not is_member(connection, group_id, user_id):
        connection.execute(memberships.insert().values(group_id=group_id, user_id=user_id))


def take(connection: Connection, group_id: str, user_id: str) -> int:
    """The user is in the group no more; 0 when it was not."""
    gone = memberships.delete().where(memberships.c.group_id == group_id, memberships.c.user_id == user_id)
    return connection.execute(gone).rowcount


def members(group_id: str) -> sa.Select[tuple[str]]:
    """Ids of the users in it, for an IN."""
    return sa.select(memberships.c.user_id).where(memberships.c.group_id == group_id)


def delete(connection: Connection, group_id: str) -> None:
    """The group and its assignments."""
    connection.execute(assignments.delete().where(assignments.c.actor == "group", assignments.c.actor_id == group_id))
    connection.execute(directory_entries.delete().where(directory_entries.c.public_id == group_id))
    store.remove(connection, groups, group_id)
