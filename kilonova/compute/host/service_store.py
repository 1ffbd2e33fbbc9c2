"""Compute services in compute's database: a host's reports, and what operators said of it.

A host needs no row here until somebody asks; it gets one, with the ids that clients use, when services are listed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import Fault, Kind
from kilonova.compute.host import store as hosts
from kilonova.compute.host.store import Host
from kilonova.compute.schema import metadata
from kilonova.compute.server.store import servers
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Timestamp

BINARY = "nova-compute"


class Said(msgspec.Struct, frozen=True):
    """What operators said of a host's service. `id` counts; `uuid` is the id from 2.53 on."""

    id: int
    uuid: str
    host: str
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    updated_at: datetime | None


class Service(msgspec.Struct, frozen=True):
    """A host's compute service: up when it reported lately and nobody said it is down."""

    said: Said
    host: Host
    up: bool

    @property
    def state(self) -> str:
        """up or down"""
        return "up" if self.up else "down"

    @property
    def status(self) -> str:
        """enabled or disabled"""
        return "disabled" if self.said.disabled else "enabled"

    @property
    def updated_at(self) -> datetime:
        """Its last report, or a later change by an operator."""
        return max(self.host.reported_at, self.said.updated_at or self.host.reported_at)


services = sa.Table(
    "compute_service",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", Id(), nullable=False, unique=True),
    sa.Column("host", Name(), nullable=False, unique=True),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("disabled_reason", Name()),
    sa.Column("forced_down", sa.Boolean, nullable=False),
    sa.Column("updated_at", Timestamp()),
)


_HELD_BACK = Statement(
    sa.select(services.c.host, services.c.disabled, services.c.disabled_reason, services.c.forced_down).where(
        sa.or_(services.c.disabled.is_(True), services.c.forced_down.is_(True))
    )
)


def held_back(connection: Connection) -> tuple[dict[str, str], set[str]]:
    """(the hosts that get no new servers, with the reason an operator gave; those that count as down, whatever they
    report)."""
    rows = _HELD_BACK.all(connection)
    disabled = {host: reason or "" for host, off, reason, _ in rows if off}
    return disabled, {host for host, _, _, down in rows if down}


def without_service(connection: Connection) -> list[str]:
    """Hosts that reported and have no row here yet."""
    known = sa.select(services.c.host)
    return list(connection.scalars(sa.select(hosts.hosts.c.name).where(hosts.hosts.c.name.not_in(known))))


def add(connection: Connection, new: dict[str, str]) -> None:
    """Rows for hosts ({host: uuid}) that have none; another process may have been faster."""
    for host in without_service(connection):
        if host in new:
            values = {"uuid": new[host], "host": host, "disabled": False, "forced_down": False}
            connection.execute(services.insert().values(**values))


def every(connection: Connection, now: datetime, down_seconds: float) -> list[Service]:
    """All compute services, by host."""
    reported = {host.name: host for host in hosts.every(connection)}
    since = now - timedelta(seconds=down_seconds)
    rows = [Said(*row) for row in connection.execute(sa.select(services).order_by(services.c.host))]
    return [
        Service(said, reported[said.host], reported[said.host].reported_at >= since and not said.forced_down)
        for said in rows
        if said.host in reported
    ]


def no_such(what: str) -> Fault:
    """No compute service answers to that."""
    return Fault(Kind.NOT_FOUND, f"Service {what[:255]} could not be found.", code="ComputeServiceNotFound")


def change(connection: Connection, service_id: int, now: datetime, values: dict[str, object]) -> None:
    """An operator said something of a service."""
    at = services.c.id == service_id
    if not connection.execute(services.update().where(at).values(**values, updated_at=now)).rowcount:
        raise no_such(str(service_id))


def servers_by_host(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    """(id, name) of the servers on each host."""
    found = sa.select(servers.c.host, servers.c.id, servers.c.name).where(
        servers.c.host != "", servers.c.deleted_at.is_(None)
    )
    made: dict[str, list[tuple[str, str]]] = {}
    for row in connection.execute(found.order_by(servers.c.number)):
        made.setdefault(row.host, []).append((row.id, row.name))
    return made
