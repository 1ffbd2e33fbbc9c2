"""SQL about users."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.group.store import Group
from kilonova.identity.schema import assignments, directory_entries, groups, memberships, users


class User(msgspec.Struct):
    """Who may log in. `extra` holds what clients keep with it: email, description."""

    id: str
    domain_id: str
    name: str
    enabled: bool = True
    default_project_id: str | None = None
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    password_expires_at: datetime | None = None


class NewUser(User, kw_only=True):
    """A user as it is first written."""

    password_hash: str
    password_set_at: datetime | None = None


def groups_of(connection: Connection, user_id: str) -> list[Group]:
    """The groups that the user is in."""
    mine = sa.select(memberships.c.group_id).where(memberships.c.user_id == user_id)
    return store.listed(connection, groups, Group, ids=mine)


def delete(connection: Connection, user_id: str) -> None:
    """The user, its memberships, assignments and application credentials."""
    connection.execute(assignments.delete().where(assignments.c.actor == "user", assignments.c.actor_id == user_id))
    connection.execute(directory_entries.delete().where(directory_entries.c.public_id == user_id))
    store.remove(connection, users, user_id)
