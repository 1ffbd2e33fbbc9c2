"""Block storage's processes as rows: volume agents with what they report, and schedulers. A row is also a heartbeat."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kilonova.base.faults import not_found
from kilonova.block_storage.contract import Capabilities
from kilonova.block_storage.schema import metadata
from kilonova.db.types import Id, Name, Timestamp

DOWN_SECONDS = 60.0
VOLUME_BINARY = "cinder-volume"
SCHEDULER_BINARY = "cinder-scheduler"

services = sa.Table(
    "service",
    metadata,
    sa.Column("binary", Id(), primary_key=True),
    sa.Column("host", Name(), primary_key=True),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("disabled_reason", Name(), nullable=True),
    sa.Column("availability_zone", Name(), nullable=False),
    sa.Column("capabilities", sa.JSON(none_as_null=True)),
    sa.Column("reported_at", Timestamp(), nullable=False),
)


class Service(msgspec.Struct):
    """A process that reports."""

    binary: str
    host: str  # HOST@BACKEND for a volume agent
    disabled: bool
    disabled_reason: str | None
    availability_zone: str
    reported_at: datetime
    capabilities: Capabilities | None = None

    def is_up(self, now: datetime) -> bool:
        """Whether it reported lately."""
        return now - self.reported_at <= timedelta(seconds=DOWN_SECONDS)


def report(
    connection: Connection, binary: str, host: str, zone: str, now: datetime, capabilities: Capabilities | None = None
) -> None:
    """The process lives, and this is what it has."""
    values: dict[str, Any] = {"reported_at": now, "capabilities": msgspec.to_builtins(capabilities)}
    mine = services.update().where(services.c.binary == binary, services.c.host == host)
    if not connection.execute(mine.values(**values)).rowcount:
        rest = {"disabled": False, "disabled_reason": None, "availability_zone": zone}
        connection.execute(services.insert().values(binary=binary, host=host, **rest, **values))


def listed(connection: Connection, binary: str = "", host: str = "") -> list[Service]:
    """Services, of that binary and host when given (a host without a backend matches all its backends)."""
    found = sa.select(services).order_by(services.c.binary, services.c.host)
    if binary:
        found = found.where(services.c.binary == binary)
    made = [_service(row) for row in connection.execute(found).mappings()]
    return [one for one in made if not host or host in (one.host, one.host.split("@")[0])]


def disable(connection: Connection, binary: str, host: str, disabled: bool, reason: str | None) -> Service:
    """Set whether the scheduler may use it. NOT_FOUND when nobody of that name reported."""
    mine = services.update().where(services.c.binary == binary, services.c.host == host)
    if not connection.execute(mine.values(disabled=disabled, disabled_reason=reason)).rowcount:
        raise not_found("Service", f"{binary} on {host}")
    return listed(connection, binary, host)[0]


def _service(row: Any) -> Service:
    values = dict(row)
    if values["capabilities"] is not None:
        values["capabilities"] = msgspec.convert(values["capabilities"], Capabilities)
    return Service(**values)
