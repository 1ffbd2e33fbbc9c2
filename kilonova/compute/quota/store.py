"""Quotas in compute's database: limits that were set, and exact checks against the rows that really exist.

What counts is never a running total: a check locks its owner's row, counts, and inserts in one unit, so two requests
that race for the last place meet at the lock, and a process that dies leaves nothing to correct.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.faults import over_quota
from kilonova.compute.schema import metadata
from kilonova.db.statements import Statement
from kilonova.db.types import Id

DEFAULTS: Mapping[str, int] = {
    "instances": 10,
    "cores": 20,
    "ram": 51200,
    "metadata_items": 128,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
}
"""Limits of a cloud where nobody set any; -1 is no limit. The numbers every OpenStack cloud starts with."""

Scope = Literal["default", "project", "user"]
Count = Callable[[Connection, str], int]

limits = sa.Table(
    "quota_limit",
    metadata,
    sa.Column("scope", sa.String(8), primary_key=True),  # default: the class of that name | project | user
    sa.Column("project_id", Id(), primary_key=True),  # "" for the default class
    sa.Column("user_id", Id(), primary_key=True),  # "" unless scope is user
    sa.Column("resource", sa.String(40), primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
locks = sa.Table("quota_lock", metadata, sa.Column("owner_id", Id(), primary_key=True))


_LIMITS = Statement(
    sa.select(limits.c.resource, limits.c.value).where(
        limits.c.scope == sa.bindparam("scope"),
        limits.c.project_id == sa.bindparam("project"),
        limits.c.user_id == sa.bindparam("user"),
    )
)
_IN_FORCE = Statement(
    sa.select(limits.c.scope, limits.c.resource, limits.c.value).where(
        limits.c.project_id.in_(("", sa.bindparam("project"))), limits.c.user_id.in_(("", sa.bindparam("user")))
    )
)
_LOCK = Statement(sa.select(locks.c.owner_id).where(locks.c.owner_id == sa.bindparam("owner")).with_for_update())


def _set(connection: Connection, scope: Scope, project_id: str = "", user_id: str = "") -> dict[str, int]:
    return dict(_LIMITS.all(connection, scope=scope, project=project_id, user=user_id))


def default_limits(connection: Connection) -> dict[str, int]:
    """The limits of a project for which none were set."""
    return {**DEFAULTS, **_set(connection, "default")}


def limits_of(connection: Connection, project_id: str, user_id: str = "") -> dict[str, int]:
    """The limits in force for a project, or for one user in it."""
    made: dict[str, dict[str, int]] = {"default": {}, "project": {}, "user": {}}
    for scope, resource, value in _IN_FORCE.all(connection, project=project_id, user=user_id):
        made[scope][resource] = value
    return {**DEFAULTS, **made["default"], **made["project"], **made["user"]}


def user_limits(connection: Connection, project_id: str, user_id: str) -> dict[str, int]:
    """Only what was set for the user itself."""
    return _set(connection, "user", project_id, user_id)


def change(connection: Connection, scope: Scope, project_id: str, user_id: str, wanted: Mapping[str, int]) -> None:
    """These limits are set for the class, the project or the user; others stay."""
    at = (limits.c.scope == scope, limits.c.project_id == project_id, limits.c.user_id == user_id)
    connection.execute(limits.delete().where(*at, limits.c.resource.in_(list(wanted))))
    for resource, value in wanted.items():
        connection.execute(
            limits.insert().values(scope=scope, project_id=project_id, user_id=user_id, resource=resource, value=value)
        )


def forget(connection: Connection, project_id: str, user_id: str = "") -> None:
    """Nothing is set for the project (and its users), or for the one user, any more."""
    at = limits.c.project_id == project_id
    connection.execute(limits.delete().where(at, limits.c.user_id == user_id) if user_id else limits.delete().where(at))


def lock(connection: Connection, owner_id: str) -> None:
    """Until the unit ends no other unit passes here for this owner: a project, or a user for its key pairs."""
    if _LOCK.first(connection, owner=owner_id) is not None:
        return
    try:
        with connection.begin_nested():
            connection.execute(locks.insert().values(owner_id=owner_id))
    except IntegrityError:  # another unit made the row meanwhile: wait for it
        _LOCK.first(connection, owner=owner_id)


def check(used: Mapping[str, int], wanted: Mapping[str, int], limit: Mapping[str, int]) -> None:
    """OVER_QUOTA for the first resource of which there would be more than its limit."""
    for resource, delta in wanted.items():
        most = limit[resource]
        if delta > 0 and most >= 0 and used[resource] + delta > most:
            raise over_quota(resource, wanted=delta, used=used[resource], limit=most)


def check_and_lock(connection: Connection, project_id: str, deltas: Mapping[str, int], count: Count) -> None:
    """Room for `deltas` more in the project, which stays until the unit ends; OVER_QUOTA otherwise.

    `count(connection, resource)` counts what is there. Insert in the same unit.
    """
    lock(connection, project_id)
    used = {resource: count(connection, resource) for resource in deltas}
    check(used, deltas, limits_of(connection, project_id))
