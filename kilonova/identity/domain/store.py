"""SQL about domains."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.schema import assignments, credentials, domains, groups, limits, projects, roles, users


class Domain(msgspec.Struct):
    """A name space of users, groups and projects."""

    id: str
    name: str
    description: str = ""
    enabled: bool = True
    options: dict[str, Any] | None = None


def delete(connection: Connection, domain_id: str) -> None:
    """The domain and all in it: users, groups, projects, roles, and what these have."""
    for table, column, kind in ((users, "actor", "user"), (groups, "actor", "group"), (projects, "scope", "project")):
        mine = sa.select(table.c.id).where(table.c.domain_id == domain_id)
        its = assignments.c[f"{column}_id"].in_(mine)
        connection.execute(assignments.delete().where(assignments.c[column] == kind, its))
        if table is projects:
            connection.execute(limits.delete().where(limits.c.project_id.in_(mine)))
            connection.execute(credentials.delete().where(credentials.c.project_id.in_(mine)))
            its_own = users.c.default_project_id.in_(mine)
            connection.execute(users.update().where(its_own).values(default_project_id=None))
        connection.execute(table.delete().where(table.c.domain_id == domain_id))
    connection.execute(assignments.delete().where(assignments.c.scope == "domain", assignments.c.scope_id == domain_id))
    connection.execute(roles.delete().where(roles.c.domain_id == domain_id))
    connection.execute(limits.delete().where(limits.c.domain_id == domain_id))
    store.remove(connection, domains, domain_id)
