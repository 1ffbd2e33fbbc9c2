"""The scheduler's reading of compute's own tables: hosts as they reported, and how many servers are where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.aggregate.store import aggregates
from kilonova.compute.host.store import hosts
from kilonova.compute.server.store import servers
from kilonova.db.statements import Conversions, Row, Statement

# Tasks that load a host's disk and network.
BUSY: Final = ("scheduling", "networking", "block_device_mapping", "spawning", "rebuilding", "rebuild_spawning",
               "image_snapshot", "image_pending_upload", "image_uploading", "resize_prep", "resize_migrating",
               "shelving", "unshelving", "migrating")  # fmt: skip
Zones = Callable[[Connection], Callable[[str], str]]  # a reading of all hosts' zones: host → zone

_s = servers.c
_ALIVE = (_s.host != "", _s.deleted_at.is_(None))
_BUILDING = Statement(
    sa.select(_s.host, sa.func.count()).where(_s.task_state.in_(BUSY), *_ALIVE).group_by(_s.host)
)  # fmt: skip
_SERVERS = Statement(sa.select(_s.host, sa.func.count()).where(*_ALIVE).group_by(_s.host))
_WHEN = sa.select(hosts.c.name, hosts.c.provider_id, hosts.c.reported_at)
_REPORTED = Statement(_WHEN.where(hosts.c.reported_at >= sa.bindparam("since")))
_EVERY = Statement(_WHEN)
_REPORTS = Statement(
    sa.select(hosts.c.name, hosts.c.report).where(hosts.c.name.in_(sa.bindparam("names", expanding=True)))
)
_AT_ONCE: Final = 250  # names of one statement
_COUNT = Statement(sa.select(sa.func.count()).select_from(hosts))
_AGGREGATES = Statement(sa.select(aggregates.c.id, aggregates.c.updated_at).order_by(aggregates.c.id))


def building(connection: Connection) -> dict[str, int]:
    """How many servers are being built, moved or copied on each host."""
    return {str(host): int(count) for host, count in _BUILDING.all(connection)}


def living(connection: Connection) -> dict[str, int]:
    """How many servers each host has."""
    return {str(host): int(count) for host, count in _SERVERS.all(connection)}


def reported_since(connection: Connection, since: datetime | None) -> tuple[list[Row], Conversions]:
    """((name, provider id, when) as they came, what converts them) of the hosts that reported since a moment; None:
    of all. Most are known already, which their moments tell as they come."""
    return _EVERY.as_came(connection) if since is None else _REPORTED.as_came(connection, since=since)


def reports(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What these hosts said, by name. Reports are large: only those that are news are worth reading."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = list(names[start : start + _AT_ONCE])
        length = 1 << (len(some) - 1).bit_length()  # a statement for each power of two, not for each length
        found |= dict(_REPORTS.all(connection, names=some + some[:1] * (length - len(some))))
    return found


def how_many_hosts(connection: Connection) -> int:
    """How many hosts there are."""
    return int(_COUNT.scalars(connection)[0])


def aggregates_mark(connection: Connection) -> list[tuple[Any, ...]]:
    """Something that is different after any change to aggregates."""
    return [tuple(row) for row in _AGGREGATES.all(connection)]


def where(connection: Connection, server_ids: Sequence[str]) -> dict[str, str]:
    """server id → host, of those that have one."""
    query = sa.select(_s.id, _s.host).where(_s.id.in_(list(server_ids)), *_ALIVE)
    return dict(connection.execute(query).all())
