"""Host aggregates in compute's database. An availability zone is the metadata `availability_zone` of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kilonova.base.faults import conflict, invalid, not_found
from kilonova.compute.host import store as compute_hosts
from kilonova.compute.schema import metadata
from kilonova.compute.server.store import servers
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Timestamp

ZONE = "availability_zone"


class Aggregate(msgspec.Struct):
    """An aggregate with its hosts and metadata."""

    id: int
    uuid: str
    name: str
    created_at: datetime
    updated_at: datetime | None
    hosts: list[str] = []
    metadata: dict[str, str] = {}


aggregates = sa.Table(
    "aggregate",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", Id(), nullable=False, unique=True),
    sa.Column("name", Name(), nullable=False, unique=True),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("updated_at", Timestamp()),
)
hosts = sa.Table(
    "aggregate_host",
    metadata,
    sa.Column("aggregate_id", sa.Integer, primary_key=True),
    sa.Column("host", Name(), primary_key=True, index=True),
)
values = sa.Table(
    "aggregate_metadata",
    metadata,
    sa.Column("aggregate_id", sa.Integer, primary_key=True),
    sa.Column("key", Name(), primary_key=True),
    sa.Column("value", Name(), nullable=False),
)


# ── reading


def _aggregate(row: Sequence[Any]) -> Aggregate:
    return Aggregate(row[0], row[1], row[2], row[3], row[4], [], {})


def every(connection: Connection) -> list[Aggregate]:
    """All aggregates by id."""
    rows = connection.execute(sa.select(aggregates).order_by(aggregates.c.id))
    found = {row.id: _aggregate(row) for row in rows}
    for aggregate_id, host in connection.execute(sa.select(hosts).order_by(hosts.c.host)):
        found[aggregate_id].hosts.append(host)
    for aggregate_id, key, value in connection.execute(sa.select(values).order_by(values.c.key)):
        found[aggregate_id].metadata[key] = value
    return list(found.values())


def get(connection: Connection, aggregate_id: int) -> Aggregate:
    """The aggregate; NOT_FOUND when it is not there."""
    row = connection.execute(sa.select(aggregates).where(aggregates.c.id == aggregate_id)).first()
    if row is None:
        raise not_found("Aggregate", str(aggregate_id), code="AggregateNotFound")
    mine = sa.select(hosts.c.host).where(hosts.c.aggregate_id == aggregate_id).order_by(hosts.c.host)
    told = sa.select(values.c.key, values.c.value).where(values.c.aggregate_id == aggregate_id).order_by(values.c.key)
    one = _aggregate(row)
    one.hosts = list(connection.scalars(mine))
    one.metadata = dict(connection.execute(told).all())
    return one


_ZONES = Statement(
    sa.select(hosts.c.host, values.c.value)
    .join(values, values.c.aggregate_id == hosts.c.aggregate_id)
    .where(values.c.key == ZONE)
)


def zones_by_host(connection: Connection) -> dict[str, str]:
    """host → availability zone, of the hosts that an aggregate puts into one."""
    return dict(_ZONES.all(connection))


# ── writing


def insert(connection: Connection, uuid: str, name: str, zone: str | None, now: datetime) -> Aggregate:
    """The new aggregate; CONFLICT when the name is taken."""
    try:
        with connection.begin_nested():
            made = connection.execute(aggregates.insert().values(uuid=uuid, name=name, created_at=now))
    except IntegrityError:
        raise conflict(f"Aggregate {name} already exists.", code="AggregateNameExists") from None
    aggregate_id = int((made.inserted_primary_key or (0,))[0])
    if zone is not None:
        connection.execute(values.insert().values(aggregate_id=aggregate_id, key=ZONE, value=zone))
    return get(connection, aggregate_id)


def rename(connection: Connection, aggregate_id: int, name: str, now: datetime) -> None:
    """CONFLICT when the name is taken."""
    try:
        with connection.begin_nested():
            mine = aggregates.update().where(aggregates.c.id == aggregate_id)
            connection.execute(mine.values(name=name, updated_at=now))
    except IntegrityError:
        raise conflict(f"Aggregate {name} already exists.", code="AggregateNameExists") from None


def set_metadata(connection: Connection, aggregate_id: int, wanted: Mapping[str, str | None], now: datetime) -> None:
    """These are set, None takes one away, others stay. A zone changes only while no server lives in it."""
    one = get(connection, aggregate_id)
    if ZONE in wanted and wanted[ZONE] != one.metadata.get(ZONE):
        _check_zone(connection, one, wanted[ZONE])
    gone = values.delete().where(values.c.aggregate_id == aggregate_id, values.c.key.in_(list(wanted)))
    connection.execute(gone)
    if rows := [{"aggregate_id": aggregate_id, "key": k, "value": v} for k, v in wanted.items() if v is not None]:
        connection.execute(values.insert(), rows)
    connection.execute(aggregates.update().where(aggregates.c.id == aggregate_id).values(updated_at=now))


def _check_zone(connection: Connection, one: Aggregate, zone: str | None) -> None:
    if zone == "":
        raise invalid("Availability zone is empty.", hint="Give it a name, or null to take it away.")
    if zone is not None:
        known = zones_by_host(connection)
        for host in one.hosts:
            if ZONE not in one.metadata and known.get(host, zone) != zone:
                raise invalid(f"Host {host} is in availability zone {known[host]} already.")
    if busy := _with_servers(connection, one.hosts):
        raise invalid(f"One or more hosts contain instances in this zone: {', '.join(busy)}")


def _with_servers(connection: Connection, names: list[str]) -> list[str]:
    s = servers.c
    found = sa.select(s.host).where(s.host.in_(names), s.deleted_at.is_(None)).distinct().order_by(s.host)
    return list(connection.scalars(found))


def delete(connection: Connection, aggregate_id: int) -> None:
    """INVALID while it has hosts."""
    if get(connection, aggregate_id).hosts:
        raise invalid(f"Aggregate {aggregate_id} is not empty.", hint="Take its hosts out first.")
    connection.execute(values.delete().where(values.c.aggregate_id == aggregate_id))
    connection.execute(aggregates.delete().where(aggregates.c.id == aggregate_id))


def add_host(connection: Connection, aggregate_id: int, host: str, default_zone: str, now: datetime) -> None:
    """NOT_FOUND: no such compute host. CONFLICT: it is in already, or in another zone, or has servers elsewhere."""
    one = get(connection, aggregate_id)
    if host not in {known.name for known in compute_hosts.every(connection)}:
        raise not_found("Compute host", host[:80], code="ComputeHostNotFound")
    if host in one.hosts:
        raise conflict(f"Host {host} already a member of aggregate {aggregate_id}.", code="AggregateHostExists")
    if (zone := one.metadata.get(ZONE)) is not None:
        there = zones_by_host(connection).get(host)
        if there is not None and there != zone:
            raise conflict(f"Host {host} is in availability zone {there} already.", hint="Take it out there first.")
        if (there or default_zone) != zone and _with_servers(connection, [host]):
            raise conflict(f"Host {host} has servers, which would change their availability zone.")
    connection.execute(hosts.insert().values(aggregate_id=aggregate_id, host=host))
    connection.execute(aggregates.update().where(aggregates.c.id == aggregate_id).values(updated_at=now))


def remove_host(connection: Connection, aggregate_id: int, host: str, default_zone: str, now: datetime) -> None:
    """NOT_FOUND: it is not in. CONFLICT: its servers would change their availability zone."""
    one = get(connection, aggregate_id)
    if host not in one.hosts:
        raise not_found("Host", host[:80], code="AggregateHostNotFound")
    if one.metadata.get(ZONE, default_zone) != default_zone and _with_servers(connection, [host]):
        others = [a for a in every(connection) if a.id != aggregate_id and host in a.hosts]
        if all(ZONE not in a.metadata for a in others):
            raise conflict(f"Host {host} has servers, which would change their availability zone.")
    gone = hosts.delete().where(hosts.c.aggregate_id == aggregate_id, hosts.c.host == host)
    connection.execute(gone)
    connection.execute(aggregates.update().where(aggregates.c.id == aggregate_id).values(updated_at=now))
