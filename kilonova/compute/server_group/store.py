"""Server groups in compute's database: policy and members; who is where is asked of the servers' own rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, no_capacity, not_found
from kilonova.compute.contract import GroupSpec
from kilonova.compute.quota import store as quota
from kilonova.compute.schema import metadata
from kilonova.compute.server.store import servers
from kilonova.db import statements
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Timestamp

AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
SOFT_AFFINITY, SOFT_ANTI_AFFINITY = "soft-affinity", "soft-anti-affinity"


class ServerGroup(msgspec.Struct):
    """A group with the ids of its members."""

    id: str
    project_id: str
    user_id: str
    name: str
    policy: str
    max_server_per_host: int | None
    created_at: datetime
    members: list[str] = []


groups = sa.Table(
    "server_group",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("project_id", Id(), nullable=False, index=True),
    sa.Column("user_id", Id(), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("policy", sa.String(24), nullable=False),
    sa.Column("max_server_per_host", sa.Integer),
    sa.Column("created_at", Timestamp(), nullable=False),
)
members = sa.Table(
    "server_group_member",
    metadata,
    sa.Column("server_id", Id(), primary_key=True),
    sa.Column("group_id", Id(), nullable=False, index=True),
)


def no_such(group_id: str) -> Fault:
    """There is no such group, for this caller."""
    return not_found("Instance group", group_id[:80], code="InstanceGroupNotFound")


def get(connection: Connection, group_id: str) -> ServerGroup:
    """The group with its members; NOT_FOUND when it is not there."""
    row = connection.execute(sa.select(groups).where(groups.c.id == group_id)).first()
    if row is None:
        raise no_such(group_id)
    return _with_members(connection, [ServerGroup(*row)])[0]


def page(connection: Connection, project_id: str, limit: int | None, offset: int) -> list[ServerGroup]:
    """Groups of a project ("" for all), oldest first."""
    found = sa.select(groups).order_by(groups.c.created_at, groups.c.id).offset(offset)
    found = found.limit(limit) if limit is not None else found.limit(1000)
    if project_id:
        found = found.where(groups.c.project_id == project_id)
    return _with_members(connection, [ServerGroup(*row) for row in connection.execute(found)])


def _with_members(connection: Connection, found: Sequence[ServerGroup]) -> list[ServerGroup]:
    by_id = {group.id: group for group in found}
    mine = sa.select(members).where(members.c.group_id.in_(list(by_id))).order_by(members.c.server_id)
    for group in found:
        group.members = []
    for server_id, group_id in connection.execute(mine):
        by_id[group_id].members.append(server_id)
    return list(found)


def insert(connection: Connection, group: ServerGroup) -> None:
    """The group, when the project's quota has room for it."""
    quota.check_and_lock(connection, group.project_id, {"server_groups": 1}, lambda c, _: count(c, group.project_id))
    values = {name: getattr(group, name) for name in ServerGroup.__struct_fields__ if name != "members"}
    connection.execute(groups.insert().values(**values))


def count(connection: Connection, project_id: str) -> int:
    """How many groups a project has."""
    mine = sa.select(sa.func.count()).select_from(groups).where(groups.c.project_id == project_id)
    return connection.scalar(mine) or 0


def delete(connection: Connection, group_id: str) -> None:
    """The group is gone; its servers are in none."""
    connection.execute(members.delete().where(members.c.group_id == group_id))
    connection.execute(servers.update().where(servers.c.server_group_id == group_id).values(server_group_id=""))
    if not connection.execute(groups.delete().where(groups.c.id == group_id)).rowcount:
        raise no_such(group_id)


def join(connection: Connection, group_id: str, project_id: str, server_id: str) -> None:
    """The server is a member, when the group is the project's and has room; the project's quota is locked already."""
    if connection.scalar(sa.select(groups.c.project_id).where(groups.c.id == group_id)) != project_id:
        raise no_such(group_id)
    mine = sa.select(sa.func.count()).select_from(members).where(members.c.group_id == group_id)
    have, limits = connection.scalar(mine) or 0, quota.limits_of(connection, project_id)
    quota.check({"server_group_members": have}, {"server_group_members": 1}, limits)
    connection.execute(members.insert().values(server_id=server_id, group_id=group_id))


def leave(connection: Connection, server_id: str) -> None:
    """The server is a member of none."""
    statements.delete(connection, members, server_id=server_id)


# ── where its servers are


_GROUP_OF = Statement(sa.select(members.c.group_id).where(members.c.server_id == sa.bindparam("server")))


def spec_of(connection: Connection, server_id: str, *, lock: bool = False) -> GroupSpec | None:
    """The group of a server as the scheduler looks at it: how many of the others are on which host; None: no group.

    With `lock` nobody else places a member until the unit ends.
    """
    group_id = _GROUP_OF.scalar(connection, server=server_id)
    return None if group_id is None else _spec(connection, group_id, server_id, lock=lock)


def spec_of_group(connection: Connection, group_id: str) -> GroupSpec | None:
    """The same for a server that is not in it yet."""
    return _spec(connection, group_id, "", lock=False)


def _spec(connection: Connection, group_id: str, but: str, *, lock: bool) -> GroupSpec | None:
    found = sa.select(groups.c.id, groups.c.policy, groups.c.max_server_per_host).where(groups.c.id == group_id)
    row = connection.execute(found.with_for_update() if lock else found).first()
    if row is None:
        return None
    s = servers.c
    others = (
        sa.select(s.host, sa.func.count())
        .join(members, members.c.server_id == s.id)
        .where(members.c.group_id == row[0], s.id != but, s.host != "", s.deleted_at.is_(None))
        .group_by(s.host)
    )
    return GroupSpec(row[1], row[2] or 1, dict(connection.execute(others).all()))


def check_place(connection: Connection, server_id: str, host: str) -> None:
    """NO_CAPACITY when the group forbids the host by now: the scheduler decided before others were placed."""
    group = spec_of(connection, server_id, lock=True)
    if group is not None and (why := group.refuses(host)):
        raise no_capacity(f"The server group does not allow this host any more: {why}.", hint="Try again.")
