"""SQL about domains."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import conflict
from kilonova.identity import store
from kilonova.identity.schema import assignments, domains, groups, limits, projects, roles, users


class Domain(msgspec.Struct):
    """A name space of users, groups and projects."""

    id: str
    name: str
    description: str = ""
    enabled: bool = True
    options: dict[str, Any] | None = None


def delete(connection: Connection, domain_id: str) -> None:
    """The domain and all in it. CONFLICT while projects are in it, as whose servers would be orphaned."""
    if connection.execute(sa.select(projects.c.id).where(projects.c.domain_id == domain_id).limit(1)).first():
        raise conflict(f"Domain {domain_id} still has projects.", hint="Delete them first.")
    for table, actor in ((users, "user"), (groups, "group")):
        mine = sa.select(table.c.id).where(table.c.domain_id == domain_id)
        connection.execute(assignments.delete().where(assignments.c.actor == actor, assignments.c.actor_id.in_(mine)))
        connection.execute(table.delete().where(table.c.domain_id == domain_id))
    connection.execute(assignments.delete().where(assignments.c.scope == "domain", assignments.c.scope_id == domain_id))
    connection.execute(roles.delete().where(roles.c.domain_id == domain_id))
    connection.execute(limits.delete().where(limits.c.domain_id == domain_id))
    store.remove(connection, domains, domain_id)
