"""SQL about access rules."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.identity import store
from kilonova.identity.schema import access_rules, application_credentials


class AccessRule(msgspec.Struct):
    """One kind of request: a method and a path pattern of a service."""

    id: str
    user_id: str
    service: str
    path: str
    method: str


def listed(connection: Connection, user_id: str) -> list[AccessRule]:
    """The user's."""
    return store.listed(connection, access_rules, AccessRule, [("user_id", "equals", user_id)])


def ensure(connection: Connection, wanted: Iterable[AccessRule]) -> list[str]:
    """Write those that are not there; the ids to refer to, where somebody else was first theirs."""
    ids = []
    for one in wanted:
        table = access_rules.c
        same = (table.user_id == one.user_id, table.service == one.service)
        there = sa.select(table.id).where(*same, table.path == one.path, table.method == one.method)
        id_ = connection.scalar(there)
        if id_ is None:
            connection.execute(access_rules.insert().values(**msgspec.structs.asdict(one)))
        ids.append(id_ or one.id)
    return ids


def delete_unused(connection: Connection, rule: AccessRule) -> bool:
    """False, and nothing deleted, while one of its user's credentials has it."""
    table = application_credentials
    used = connection.scalars(sa.select(table.c.access_rule_ids).where(table.c.user_id == rule.user_id))
    if any(rule.id in (ids or ()) for ids in used):
        return False
    return store.remove(connection, access_rules, rule.id) == 1
