"""Compute hosts in compute's database: what each reported last, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.compute.contract import HostReport
from kilonova.compute.schema import metadata
from kilonova.db.statements import Statement
from kilonova.db.types import Id, Name, Timestamp


class Host(msgspec.Struct):
    """A compute host. `provider_id` is its resource provider in placement."""

    name: str
    provider_id: str
    report: dict[str, Any]
    created_at: datetime
    reported_at: datetime

    @property
    def said(self) -> HostReport:
        """Its last report."""
        return msgspec.convert(self.report, HostReport)


hosts = sa.Table(
    "compute_host",
    metadata,
    sa.Column("name", Name(), primary_key=True),
    sa.Column("provider_id", Id(), nullable=False, unique=True),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("reported_at", Timestamp(), nullable=False),
    sa.Index("ix_compute_host_reported", "reported_at", "name", "provider_id"),
)


_ONE = Statement(sa.select(hosts).where(hosts.c.name == sa.bindparam("name")))
_PROVIDER = Statement(sa.select(hosts.c.provider_id).where(hosts.c.name == sa.bindparam("name")))
_TOLD = Statement(
    sa.update(hosts)
    .where(hosts.c.name == sa.bindparam("by"))
    .values(
        report=sa.bindparam("body", type_=hosts.c.report.type),
        reported_at=sa.bindparam("at", type_=hosts.c.reported_at.type),
    )
)
_EVERY = Statement(sa.select(hosts).order_by(hosts.c.name))
_ALIVE = Statement(sa.select(hosts.c.name).where(hosts.c.reported_at >= sa.bindparam("since")))


def report(connection: Connection, said: HostReport, new_id: str, now: datetime) -> str:
    """Keep a host's report; the id of its provider, which is `new_id` for a host not seen before."""
    body = msgspec.to_builtins(said)
    if _TOLD.change(connection, by=said.host, body=body, at=now):
        return str(_PROVIDER.scalar(connection, name=said.host))
    made = Host(said.host, new_id, body, now, now)
    connection.execute(hosts.insert().values(**msgspec.structs.asdict(made)))
    return new_id


def find(connection: Connection, name: str) -> Host | None:
    """The host, or None."""
    row = _ONE.first(connection, name=name)
    return None if row is None else Host(*row)


def every(connection: Connection) -> list[Host]:
    """All hosts, by name."""
    return [Host(*row) for row in _EVERY.all(connection)]


def alive(connection: Connection, since: datetime) -> set[str]:
    """Names of the hosts that reported since a moment."""
    return set(_ALIVE.scalars(connection, since=since))
